//! Whom the request is for.

use crate::h2::case::{Case, case};

const RULE: &str = "RFC 9113 §8.3.1";

fn asked(name: &'static str, authority: &str, fields: &[(&str, &str)]) -> Case {
    let mut all = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", authority),
        (":path", "/"),
    ];
    all.extend(fields);
    case(name, RULE).raw(&all)
}

pub fn cases() -> Vec<Case> {
    let bare = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let with = |host| [bare.as_slice(), &[("host", host)]].concat();
    vec![
        case("Host without :authority", RULE)
            .raw(&with("a"))
            .forwarded("GET /"),
        case("neither :authority nor Host", RULE)
            .raw(&bare)
            .malformed(),
        asked("Host equals :authority", "a", &[("host", "a")]).forwarded("GET /"),
        asked("Host differs in case alone", "a", &[("host", "A")]).forwarded("GET /"),
        asked("Host differs from :authority", "a", &[("host", "b")]).malformed(),
        asked("Host differs by its port", "a", &[("host", "a:81")]).malformed(),
        asked("an empty Host beside :authority", "a", &[("host", "")]).malformed(),
        asked("two Host", "a", &[("host", "a"), ("host", "a")]).malformed(),
        asked("two differing Host", "a", &[("host", "a"), ("host", "b")]).malformed(),
        case("two Host without :authority", RULE)
            .raw(&[bare.as_slice(), &[("host", "a"), ("host", "b")]].concat())
            .malformed(),
        asked("a list of Host", "a", &[("host", "a, b")]).malformed(),
        asked("an empty :authority", "", &[]).malformed(),
        asked("an empty :authority beside Host", "", &[("host", "a")])
            .any()
            .on_none(),
        asked(":authority with userinfo", "user@a", &[]).malformed(),
        asked(
            ":authority with userinfo and password",
            "user:secret@a",
            &[],
        )
        .malformed(),
        asked(":authority with a path", "a/admin", &[]).malformed(),
        asked(":authority with a query", "a?x", &[]).malformed(),
        asked(":authority with a fragment", "a#x", &[]).malformed(),
        asked(":authority with a blank", "a b", &[]).malformed(),
        asked(":authority with CR LF", "a\r\nX: y", &[]).malformed(),
        asked(
            ":authority with a request in it",
            "a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a",
            &[],
        )
        .malformed(),
        asked(":authority with LF", "a\nX: y", &[]).malformed(),
        asked(":authority with NUL", "a\0", &[]).malformed(),
        asked(":authority with a tab", "a\t", &[]).malformed(),
        asked(":authority that is a list", "a, b", &[]).malformed(),
        asked(":authority with a backslash", "a\\b", &[]).malformed(),
        asked(":authority with a port", "a:80", &[]).forwarded("GET / `host: a:80`"),
        asked(":authority with a port that is none", "a:8x", &[]).malformed(),
        asked(":authority with a port beyond 65,535", "a:65536", &[]).malformed(),
        asked(":authority with two ports", "a:80:81", &[]).malformed(),
        asked("an IPv6 :authority", "[::1]:80", &[]).forwarded("GET / `host: [::1]:80`"),
        asked("an IPv6 :authority without its end", "[::1", &[]).malformed(),
        asked(":authority beyond ASCII", "é", &[]).malformed(),
        asked("a Host with CR LF", "a", &[("host", "a\r\nX: y")]).malformed(),
        case("a Host with userinfo", RULE)
            .raw(&with("user@a"))
            .malformed(),
        case("a Host with a path", RULE)
            .raw(&with("a/b"))
            .malformed(),
        asked(
            "X-Forwarded-Host of the client's",
            "a",
            &[("x-forwarded-host", "b")],
        )
        .any()
        .gets("200 `answer to GET /`"),
    ]
}
