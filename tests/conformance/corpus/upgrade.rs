//! `Upgrade`: what is offered, what is taken, and what hides behind it.

use crate::case::{Case, Reply, case, echo};

const RULE: &str = "RFC 9110 §7.8";
const PLAIN: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OFFER: &str = "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const CLAIMING: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 9.9.9.9\r\nX-Client-Cert-Verified: yes\r\n\r\n";
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

/// The offer goes no further; the request does.
fn dropped(name: &'static str, fields: &str) -> Case {
    case(name, RULE).get(fields).forwarded(PLAIN)
}

/// The answer to an offer.
fn answered(name: &'static str, answer: &str) -> Case {
    case(name, RULE).sends(OFFER).answer(answer).verbatim()
}

fn text(bytes: &str) -> Reply {
    Reply::Send(bytes.as_bytes().to_vec())
}

/// The backend refuses, and the client has already sent what may be meant for the new protocol: it is judged as its next
/// request, which the backend gets by itself, with nothing of a client's claims, or not at all.
fn refused(name: &'static str, answer: &'static str) -> Case {
    case(name, RULE)
        .sends(format!("{OFFER}{CLAIMING}"))
        .answer(answer)
        .forwarded(format!("{OFFER}{HIDDEN}"))
        .gets(answer.repeat(2))
}

fn refusals() -> Vec<Case> {
    vec![
        refused(
            "bytes behind an upgrade refused with 200",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ),
        refused(
            "bytes behind an upgrade refused with 204",
            "HTTP/1.1 204 No Content\r\n\r\n",
        ),
        refused(
            "bytes behind an upgrade refused with 304",
            "HTTP/1.1 304 Not Modified\r\n\r\n",
        ),
        refused(
            "bytes behind an upgrade refused with 400",
            "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n",
        ),
        refused(
            "bytes behind an upgrade refused with 401",
            "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
        ),
        refused(
            "bytes behind an upgrade refused with 403",
            "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
        ),
        refused(
            "bytes behind an upgrade refused with 404",
            "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
        ),
        refused(
            "bytes behind an upgrade refused with 500",
            "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        ),
        refused(
            "bytes behind an upgrade refused with 502",
            "HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n",
        ),
        case("rubbish behind an upgrade that is refused", RULE)
            .sends(format!("{OFFER}\x01\x02\r\n\r\n"))
            .forwarded(OFFER)
            .then_told(&echo("GET", "/", ""), 400)
            .end_closed(),
    ]
}

pub fn cases() -> Vec<Case> {
    let mut cases = refusals();
    cases.extend(offers());
    cases
}

fn offers() -> Vec<Case> {
    vec![
        case("a WebSocket", "RFC 6455 §4.2.2")
            .sends(OFFER)
            .once_answered()
            .sends(b"\x81\x80abcd")
            .half_closes()
            .replies([text(SWITCH), text("\x01\x05hello"), Reply::Tunnel])
            .tunnelled(OFFER, b"\x81\x80abcd", &format!("{SWITCH}\x01\x05hello")),
        case("a protocol of one's own", RULE)
            .sends("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n")
            .once_answered()
            .sends("hello")
            .half_closes()
            .replies([text("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n"), text("hello"), Reply::Tunnel])
            .tunnelled(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n",
                b"hello",
                "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\nhello",
            ),
        case("an upgrade that is refused, and a request behind it", RULE)
            .sends(format!("{OFFER}{HIDDEN}"))
            .verbatim()
            .gets(echo("GET", "/", "") + &echo("GET", "/hidden", "")),
        case("an upgrade that is refused with 426, and a request behind it", RULE)
            .sends(format!("{OFFER}{HIDDEN}"))
            .answer("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n")
            .verbatim()
            .gets(
                "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
                    .repeat(2),
            ),
        answered("a 101 without Upgrade", "HTTP/1.1 101 x\r\nConnection: upgrade\r\n\r\n").told(502).discards(),
        answered("a 101 without Connection", "HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n").told(502).discards(),
        answered("a 101 to another protocol", "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
            .told(502)
            .discards(),
        answered("a 101 to two protocols", "HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket, x\r\n\r\n")
            .told(502)
            .discards(),
        case("a 101 that nobody asked for", "RFC 9110 §15.2.2")
            .sends(PLAIN)
            .answer(SWITCH)
            .verbatim()
            .told(502)
            .discards(),
        case("a 101 to a POST", RULE)
            .post(&format!("{KEY}Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n"), "hello")
            .answer(SWITCH)
            .forwarded(format!("POST / HTTP/1.1\r\nHost: a\r\n{KEY}Content-Length: 5\r\n\r\nhello"))
            .told(502)
            .discards(),
        dropped("h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"),
        dropped("h2c without its settings", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        dropped("h2c in capitals", "Connection: Upgrade\r\nUpgrade: H2C\r\n"),
        dropped("an upgrade to TLS", "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n"),
        dropped("an upgrade to HTTP/2.0", "Connection: Upgrade\r\nUpgrade: HTTP/2.0\r\n"),
        dropped("an Upgrade that Connection doesn't name", "Upgrade: websocket\r\n"),
        dropped("an upgrade to nothing", "Connection: upgrade\r\n"),
        dropped("an upgrade to an empty protocol", "Connection: upgrade\r\nUpgrade:\r\n"),
        case("h2c or a WebSocket", RULE)
            .get(&format!("{KEY}Connection: upgrade\r\nUpgrade: h2c, websocket\r\n"))
            .forwarded(OFFER),
        case("an upgrade in HTTP/1.0", RULE)
            .sends(format!("GET / HTTP/1.0\r\nHost: a\r\n{KEY}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"))
            .forwarded(format!("GET / HTTP/1.1\r\nHost: a\r\n{KEY}\r\n"))
            .closes(),
        case("an upgrade of a POST", RULE)
            .post("Connection: upgrade\r\nUpgrade: tcp\r\n", "")
            .verbatim(),
        case("an upgrade of a POST with a body of nothing", RULE)
            .post("Content-Length: 0\r\nConnection: upgrade\r\nUpgrade: SPDY/3.1\r\n", "")
            .verbatim(),
        case("a list of protocols", RULE)
            .get("Connection: upgrade\r\nUpgrade: foo/2,bar\r\nUpgrade: h2c, baz\r\n")
            .forwarded("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: foo/2, bar, baz\r\n\r\n"),
        case("an upgrade of a GET with a body", RULE)
            .sends(format!("GET / HTTP/1.1\r\nHost: a\r\n{KEY}Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello"))
            .forwarded(format!("GET / HTTP/1.1\r\nHost: a\r\n{KEY}Content-Length: 5\r\n\r\nhello")),
    ]
}
