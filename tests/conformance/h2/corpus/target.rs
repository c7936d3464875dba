//! `:path`.

use crate::h2::case::{Case, PLAIN, case};
use lameduck_rig::frames::END_STREAM;
use lameduck_rig::hpack::{block, literal};

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

/// A host that the router has no other place for.
fn good_host(name: &'static str, host: &str) -> Case {
    let fields = [PLAIN[0], PLAIN[1], (":authority", host), PLAIN[3]];
    let request = format!("GET / `host: {host}`");
    case(name, RULE).raw(&fields).forwarded(&request)
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
        bad("a path with a fragment", "/a#b"),
        bad("a path that begins with a blank", " /"),
        path("a path beyond ASCII", "GET", "/é").any().on_none(),
        good("a path with a query", "/a?b=c&d"),
        good("a path with percents", "/%0d%0a%00%2e%2e"),
        good("a path that climbs", "/a/../b"),
        good("a path of two slashes", "//b/c"),
        good("a path with an authority behind a slash", "//user@b:80/"),
        good("a path with a semicolon", "/a;b=c"),
        good("a path in angle brackets", "/<x>"),
        good("a path with a backtick", "/`"),
        good("a path with a quote", "/\"x\""),
        good("a path with a backslash", "/a\\b"),
        good("a path with a caret and a bar", "/^|"),
        good("a path with braces", "/{x}"),
        good("a query in quotes", "/?q=\"x\""),
        good("a query in angle brackets", "/?q=<x>"),
        bad("a path in brackets with a fragment", "/<x>#y"),
        bad("a path in brackets with a blank", "/<x> y"),
        bad("a path in brackets with CR LF", "/<x>\r\nX: y"),
        bad("a path in brackets with a version", "/<x> HTTP/1.1"),
        case("a path that is no text", RULE)
            .headers(
                END_STREAM,
                [block(&PLAIN[..3]), literal(b":path", b"/\xe9")].concat(),
            )
            .any(),
        good_host("a host that is percent-encoded", "a%20b"),
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
