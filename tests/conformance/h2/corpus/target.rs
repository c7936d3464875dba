//! `:path`.

use crate::h2::case::{Case, case};
use crate::h2::hpack::block;

const RULE: &str = "RFC 9113 §8.3.1";

fn path(name: &'static str, method: &str, path: &str) -> Case {
    case(name, RULE).raw(&[
        (":method", method),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", path),
    ])
}

fn bad(name: &'static str, target: &str) -> Case {
    path(name, "GET", target).malformed()
}

fn good(name: &'static str, target: &str) -> Case {
    path(name, "GET", target).forwarded(&format!("GET {target}"))
}

pub fn cases() -> Vec<Case> {
    vec![
        bad("an empty path", ""),
        bad("a path without a slash", "x"),
        bad("a path that is a query", "?x"),
        bad("an absolute path", "http://b/"),
        bad("an absolute path of the same host", "http://a/"),
        bad("a path that is an authority", "a:80"),
        bad("an asterisk of a GET", "*"),
        path("an asterisk of OPTIONS", "OPTIONS", "*").forwarded("OPTIONS *"),
        bad("an asterisk and more", "*/x"),
        bad("a path with a blank", "/a b"),
        bad(
            "a path with a version",
            "/ HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled",
        ),
        bad("a path with a blank and a version", "/ HTTP/1.1"),
        bad("a path with CR LF", "/\r\nX: y"),
        bad("a path with LF", "/\nX: y"),
        bad("a path with CR", "/\rX"),
        bad("a path with NUL", "/\0"),
        bad("a path with a tab", "/\tx"),
        bad("a path with DEL", "/\u{7f}"),
        path("a path with a fragment", "GET", "/a#b").forwarded("GET /a"),
        bad("a path that begins with a blank", " /"),
        path("a path beyond ASCII", "GET", "/é").any().on_none(),
        good("a path with a query", "/a?b=c&d"),
        good("a path with percents", "/%0d%0a%00%2e%2e"),
        good("a path that climbs", "/a/../b"),
        good("a path of two slashes", "//b/c"),
        good("a path with an authority behind a slash", "//user@b:80/"),
        good("a path with a semicolon", "/a;b=c"),
        case("a path of 20,000 bytes", RULE)
            .long(&block(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", &format!("/{}", "x".repeat(20_000))),
            ]))
            .refused(&[]),
    ]
}
