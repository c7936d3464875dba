//! Pseudo-header fields.

use crate::h2::case::{Case, PLAIN, case, plain};
use lameduck_rig::frames::*;
use lameduck_rig::hpack;

const RULE: &str = "RFC 9113 §8.3.1";
const ORDER: &str = "RFC 9113 §8.3";

fn malformed(name: &'static str, rule: &'static str, fields: &[(&str, &str)]) -> Case {
    case(name, rule).raw(fields).malformed()
}

/// A plain request with this pseudo-header field in place of its own.
fn with(name: &'static str, field: &str, value: &str) -> Case {
    case(name, RULE).raw(&replaced(field, value)).malformed()
}

fn replaced<'a>(field: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let one = |(name, old)| {
        if name == field {
            (name, value)
        } else {
            (name, old)
        }
    };
    PLAIN.into_iter().map(one).collect()
}

fn without(name: &'static str, field: &str) -> Case {
    let rest: Vec<_> = PLAIN
        .into_iter()
        .filter(|(other, _)| *other != field)
        .collect();
    malformed(name, RULE, &rest)
}

fn twice(name: &'static str, field: (&str, &str)) -> Case {
    case(name, ORDER)
        .headers(END_STREAM, plain("GET", &[field]))
        .malformed()
}

fn reordered(name: &'static str, last: usize) -> Case {
    let mut fields = PLAIN.to_vec();
    let late = fields.remove(last);
    fields.extend([("x", "y"), late]);
    malformed(name, ORDER, &fields)
}

pub fn cases() -> Vec<Case> {
    vec![
        without("no :method", ":method"),
        without("no :scheme", ":scheme"),
        without("no :path", ":path"),
        malformed("no pseudo-header field", RULE, &[("host", "a")]),
        malformed("no field", RULE, &[]),
        with("an empty :method", ":method", ""),
        with("an empty :scheme", ":scheme", ""),
        with(
            "a :method with a blank",
            ":method",
            "GET /smuggled HTTP/1.1",
        ),
        with(
            "a :method with CR LF",
            ":method",
            "GET / HTTP/1.1\r\nX: y\r\n\r\nGET",
        ),
        with("a :method with a control", ":method", "G\u{1}T"),
        with("a :method with a colon", ":method", "GET:"),
        with("a :method beyond ASCII", ":method", "GÉT"),
        with("a :scheme with CR LF", ":scheme", "http\r\nX: y"),
        with("a :scheme with a path", ":scheme", "http://b/?"),
        with("a :scheme with a blank", ":scheme", "ht tp"),
        twice("two :method", (":method", "GET")),
        twice("two differing :method", (":method", "POST")),
        twice("two :path", (":path", "/admin")),
        twice("two :scheme", (":scheme", "https")),
        twice("two :authority", (":authority", "b")),
        reordered("a late :method", 0),
        reordered("a late :scheme", 1),
        reordered("a late :authority", 2),
        reordered("a late :path", 3),
        twice(":status in a request", (":status", "200")),
        twice("a pseudo-header field that nobody knows", (":what", "y")),
        twice("a pseudo-header field without a name", (":", "y")),
        twice(":protocol without CONNECT", (":protocol", "websocket")),
        case("an upper-case pseudo-header field", RULE)
            .raw(&[
                (":Method", "GET"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", "/"),
            ])
            .malformed(),
        case("a pseudo-header field with a blank behind it", RULE)
            .raw(&[
                (":method ", "GET"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", "/"),
            ])
            .malformed(),
        case("pseudo-header fields in another order", ORDER)
            .raw(&[
                (":path", "/"),
                (":authority", "a"),
                (":scheme", "http"),
                (":method", "GET"),
            ])
            .forwarded("GET /"),
        case("a method that nobody knows", RULE)
            .headers(END_STREAM, plain("BREW", &[]))
            .forwarded("BREW /"),
        case("a method in lower case", "RFC 9110 §9.1")
            .headers(END_STREAM, plain("get", &[]))
            .any()
            .on_none(),
        case("a scheme of TLS on a connection without", RULE)
            .raw(&replaced(":scheme", "https"))
            .forwarded("GET /"),
        case("a scheme that isn't HTTP", RULE)
            .raw(&replaced(":scheme", "ftp"))
            .malformed(),
        case("HEADERS of a request in two", ORDER)
            .headers(0, hpack::block(&PLAIN[..2]))
            .headers(END_STREAM, hpack::block(&PLAIN[2..]))
            .malformed(),
    ]
}
