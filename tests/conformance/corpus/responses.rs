//! Heads of responses that aren't as they should be.

use crate::case::{Case, Reply, case};

const LINE: &str = "RFC 9112 §4";
const FIELD: &str = "RFC 9112 §5";
const FRAMING: &str = "RFC 9112 §6.3";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A 502, and the connection to the backend is closed.
fn refused(name: &'static str, rule: &'static str, answer: impl AsRef<[u8]>) -> Case {
    case(name, rule)
        .sends(GET)
        .answer(answer)
        .verbatim()
        .told(502)
        .discards()
}

fn line(name: &'static str, status_line: &str) -> Case {
    refused(
        name,
        LINE,
        format!("{status_line}\r\nContent-Length: 0\r\n\r\n"),
    )
}

fn field(name: &'static str, line: &str) -> Case {
    refused(
        name,
        FIELD,
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{line}\r\n\r\n"),
    )
}

fn framing(name: &'static str, lines: &str) -> Case {
    refused(
        name,
        FRAMING,
        format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    )
}

fn accepted(name: &'static str, rule: &'static str, answer: &str, got: &str) -> Case {
    case(name, rule)
        .sends(GET)
        .answer(answer)
        .verbatim()
        .gets(got)
}

pub fn cases() -> Vec<Case> {
    let body = "Content-Length: 0\r\n\r\n";
    let fields = |count: usize| {
        (0..count)
            .map(|n| format!("X-{n}: y\r\n"))
            .collect::<String>()
    };
    vec![
        accepted(
            "no reason",
            LINE,
            "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
        ),
        accepted(
            "no reason and no space",
            LINE,
            "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
        ),
        accepted(
            "a reason beyond ASCII",
            LINE,
            "HTTP/1.1 200 é\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 é\r\nContent-Length: 0\r\n\r\n",
        ),
        accepted(
            "a status that is unknown",
            "RFC 9110 §15",
            "HTTP/1.1 799 x\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 799 x\r\nContent-Length: 0\r\n\r\n",
        ),
        accepted(
            "HTTP/1.0 without keep-alive",
            "RFC 9112 §9.3",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        )
        .discards(),
        accepted(
            "HTTP/1.0 with keep-alive",
            "RFC 9112 §9.3",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        )
        .reuses(),
        accepted(
            "a response's two equal lengths",
            FRAMING,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
        accepted(
            "two Set-Cookies",
            "RFC 9110 §5.3",
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
        ),
        accepted(
            "a response's value beyond ASCII",
            "RFC 9110 §5.5",
            "HTTP/1.1 200 OK\r\nX: é\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: é\r\nContent-Length: 0\r\n\r\n",
        ),
        line("a status of two digits", "HTTP/1.1 20 OK"),
        line("a status of four digits", "HTTP/1.1 2000 OK"),
        line("a status below 100", "HTTP/1.1 099 OK"),
        line("a status that is no number", "HTTP/1.1 abc OK"),
        line("a status without a space before it", "HTTP/1.1200 OK"),
        line("two spaces before a status", "HTTP/1.1  200 OK"),
        line("a reason without a space before it", "HTTP/1.1 200OK"),
        line("a response in HTTP/2", "HTTP/2 200 OK"),
        line("a response in HTTP/1.2", "HTTP/1.2 200 OK"),
        line("a response in http/1.1", "http/1.1 200 OK"),
        line("a response in ICY", "ICY 200 OK"),
        line("a NUL in a reason", "HTTP/1.1 200 O\0K"),
        line("a CR in a reason", "HTTP/1.1 200 O\rK"),
        refused("a response in HTTP/0.9", LINE, "<html>hello</html>"),
        refused(
            "an empty line before a response",
            LINE,
            format!("\r\nHTTP/1.1 200 OK\r\n{body}"),
        ),
        refused(
            "rubbish before a response",
            LINE,
            format!("!HTTP/1.1 200 OK\r\n{body}"),
        ),
        refused(
            "the preface of HTTP/2 as a response",
            LINE,
            b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80",
        ),
        refused("a request as a response", LINE, GET),
        refused(
            "a response's lines ended by LF",
            LINE,
            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        ),
        refused(
            "a status line ended by LF",
            LINE,
            format!("HTTP/1.1 200 OK\n{body}"),
        ),
        refused(
            "a response's blank line that is an LF",
            FIELD,
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n",
        ),
        field("a response's field ended by LF", "X: y\nZ: z"),
        field("a CR in a response's value", "X: y\rz"),
        field("a NUL in a response's value", "X: y\0z"),
        field("a backspace in a response's value", "X: y\x08z"),
        field("a folded line in a response", "X: y\r\n z"),
        field("a space before a response's colon", "X : y"),
        field("a response's line without a colon", "hello"),
        field("a response's empty name", ": x"),
        field("a response's name with a space in it", "X Y: z"),
        field("a response's name beyond ASCII", "Xé: z"),
        accepted(
            "a response's Content_Length",
            "RFC 9110 §5.1",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent_Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent_Length: 5\r\n\r\n",
        ),
        refused(
            "a response with a hundred and one fields",
            "RFC 6585 §5",
            format!("HTTP/1.1 200 OK\r\n{}{body}", fields(100)),
        ),
        refused(
            "a response's field of 70 KB",
            "RFC 6585 §5",
            format!("HTTP/1.1 200 OK\r\nX: {}\r\n{body}", "y".repeat(70_000)),
        ),
        framing(
            "a response's two lengths that differ",
            "Content-Length: 5\r\nContent-Length: 6",
        ),
        framing(
            "a response's list of lengths that differ",
            "Content-Length: 5, 6",
        ),
        framing(
            "a response's length and chunks",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
        ),
        framing("a response's length that is negative", "Content-Length: -5"),
        framing("a response's length with a plus sign", "Content-Length: +5"),
        framing("a response's length that is no number", "Content-Length: x"),
        framing("a response's empty length", "Content-Length:"),
        framing(
            "a response's length of 2^64 + 5",
            "Content-Length: 18446744073709551621",
        ),
        framing(
            "a response's gzip, chunked",
            "Transfer-Encoding: gzip, chunked",
        ),
        framing("a response's identity", "Transfer-Encoding: identity"),
        framing("a response's xchunked", "Transfer-Encoding: xchunked"),
        framing(
            "a response's chunked twice",
            "Transfer-Encoding: chunked, chunked",
        ),
        framing(
            "a response's folded coding",
            "Transfer-Encoding:\r\n chunked",
        ),
        refused(
            "a response's chunks in HTTP/1.0",
            "RFC 9112 §6.1",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        case("a response that ends within its head", "RFC 9112 §8")
            .sends(GET)
            .replies([
                Reply::Body,
                Reply::Send(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
                Reply::Close,
            ])
            .verbatim()
            .told(502),
    ]
}
