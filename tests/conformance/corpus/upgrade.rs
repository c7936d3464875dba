//! `Upgrade`: what is offered, what is taken, and what hides behind it.

use crate::case::{Case, Reply, case, echo};

const RULE: &str = "RFC 9110 §7.8";
const PLAIN: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OFFER: &str = "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const KEY: &str = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
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

pub fn cases() -> Vec<Case> {
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
            .post(&format!("{KEY}Connection: upgrade\r\nUpgrade: websocket\r\n"), "")
            .forwarded(format!("POST / HTTP/1.1\r\nHost: a\r\n{KEY}\r\n")),
        case("an upgrade of a GET with a body", RULE)
            .sends(format!("GET / HTTP/1.1\r\nHost: a\r\n{KEY}Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello"))
            .forwarded(format!("GET / HTTP/1.1\r\nHost: a\r\n{KEY}Content-Length: 5\r\n\r\nhello")),
    ]
}
