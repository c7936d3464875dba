//! Answers before the request is complete, and ends before the answer is.

use crate::case::{Case, Reply, case};

const RULE: &str = "RFC 9112 §9.5";
/// Of a body that is too long to be received whole first.
const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
const NO: &str = "HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno";

fn text(bytes: &str) -> Reply {
    Reply::Send(bytes.as_bytes().to_vec())
}

fn early(name: &'static str, then: Option<Reply>) -> Case {
    case(name, RULE)
        .sends(format!("{HEAD}hello"))
        .replies([Some(text(NO)), then].into_iter().flatten())
        .and_no_more()
        .verbatim()
        .gets(NO)
        .closes()
        .discards()
}

pub fn cases() -> Vec<Case> {
    vec![
        early("an answer before the body is there", None),
        early(
            "an answer before the body is there, and a close",
            Some(Reply::Close),
        ),
        case(
            "a client that ends its direction behind its request",
            "RFC 9112 §9.6",
        )
        .sends("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .half_closes()
        .verbatim(),
        case(
            "a client that ends its direction behind a body",
            "RFC 9112 §9.6",
        )
        .post("Content-Length: 5\r\n", "hello")
        .half_closes()
        .verbatim(),
        case(
            "a client that ends its direction within a body",
            "RFC 9112 §8",
        )
        .sends(format!("{HEAD}hello"))
        .once_forwarded()
        .half_closes()
        .verbatim()
        .gets("")
        .cut()
        .discards(),
        case(
            "a client that ends its direction within a chunk",
            "RFC 9112 §8",
        )
        .chunks("a\r\nhello")
        .once_forwarded()
        .half_closes()
        .verbatim()
        .gets("")
        .cut()
        .discards(),
        case(
            "a client that ends its direction before the last chunk",
            "RFC 9112 §8",
        )
        .chunks("5\r\nhello\r\n")
        .once_forwarded()
        .half_closes()
        .verbatim()
        .gets("")
        .cut()
        .discards(),
        case("a client that leaves within a body", "RFC 9112 §8")
            .sends(format!("{HEAD}hello"))
            .once_forwarded()
            .resets()
            .verbatim()
            .gets("")
            .discards(),
        case("a client that leaves before its answer", "RFC 9112 §9.5")
            .sends("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .once_forwarded()
            .resets()
            .replies([Reply::Tunnel])
            .verbatim()
            .gets("")
            .discards(),
        case("a client that stops within a body", "RFC 9110 §15.5.9")
            .sends(format!("{HEAD}hello"))
            .and_no_more()
            .verbatim()
            .told(408)
            .end_closed()
            .discards(),
        case("a backend that never answers", "RFC 9110 §15.6.5")
            .post("Content-Length: 5\r\n", "hello")
            .replies([Reply::Tunnel])
            .verbatim()
            .told(504)
            .discards(),
        case(
            "a backend that closes without an answer to a POST",
            "RFC 9110 §9.2.2",
        )
        .post("Content-Length: 5\r\n", "hello")
        .replies([Reply::Body, Reply::Close])
        .verbatim()
        .told(502),
    ]
}
