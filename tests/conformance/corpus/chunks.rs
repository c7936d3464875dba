//! Chunked bodies of requests.

use crate::case::{Case, case};

const RULE: &str = "RFC 9112 §7.1";
const EXTENSION: &str = "RFC 9112 §7.1.1";
const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fn accepted(name: &'static str, body: &str) -> Case {
    case(name, RULE).chunks(body).verbatim()
}

fn refused(name: &'static str, body: &str) -> Case {
    case(name, RULE).chunks(body).refused(400)
}

fn extended(name: &'static str, size: &str) -> Case {
    case(name, EXTENSION).chunks(&format!("{size}\r\nhello\r\n0\r\n\r\n"))
}

pub fn cases() -> Vec<Case> {
    let many = format!("1;{}\r\nx\r\n", "e".repeat(250)).repeat(80);
    let in_time = case("a malformed chunk behind a good one", RULE)
        .sends(format!("{HEAD}5\r\nhello\r\n"))
        .once_forwarded()
        .sends("zz\r\nhello\r\n0\r\n\r\n")
        .forwarded(format!("{HEAD}5\r\nhello\r\n"))
        .told(400)
        .end_closed()
        .discards();
    vec![
        accepted("an empty body in chunks", "0\r\n\r\n"),
        accepted(
            "several chunks",
            "5\r\nhello\r\n2\r\n, \r\n5\r\nworld\r\n0\r\n\r\n",
        )
        .reuses(),
        accepted("a size in small letters", "a\r\n0123456789\r\n0\r\n\r\n"),
        accepted("a size in capitals", "A\r\n0123456789\r\n0\r\n\r\n"),
        accepted(
            "a size that reads otherwise as decimal",
            "10\r\n0123456789abcdef\r\n0\r\n\r\n",
        ),
        accepted("zeros before a size", "0005\r\nhello\r\n0\r\n\r\n"),
        accepted(
            "a size of sixteen digits",
            "0000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        accepted(
            "several zeros as the last size",
            "5\r\nhello\r\n000\r\n\r\n",
        ),
        accepted(
            "a request within a chunk",
            "1c\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
        ),
        case("a body in two pieces", RULE)
            .sends(format!("{HEAD}5\r\nhe"))
            .once_forwarded()
            .sends("llo\r\n0\r\n\r\n")
            .verbatim(),
        refused(
            "a size of seventeen digits",
            "00000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        refused(
            "a size of 2^64 + 5",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        refused("a size of 2^63", "8000000000000000\r\nhello\r\n0\r\n\r\n"),
        refused(
            "a size of 2^64 - 1",
            "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        ),
        refused("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        refused("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        refused("a size with a plus sign", "+5\r\nhello\r\n0\r\n\r\n"),
        refused("a size with an underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
        refused("a size with a comma", "5,5\r\nhello\r\n0\r\n\r\n"),
        refused("a space before a size", " 5\r\nhello\r\n0\r\n\r\n"),
        refused("a space behind a size", "5 \r\nhello\r\n0\r\n\r\n"),
        refused("a tab behind a size", "5\t\r\nhello\r\n0\r\n\r\n"),
        refused("no size", "\r\nhello\r\n0\r\n\r\n"),
        refused("a size that is no number", "g\r\nhello\r\n0\r\n\r\n"),
        refused("a NUL in a size", "5\0\r\nhello\r\n0\r\n\r\n"),
        refused("a size ended by LF", "5\nhello\r\n0\r\n\r\n"),
        refused("a size ended by CR", "5\rhello\r\n0\r\n\r\n"),
        refused("a size ended by CR CR LF", "5\r\r\nhello\r\n0\r\n\r\n"),
        refused("content ended by LF", "5\r\nhello\n0\r\n\r\n"),
        refused("content ended by CR", "5\r\nhello\r0\r\n\r\n"),
        refused("content that isn't ended", "5\r\nhello0\r\n\r\n"),
        refused("content that is too long", "5\r\nhello!\r\n0\r\n\r\n"),
        refused("content that is too short", "5\r\nhell\r\n0\r\n\r\n"),
        refused("a last chunk ended by LF", "5\r\nhello\r\n0\n\r\n"),
        refused("a last line ended by LF", "5\r\nhello\r\n0\r\n\n"),
        refused("a last line that is a bare CR", "5\r\nhello\r\n0\r\n\rX"),
        extended("an extension", "5;a=b").verbatim(),
        extended("an extension without a value", "5;a").verbatim(),
        extended("an extension in quotes", "5;a=\"b;c\"").verbatim(),
        extended("an empty extension", "5;").verbatim(),
        extended("a space before an extension", "5 ;a=b").verbatim(),
        case("an extension of the last chunk", EXTENSION)
            .chunks("5\r\nhello\r\n0;a=b\r\n\r\n")
            .verbatim(),
        extended(
            "an extension of 300 bytes",
            &format!("5;{}", "e".repeat(300)),
        )
        .refused(400),
        case("extensions of 20 KB in all", EXTENSION)
            .chunks(&format!("{many}0\r\n\r\n"))
            .refused_late(400),
        extended("an LF in an extension", "5;a\nb").refused(400),
        extended("a CR in an extension", "5;a\rb").refused(400),
        extended("an LF in an extension's quotes", "5;a=\"\n\"").refused(400),
        extended("a NUL in an extension", "5;a\0").refused(400),
        extended("an extension without a semicolon", "5 a=b").refused(400),
        in_time,
    ]
}
