//! Responses whose body is shorter or longer than they say.

use crate::case::{Case, Reply, case};

const RULE: &str = "RFC 9112 §8";
const EXTRA: &str = "RFC 9112 §9.2";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The backend sends this and closes; the client gets that and is cut.
fn short(name: &'static str, sent: &str, got: &str) -> Case {
    case(name, RULE)
        .sends(GET)
        .answer_and_close(sent)
        .verbatim()
        .gets(got)
        .cut()
}

/// The backend sends this; the client gets the answer alone.
fn long(name: &'static str, answer: &str, more: &str) -> Case {
    case(name, EXTRA)
        .sends(GET)
        .answer(format!("{answer}{more}"))
        .verbatim()
        .gets(answer)
        .discards()
}

/// A malformed chunk that comes with the head, before anything of it has gone to the client.
fn malformed(name: &'static str, body: &str) -> Case {
    case(name, "RFC 9112 §7.1")
        .sends(GET)
        .answer(format!("{CHUNKS}{body}"))
        .verbatim()
        .told(502)
        .discards()
}

pub fn cases() -> Vec<Case> {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let chunked = format!("{CHUNKS}5\r\nhello\r\n0\r\n\r\n");
    vec![
        short(
            "a body shorter than its length",
            &format!("{LENGTH}hello"),
            &format!("{LENGTH}hello"),
        ),
        short("a body of nothing instead of its length", LENGTH, LENGTH),
        short(
            "chunks without a last one",
            &format!("{CHUNKS}5\r\nhello\r\n"),
            &format!("{CHUNKS}5\r\nhello\r\n"),
        ),
        short(
            "chunks that end within one",
            &format!("{CHUNKS}a\r\nhello"),
            &format!("{CHUNKS}a\r\nhello"),
        ),
        short(
            "chunks that end within the last line",
            &format!("{CHUNKS}0\r\n"),
            &format!("{CHUNKS}0\r\n"),
        ),
        case("a short body in HTTP/1.0", RULE)
            .sends("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            .answer_and_close(format!("{CHUNKS}5\r\nhello\r\n"))
            .forwarded(GET)
            .gets("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
            .cut(),
        case("a body that a reset breaks off", RULE)
            .sends(GET)
            .replies([Reply::Send(LENGTH.into()), Reply::Reset])
            .verbatim()
            .gets(LENGTH)
            .cut(),
        long("bytes behind a response's body", whole, "!"),
        long("a second answer behind a body", whole, second),
        long("a second answer behind chunks", &chunked, second),
        long("an empty line behind a body", whole, "\r\n"),
        long(
            "a 408 behind a body",
            whole,
            "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
        ),
        case("a response in pieces", "RFC 9112 §2.1")
            .sends(GET)
            .replies(
                [
                    "HTTP/1.1 20",
                    "0 OK\r\nTransfer-Encoding: chunked\r",
                    "\n\r\n5\r",
                    "\nhel",
                    "lo\r\n0\r\n\r",
                    "\n",
                ]
                .map(|piece| Reply::Send(piece.into())),
            )
            .verbatim()
            .gets(chunked.as_str())
            .reuses(),
        case("a body to the end", "RFC 9112 §6.3")
            .sends(GET)
            .answer_and_close("HTTP/1.1 200 OK\r\n\r\nhello")
            .verbatim()
            .gets(format!("{CHUNKS}5\r\nhello\r\n0\r\n\r\n")),
        case("a body to the end, of HTTP/1.0", "RFC 9112 §6.3")
            .sends(GET)
            .answer_and_close("HTTP/1.0 200 OK\r\n\r\nhello")
            .verbatim()
            .gets(format!("{CHUNKS}5\r\nhello\r\n0\r\n\r\n")),
        case("a body to the end, for HTTP/1.0", "RFC 9112 §6.3")
            .sends("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            .answer_and_close("HTTP/1.1 200 OK\r\n\r\nhello")
            .forwarded(GET)
            .gets("HTTP/1.1 200 OK\r\n\r\nhello")
            .closes(),
        case("chunks for HTTP/1.0", "RFC 9112 §7.1")
            .sends("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            .answer(chunked.as_str())
            .forwarded(GET)
            .gets("HTTP/1.1 200 OK\r\n\r\nhello")
            .closes()
            .reuses(),
        malformed(
            "a response's size that is no number",
            "zz\r\nhello\r\n0\r\n\r\n",
        ),
        malformed("a response's size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        malformed(
            "a response's size of 2^64 + 5",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        malformed("a response's size ended by LF", "5\nhello\r\n0\r\n\r\n"),
        malformed(
            "a response's content that is too long",
            "5\r\nhello!\r\n0\r\n\r\n",
        ),
        case("a response's extension", "RFC 9112 §7.1.1")
            .sends(GET)
            .answer(format!("{CHUNKS}5;a=b\r\nhello\r\n0\r\n\r\n"))
            .verbatim()
            .gets(format!("{CHUNKS}5;a=b\r\nhello\r\n0\r\n\r\n")),
        case("a response's size with spaces behind it", "RFC 9112 §7.1")
            .sends(GET)
            .answer(format!("{CHUNKS}5   \r\nhello\r\n0   \r\n\r\n"))
            .verbatim()
            .gets(format!("{CHUNKS}5   \r\nhello\r\n0   \r\n\r\n"))
            .reuses(),
    ]
}
