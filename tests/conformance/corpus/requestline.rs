//! Method, version, and the spaces between.

use crate::case::{Case, case};

const RULE: &str = "RFC 9112 §3";
const VERSION: &str = "RFC 9112 §2.3";
const METHOD: &str = "RFC 9110 §9.1";

fn line(name: &'static str, rule: &'static str, line: &str) -> Case {
    case(name, rule).sends(format!("{line}\r\nHost: a\r\n\r\n"))
}

pub fn cases() -> Vec<Case> {
    vec![
        line("a method of one's own", METHOD, "PURGE / HTTP/1.1").verbatim(),
        line(
            "a method of all signs of a token",
            METHOD,
            "!#$%&'*+-.^_`|~0aZ / HTTP/1.1",
        )
        .verbatim(),
        line("a method in small letters", METHOD, "get / HTTP/1.1").verbatim(),
        line(
            "a long method",
            METHOD,
            &format!("{} / HTTP/1.1", "M".repeat(200)),
        )
        .verbatim(),
        line("a TRACE", "RFC 9110 §9.3.8", "TRACE / HTTP/1.1").verbatim(),
        line("a method with an at sign", METHOD, "G@T / HTTP/1.1").refused(400),
        line("a method with a colon", METHOD, "GET: / HTTP/1.1").refused(400),
        line("a method with a NUL", METHOD, "GET\0 / HTTP/1.1").refused(400),
        line(
            "a method with a letter beyond ASCII",
            METHOD,
            "GÉT / HTTP/1.1",
        )
        .refused(400),
        line("a method in quotes", METHOD, "\"GET\" / HTTP/1.1").refused(400),
        line("no method", RULE, " / HTTP/1.1").refused(400),
        line("a space before a method", RULE, " GET / HTTP/1.1").refused(400),
        line("two spaces behind a method", RULE, "GET  / HTTP/1.1").refused(400),
        line("two spaces before a version", RULE, "GET /  HTTP/1.1").refused(400),
        line("a tab behind a method", RULE, "GET\t/ HTTP/1.1").refused(400),
        line("a tab before a version", RULE, "GET /\tHTTP/1.1").refused(400),
        line("a space behind a version", RULE, "GET / HTTP/1.1 ").refused(400),
        line("a space in a target", RULE, "GET /a b HTTP/1.1").refused(400),
        line("a method alone", RULE, "GET").refused(400),
        line("HTTP/0.9", VERSION, "GET /").refused(505),
        line("HTTP/0.9, spelt out", VERSION, "GET / HTTP/0.9").refused(505),
        line("HTTP/1.2", VERSION, "GET / HTTP/1.2").refused(505),
        line("HTTP/1.10", VERSION, "GET / HTTP/1.10").refused(400),
        line("HTTP/1", VERSION, "GET / HTTP/1").refused(505),
        line("HTTP/01.1", VERSION, "GET / HTTP/01.1").refused(505),
        line("HTTP/2.0", VERSION, "GET / HTTP/2.0").refused(505),
        line("HTTP/9.9", VERSION, "GET / HTTP/9.9").refused(505),
        line("http/1.1", VERSION, "GET / http/1.1").refused(400),
        line("HTTP /1.1", VERSION, "GET / HTTP /1.1").refused(400),
        line(
            "a version with something behind it",
            VERSION,
            "GET / HTTP/1.1x",
        )
        .refused(400),
        line("another protocol", VERSION, "GET / RTSP/1.0").refused(400),
        case("HTTP/1.0", VERSION)
            .sends("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            .forwarded("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .closes(),
        case("the preface of HTTP/2", "RFC 9113 §3.4")
            .sends("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .refused(505),
        case("the first bytes of TLS", RULE)
            .sends(b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03")
            .refused(400),
        case("a target of 20 KB", "RFC 9110 §15.5.15")
            .sends(format!(
                "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
                "x".repeat(20_000)
            ))
            .refused(414),
    ]
}
