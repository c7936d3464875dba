//! The forms of a target.

use crate::case::{Case, case};

const RULE: &str = "RFC 9112 §3.2";
const ABSOLUTE: &str = "RFC 9112 §3.2.2";
const ASTERISK: &str = "RFC 9112 §3.2.4";

fn asked(name: &'static str, rule: &'static str, line: &str) -> Case {
    case(name, rule).sends(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"))
}

fn as_if(case: Case, target: &str, host: &str) -> Case {
    case.forwarded(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

pub fn cases() -> Vec<Case> {
    vec![
        asked("a path and a query", RULE, "GET /b/c?d=e&f=?/g").verbatim(),
        asked("two slashes", RULE, "GET //b/c").verbatim(),
        asked("dots in a path", RULE, "GET /b/../../c/./d").verbatim(),
        asked("encoded dots in a path", RULE, "GET /b/%2e%2e/%2E./c").verbatim(),
        asked("an encoded slash", RULE, "GET /b%2fc").verbatim(),
        asked("an encoded NUL", RULE, "GET /b%00c").verbatim(),
        asked("an encoded line end", RULE, "GET /b%0d%0aX:%20y").verbatim(),
        asked("broken percent-encoding", RULE, "GET /%zz%1").verbatim(),
        asked("a backslash", RULE, "GET /b\\..\\c").verbatim(),
        asked("signs that should be encoded", RULE, "GET /\"<>^`{|}[]").verbatim(),
        asked("a semicolon", RULE, "GET /b;jsessionid=1/c").verbatim(),
        asked(
            "a colon and an at sign in a path",
            RULE,
            "GET /http://x@y:80/",
        )
        .verbatim(),
        asked("a letter beyond ASCII in a path", RULE, "GET /é").verbatim(),
        case("bytes in a path that are no UTF-8", RULE)
            .sends(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n")
            .verbatim(),
        asked("a NUL in a path", RULE, "GET /\0").refused(400),
        asked("DEL in a path", RULE, "GET /\x7f").refused(400),
        asked("a fragment", RULE, "GET /b#c").refused(400),
        asked("a fragment behind a query", RULE, "GET /b?c#d").refused(400),
        asked("a path without a slash", RULE, "GET b").refused(400),
        asked("a query without a path", RULE, "GET ?b").refused(400),
        as_if(
            asked("absolute form", ABSOLUTE, "GET http://a/b?c"),
            "/b?c",
            "a",
        ),
        as_if(
            asked("absolute form with a port", ABSOLUTE, "GET http://a:8080/"),
            "/",
            "a:8080",
        ),
        as_if(
            asked("absolute form without a path", ABSOLUTE, "GET http://a"),
            "/",
            "a",
        ),
        as_if(
            asked(
                "absolute form with a query alone",
                ABSOLUTE,
                "GET http://a?b",
            ),
            "/?b",
            "a",
        ),
        as_if(
            asked("absolute form in capitals", ABSOLUTE, "GET HTTP://a/b"),
            "/b",
            "a",
        ),
        as_if(
            asked("absolute form with https", ABSOLUTE, "GET https://a/b"),
            "/b",
            "a",
        ),
        as_if(
            asked(
                "absolute form and another Host",
                ABSOLUTE,
                "GET http://real/b",
            ),
            "/b",
            "real",
        ),
        case("absolute form with its Host behind other fields", ABSOLUTE)
            .sends("GET http://real/b HTTP/1.1\r\nX: y\r\nHost: a\r\n\r\n")
            .forwarded("GET /b HTTP/1.1\r\nHost: real\r\nX: y\r\n\r\n"),
        case("absolute form without a Host", RULE)
            .sends("GET http://a/ HTTP/1.1\r\n\r\n")
            .refused(400),
        case("absolute form with two Hosts", RULE)
            .sends("GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")
            .refused(400),
        case("absolute form with a bad Host", RULE)
            .sends("GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n")
            .refused(400),
        case("absolute form in HTTP/1.0 without a Host", ABSOLUTE)
            .sends("GET http://a/b HTTP/1.0\r\n\r\n")
            .forwarded("GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
            .closes(),
        asked(
            "absolute form with user information",
            "RFC 9110 §4.2.4",
            "GET http://u:p@a/",
        )
        .refused(400),
        asked(
            "absolute form with an at sign in its path",
            ABSOLUTE,
            "GET http://a/u@b",
        )
        .forwarded("GET /u@b HTTP/1.1\r\nHost: a\r\n\r\n"),
        asked(
            "absolute form without a host",
            "RFC 9110 §4.2.1",
            "GET http:///b",
        )
        .refused(400),
        asked("absolute form with a bad port", RULE, "GET http://a:port/").refused(400),
        asked("absolute form with a backslash", RULE, "GET http://a\\@b/").refused(400),
        asked("absolute form with one slash", RULE, "GET http:/a/").refused(400),
        asked("another scheme", RULE, "GET ftp://a/").refused(400),
        asked("a scheme that runs a script", RULE, "GET javascript:x").refused(400),
        asked("authority form of a GET", "RFC 9112 §3.2.3", "GET a:80").refused(400),
        asked("a CONNECT", "RFC 9110 §9.3.6", "CONNECT a:443").refused(501),
        asked("a CONNECT with a path", "RFC 9112 §3.2.3", "CONNECT /").refused(501),
        asked("OPTIONS *", ASTERISK, "OPTIONS *").verbatim(),
        asked("OPTIONS in absolute form", ASTERISK, "OPTIONS http://a")
            .forwarded("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        asked(
            "OPTIONS in absolute form with a path",
            ASTERISK,
            "OPTIONS http://a/",
        )
        .forwarded("OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n"),
        asked("GET *", ASTERISK, "GET *").refused(400),
        asked("OPTIONS **", ASTERISK, "OPTIONS **").refused(400),
    ]
}
