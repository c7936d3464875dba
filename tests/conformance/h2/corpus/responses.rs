//! Answers of backends, which speak HTTP/1.1, as an HTTP/2 client sees them.

use crate::case::Reply;
use crate::h2::case::{Case, case, plain};
use lameduck_rig::frames::*;

const RULE: &str = "RFC 9113 §8.1";
const FIELD: &str = "RFC 9112 §5";
const FRAMING: &str = "RFC 9112 §6.3";

fn got(name: &'static str, rule: &'static str, answer: impl AsRef<[u8]>, client: &str) -> Case {
    case(name, rule)
        .get(&[])
        .answer(answer)
        .forwarded("GET /")
        .gets(client)
}

/// 502, and that upstream connection carries nothing else.
fn refused(name: &'static str, rule: &'static str, lines: &str, rest: &str) -> Case {
    got(
        name,
        rule,
        format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n{rest}"),
        "502",
    )
    .discards()
}

/// The client sees that it isn't whole.
fn cut(name: &'static str, answer: &str) -> Case {
    case(name, FRAMING)
        .get(&[])
        .answer_and_close(answer)
        .forwarded("GET /")
        .outcome_cut()
        .discards()
}

fn field(name: &'static str, line: &str) -> Case {
    refused(name, FIELD, &format!("Content-Length: 0\r\n{line}"), "")
}

pub fn cases() -> Vec<Case> {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let okay = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    vec![
        got("a length", RULE, okay, "200 `hello`"),
        got("chunks", RULE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200 `hello`"),
        got("chunks with trailers", RULE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n", "200 `hello` trailer `x: y`"),
        got("chunks with an upper-case trailer", "RFC 9113 §8.2.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n", "200 `hello` trailer `x: y`"),
        case("a body to the end", FRAMING).get(&[]).answer_and_close("HTTP/1.1 200 OK\r\n\r\nhello").forwarded("GET /").gets("200 `hello`"),
        case("a body to the end of an HTTP/1.0 answer", FRAMING).get(&[]).answer_and_close("HTTP/1.0 200 OK\r\n\r\nhello").forwarded("GET /").gets("200 `hello`"),
        got("an empty body", RULE, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200"),
        got("204", "RFC 9110 §15.3.5", "HTTP/1.1 204 No Content\r\n\r\n", "204"),
        got("204 with a length", "RFC 9110 §8.6", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "204"),
        got("205 without a body", "RFC 9110 §15.3.6", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", "205"),
        got("304 with a length", "RFC 9110 §15.4.5", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "304"),
        case("HEAD with a length", "RFC 9110 §9.3.2").headers(END_STREAM, plain("HEAD", &[])).answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").forwarded("HEAD /"),
        case("HEAD with chunks", "RFC 9110 §9.3.2").headers(END_STREAM, plain("HEAD", &[])).answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").forwarded("HEAD /"),
        case("HEAD with a body", "RFC 9110 §9.3.2").headers(END_STREAM, plain("HEAD", &[])).answer(okay).any().gets("200").discards(),
        got("an app's 404", RULE, "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello", "404"),
        got("fields of the connection", "RFC 9113 §8.2.2", "HTTP/1.1 200 OK\r\nConnection: keep-alive, x-hop\r\nKeep-Alive: timeout=5\r\nX-Hop: y\r\nProxy-Connection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", "200 `hello`"),
        got("names in upper case", "RFC 9113 §8.2.1", "HTTP/1.1 200 OK\r\nX-UPPER: y\r\nCONTENT-LENGTH: 5\r\n\r\nhello", "200 `hello`"),
        got("an Upgrade that nobody asked for", "RFC 9113 §8.2.2", "HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello", "200 `hello`"),
        got("a Set-Cookie twice", RULE, "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 5\r\n\r\nhello", "200 `hello`"),
        got("a backend's value beyond ASCII", FIELD, b"HTTP/1.1 200 OK\r\nX: \xff\r\nContent-Length: 5\r\n\r\nhello", "200 `hello`"),
        got("103, then 200", "RFC 8297 §2", format!("{early}{okay}"), "103, 200 `hello`"),
        got("100, then 200", "RFC 9110 §15.2.1", format!("HTTP/1.1 100 Continue\r\n\r\n{okay}"), "100, 200 `hello`"),
        refused("101 that nobody asked for", "RFC 9110 §15.2.2", "", "").answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        refused("length and chunks", FRAMING, "Content-Length: 5\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
        refused("two differing lengths from a backend", FRAMING, "Content-Length: 5\r\nContent-Length: 6", "hello!"),
        refused("a backend's length of +5", FRAMING, "Content-Length: +5", "hello"),
        refused("a backend's length of 0x5", FRAMING, "Content-Length: 0x5", "hello"),
        refused("a coding that nobody knows", FRAMING, "Transfer-Encoding: what", "5\r\nhello\r\n0\r\n\r\n"),
        refused("chunked twice", FRAMING, "Transfer-Encoding: chunked, chunked", "5\r\nhello\r\n0\r\n\r\n"),
        field("a folded line", "X: y\r\n z"),
        field("a name with a blank in it", "X y: z"),
        field("a backend's name with a blank behind it", "X : z"),
        field("a line without a colon", "X"),
        field("a line without a name", ": y"),
        field("a pseudo-header field from a backend", ":status: 500"),
        field("a NUL in a backend's value", "X: y\0"),
        field("a bare CR in a backend's value", "X: y\rz"),
        got("a status of two digits", "RFC 9112 §4", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", "502").discards(),
        got("a status of 999", "RFC 9112 §4", "HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n", "999"),
        got("an HTTP/2 answer", "RFC 9112 §4", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", "502").discards(),
        got("no HTTP at all", "RFC 9112 §4", "hello\r\n\r\n", "502").discards(),
        case("a head that is cut", "RFC 9112 §8").get(&[]).answer_and_close("HTTP/1.1 200 OK\r\nX").any().gets("502"),
        case("a backend that closes without a word", "RFC 9112 §8")
            .headers(0, plain("POST", &[]))
            .data("hello")
            .replies([Reply::Body, Reply::Close])
            .any()
            .gets("502"),
        cut("a body shorter than its length from a backend", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"),
        cut("chunks without their end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        cut("chunks whose size is none", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nhello\r\n0\r\n\r\n"),
        cut("a chunk longer than its size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n"),
        cut("CR LF in a trailer that isn't one", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nbad line\r\n\r\n"),
        got("more than the length", FRAMING, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", "200 `hello`").discards(),
        got("a body behind 204", FRAMING, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", "204").discards(),
        got("a body behind 304", FRAMING, "HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", "304").discards(),
        case("an answer before the body's end", "RFC 9113 §8.1")
            .post(&[])
            .part("hel")
            .replies([Reply::Send(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()), Reply::Close])
            .once_answered()
            .unfinished()
            .gets("413"),
        case("a reset in an answer", FRAMING)
            .get(&[])
            .replies([Reply::Body, Reply::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello".to_vec()), Reply::Reset])
            .any()
            .outcome_cut()
            .discards(),
    ]
}
