//! HEAD, 204, 304: no body, whatever their fields say.

use crate::case::{Case, case};

const RULE: &str = "RFC 9112 §6.3";

fn to(method: &str) -> String {
    format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn same(name: &'static str, method: &str, answer: &str) -> Case {
    case(name, RULE)
        .sends(to(method))
        .answer(answer)
        .verbatim()
        .gets(answer)
}

/// The backend sends a body all the same: the client gets the head, nobody gets the body.
fn with_bytes(name: &'static str, method: &str, head: &str, body: &str) -> Case {
    case(name, RULE)
        .sends(to(method))
        .answer(format!("{head}{body}"))
        .verbatim()
        .gets(head)
        .discards()
}

pub fn cases() -> Vec<Case> {
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    vec![
        same(
            "HEAD with a length",
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        )
        .reuses(),
        same("HEAD without a length", "HEAD", "HTTP/1.1 200 OK\r\n\r\n").reuses(),
        same(
            "HEAD with chunks",
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .reuses(),
        same(
            "HEAD with a 404",
            "HEAD",
            "HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n",
        )
        .reuses(),
        same("a 204", "GET", "HTTP/1.1 204 No Content\r\n\r\n").reuses(),
        same(
            "a 304",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
        )
        .reuses(),
        same(
            "a 304 with a length",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
        )
        .reuses(),
        same(
            "a 304 to HEAD",
            "HEAD",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
        ),
        same(
            "a 205 with a length of nothing",
            "GET",
            "HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n",
        ),
        same(
            "a 200 with a length of nothing",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        )
        .reuses(),
        with_bytes(
            "HEAD with a body",
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "hello",
        ),
        with_bytes(
            "HEAD with a second answer behind it",
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            second,
        ),
        with_bytes(
            "a 204 with a body",
            "GET",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "hello",
        ),
        with_bytes(
            "a 304 with a body",
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            "hello",
        ),
        with_bytes(
            "a 304 with a second answer behind it",
            "GET",
            "HTTP/1.1 304 Not Modified\r\n\r\n",
            second,
        ),
        with_bytes(
            "nothing, and a body behind it",
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            second,
        ),
        case("a 204 with a length and a body", "RFC 9110 §8.6")
            .sends(to("GET"))
            .answer("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello")
            .verbatim()
            .gets("HTTP/1.1 204 No Content\r\n\r\n")
            .discards(),
        case("a 204 with chunks", "RFC 9112 §6.1")
            .sends(to("GET"))
            .answer("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
            .verbatim()
            .gets("HTTP/1.1 204 No Content\r\n\r\n")
            .discards(),
    ]
}
