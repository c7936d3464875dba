//! Names and values.

use crate::h2::case::{Case, case, plain};
use lameduck_rig::frames::END_STREAM;
use lameduck_rig::hpack::literal;

const NAMES: &str = "RFC 9113 §8.2.1";
const CONNECTION: &str = "RFC 9113 §8.2.2";

fn bad(name: &'static str, rule: &'static str, field: (&str, &str)) -> Case {
    case(name, rule).get(&[field]).malformed()
}

fn bytes(name: &'static str, field: &[u8], value: &[u8]) -> Case {
    let block = [plain("GET", &[]), literal(field, value)].concat();
    case(name, NAMES).headers(END_STREAM, block)
}

fn good(name: &'static str, rule: &'static str, fields: &[(&str, &str)], request: &str) -> Case {
    case(name, rule).get(fields).forwarded(request)
}

pub fn cases() -> Vec<Case> {
    vec![
        bad("an upper-case name", NAMES, ("X-Upper", "y")),
        bad("one upper-case letter", NAMES, ("x-uppeR", "y")),
        bad("an empty name", NAMES, ("", "y")),
        bad("a name with a blank", NAMES, ("x y", "z")),
        bad("a name with a blank behind it", NAMES, ("x ", "z")),
        bad(
            "content-length with a blank behind it",
            NAMES,
            ("content-length ", "5"),
        ),
        bad(
            "transfer-encoding with a blank before it",
            NAMES,
            (" transfer-encoding", "chunked"),
        ),
        bad("a name with a colon", NAMES, ("x:y", "z")),
        bad("a name with a field in it", NAMES, ("x: y\r\nz", "z")),
        bad("a name with CR LF", NAMES, ("x\r\ny", "z")),
        bad("a name with LF", NAMES, ("x\ny", "z")),
        bad("a name with NUL", NAMES, ("x\0", "z")),
        bad("a name with a tab", NAMES, ("x\t", "z")),
        bad("a name with DEL", NAMES, ("x\u{7f}", "z")),
        bad("a name in brackets", NAMES, ("(x)", "z")),
        bytes("a name beyond ASCII", &[b'x', 0xff], b"z").malformed(),
        bad("a value with CR LF", NAMES, ("x", "y\r\nz: a")),
        bad(
            "a value with a request in it",
            NAMES,
            ("x", "y\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
        ),
        bad(
            "a value with a framing in it",
            NAMES,
            ("x", "y\r\ntransfer-encoding: chunked"),
        ),
        bad("a value with LF", NAMES, ("x", "y\nz: a")),
        bad("a value with CR", NAMES, ("x", "y\rz")),
        bad("a value that ends with CR", NAMES, ("x", "y\r")),
        bad("a value that ends with LF", NAMES, ("x", "y\n")),
        bad("a value with NUL", NAMES, ("x", "y\0z")),
        bad("a value with a control", NAMES, ("x", "y\u{1}z")),
        bad("a value with DEL", NAMES, ("x", "y\u{7f}z")),
        bad("a value with a blank before it", NAMES, ("x", " y")),
        bad("a value with a blank behind it", NAMES, ("x", "y ")),
        bad("a value with a tab before it", NAMES, ("x", "\ty")),
        bad("a value that is a blank", NAMES, ("x", " ")),
        bytes("a value beyond ASCII", b"x", &[b'y', 0xff])
            .any()
            .gets("200 `answer to GET /`"),
        good("an empty value", NAMES, &[("x", "")], "GET / `x: `"),
        good(
            "a value with a blank and a tab in it",
            NAMES,
            &[("x", "a b\tc")],
            "GET / `x: a b\\tc`",
        ),
        good(
            "a field twice",
            NAMES,
            &[("x", "a"), ("x", "b")],
            "GET / `x: a` `x: b`",
        ),
        bad("connection", CONNECTION, ("connection", "close")),
        bad(
            "connection: keep-alive",
            CONNECTION,
            ("connection", "keep-alive"),
        ),
        bad(
            "connection with a field's name",
            CONNECTION,
            ("connection", "x-forwarded-for"),
        ),
        bad("keep-alive", CONNECTION, ("keep-alive", "timeout=5")),
        bad(
            "proxy-connection",
            CONNECTION,
            ("proxy-connection", "keep-alive"),
        ),
        bad("upgrade", CONNECTION, ("upgrade", "websocket")),
        bad("upgrade to h2c", CONNECTION, ("upgrade", "h2c")),
        bad(
            "transfer-encoding: chunked",
            CONNECTION,
            ("transfer-encoding", "chunked"),
        ),
        bad(
            "transfer-encoding: identity",
            CONNECTION,
            ("transfer-encoding", "identity"),
        ),
        bad(
            "an empty transfer-encoding",
            CONNECTION,
            ("transfer-encoding", ""),
        ),
        case("transfer-encoding of a body (TE.H2)", CONNECTION)
            .post(&[("transfer-encoding", "chunked")])
            .data("0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            .malformed(),
        bad(
            "Transfer_Encoding",
            CONNECTION,
            ("transfer_encoding", "chunked"),
        ),
        bad("Content_Length", CONNECTION, ("content_length", "5")),
        bad("te: gzip", CONNECTION, ("te", "gzip")),
        bad(
            "te: trailers and more",
            CONNECTION,
            ("te", "trailers, gzip"),
        ),
        case("te: trailers", CONNECTION)
            .get(&[("te", "trailers")])
            .any()
            .gets("200 `answer to GET /`"),
        case("http2-settings", CONNECTION)
            .get(&[("http2-settings", "AAMAAABk")])
            .any()
            .on_none(),
        good(
            "cookie crumbs",
            "RFC 9113 §8.2.3",
            &[("cookie", "a=b"), ("cookie", "c=d"), ("cookie", "e=f")],
            "GET / `cookie: a=b; c=d; e=f`",
        ),
        good(
            "one cookie",
            "RFC 9113 §8.2.3",
            &[("cookie", "a=b; c=d")],
            "GET / `cookie: a=b; c=d`",
        ),
        good(
            "cookie crumbs around a field",
            "RFC 9113 §8.2.3",
            &[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d")],
            "GET / `cookie: a=b; c=d` `x: y`",
        ),
        bad(
            "a cookie crumb with CR LF",
            NAMES,
            ("cookie", "a=b\r\nx: y"),
        ),
        case("expect: 100-continue", "RFC 9110 §10.1.1")
            .post(&[("expect", "100-continue"), ("content-length", "5")])
            .once_forwarded()
            .data("hello")
            .any()
            .on_none(),
        case("expect of what nobody knows", "RFC 9110 §10.1.1")
            .get(&[("expect", "200-maybe")])
            .any()
            .on_none(),
    ]
}
