//! Requests one behind the other.

use crate::case::{Case, Downstream, case, echo};

const RULE: &str = "RFC 9112 §9.3.2";

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn answers(targets: &[&str]) -> String {
    targets
        .iter()
        .map(|target| echo("GET", target, ""))
        .collect()
}

/// The first is answered; what is behind it is refused, and nothing after that is served.
fn good_then_bad(
    name: &'static str,
    rule: &'static str,
    good: &str,
    bad: &str,
    status: u16,
) -> Case {
    let first = case(name, rule).sends(good).verbatim();
    let Downstream::Bytes(answer) = first.downstream else {
        unreachable!("the echo")
    };
    case(name, rule)
        .sends(format!("{good}{bad}{}", get("/never")))
        .forwarded(good)
        .then_told(std::str::from_utf8(&answer).unwrap(), status)
        .end_closed()
}

pub fn cases() -> Vec<Case> {
    let post = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunked =
        "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    vec![
        case("two requests", RULE)
            .sends(get("/1") + &get("/2"))
            .verbatim()
            .gets(answers(&["/1", "/2"]))
            .reuses(),
        case("ten requests", RULE)
            .sends((0..10).map(|n| get(&format!("/{n}"))).collect::<String>())
            .verbatim()
            .gets((0..10).map(|n| echo("GET", &format!("/{n}"), "")).collect::<String>()),
        case("a POST and a GET", RULE)
            .sends(format!("{post}{}", get("/2")))
            .verbatim()
            .gets(echo("POST", "/1", "") + &answers(&["/2"])),
        case("chunks and a GET", RULE)
            .sends(format!("{chunked}{}", get("/2")))
            .verbatim()
            .gets(echo("POST", "/1", "") + &answers(&["/2"])),
        case("an empty line between two requests", "RFC 9112 §2.2")
            .sends(format!("{post}\r\n{}", get("/2")))
            .forwarded(format!("{post}{}", get("/2")))
            .gets(echo("POST", "/1", "") + &answers(&["/2"])),
        case("a request within a body", "RFC 9112 §6")
            .sends("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 37\r\n\r\nGET /hidden HTTP/1.1\r\nHost: admin\r\n\r\n")
            .verbatim(),
        good_then_bad("bytes behind a body", "RFC 9112 §6.3", post, "@", 400),
        good_then_bad("a body behind a GET that announces none", "RFC 9112 §6.3", &get("/1"), "(hello)", 400),
        good_then_bad("a malformed request behind a good one", RULE, &get("/1"), "GET /2 HTTP/1.1\r\n\r\n", 400),
        good_then_bad("length and chunks behind a good one", RULE, &get("/1"),
            "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        good_then_bad("HTTP/0.9 behind a good request", RULE, &get("/1"), "GET /2\r\n", 505),
        case("a request behind Connection: close", "RFC 9112 §9.6")
            .sends(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{}", get("/never")))
            .forwarded(get("/"))
            .closes(),
        case("a request behind HTTP/1.0", "RFC 9112 §9.3")
            .sends(format!("GET / HTTP/1.0\r\nHost: a\r\n\r\n{}", get("/never")))
            .forwarded(get("/"))
            .closes(),
        case("a request behind a malformed one", RULE)
            .sends(format!("GET / HTTP/1.1\r\nHost: a b\r\n\r\n{}", get("/never")))
            .refused(400),
        case("bytes behind a body that read as a method", "RFC 9112 §6.3")
            .sends(format!("{post}hello{}", get("/2")))
            .verbatim()
            .gets(echo("POST", "/1", "") + &echo("helloGET", "/2", "")),
        case("HEAD and GET", RULE)
            .sends(format!("HEAD /1 HTTP/1.1\r\nHost: a\r\n\r\n{}", get("/2")))
            .verbatim()
            .gets(echo("HEAD", "/1", "") + &answers(&["/2"])),
        case("a request behind one that the backend answers with close", RULE)
            .sends(get("/1") + &get("/2"))
            .answer_and_close("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .verbatim()
            .gets("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".repeat(2)),
    ]
}
