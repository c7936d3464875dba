//! CONNECT, plain and extended (RFC 8441).

use crate::case::Reply;
use crate::h2::case::{Case, case};
use lameduck_rig::frames::*;
use lameduck_rig::hpack::block;

const RULE: &str = "RFC 9113 §8.5";
const EXTENDED: &str = "RFC 8441 §4";

const WEBSOCKET: [(&str, &str); 6] = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "a"),
    (":path", "/chat"),
    ("sec-websocket-version", "13"),
];

/// Refused, whatever the words: lameduck is no forward proxy.
fn refused(name: &'static str, rule: &'static str, fields: &[(&str, &str)]) -> Case {
    case(name, rule)
        .headers(0, block(fields))
        .refused(&[PROTOCOL, REFUSED_STREAM, CANCEL])
}

fn websocket_without(name: &'static str, field: &str) -> Case {
    let rest: Vec<_> = WEBSOCKET
        .into_iter()
        .filter(|(other, _)| *other != field)
        .collect();
    refused(name, EXTENDED, &rest)
}

fn websocket_with(name: &'static str, protocol: &str) -> Case {
    let mut fields = WEBSOCKET;
    fields[1].1 = protocol;
    refused(name, EXTENDED, &fields)
}

/// RFC 6455 §4.1: whoever has made the key looks at the answer to it.
fn websocket_answered(name: &'static str, accept: &'static str, answer: &str) -> Case {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\n{accept}Connection: upgrade\r\nUpgrade: websocket\r\n\r\nhello"
    );
    case(name, EXTENDED)
        .headers(0, block(&WEBSOCKET))
        .replies([Reply::Accept(head.leak()), Reply::Close])
        .any()
        .gets(answer)
}

pub fn cases() -> Vec<Case> {
    let connect = [(":method", "CONNECT"), (":authority", "a:443")];
    vec![
        refused("CONNECT", RULE, &connect),
        case("CONNECT that ends at once", RULE)
            .raw(&connect)
            .refused(&[PROTOCOL]),
        refused(
            "CONNECT with a path and a scheme",
            RULE,
            &[
                (":method", "CONNECT"),
                (":scheme", "http"),
                (":authority", "a:443"),
                (":path", "/"),
            ],
        ),
        refused(
            "CONNECT without :authority",
            RULE,
            &[(":method", "CONNECT")],
        ),
        refused(
            "CONNECT without a port",
            RULE,
            &[(":method", "CONNECT"), (":authority", "a")],
        ),
        refused(
            "CONNECT with CR LF",
            RULE,
            &[(":method", "CONNECT"), (":authority", "a:443\r\nx: y")],
        ),
        case("CONNECT with what would be a request", RULE)
            .headers(0, block(&connect))
            .part("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            .refused(&[PROTOCOL, REFUSED_STREAM, CANCEL, STREAM_CLOSED]),
        websocket_without("a WebSocket without :path", ":path"),
        websocket_without("a WebSocket without :scheme", ":scheme"),
        websocket_without("a WebSocket without :authority", ":authority"),
        websocket_with("an unknown :protocol", "what"),
        websocket_with("an empty :protocol", ""),
        websocket_with("a :protocol with CR LF", "websocket\r\nx: y"),
        websocket_with("a :protocol of h2c", "h2c"),
        websocket_with("a :protocol that is a list", "websocket, what"),
        case("a WebSocket whose backend doesn't upgrade", EXTENDED)
            .headers(0, block(&WEBSOCKET))
            .replies([Reply::Send(
                b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
            )])
            .any()
            .gets("403"),
        case("a WebSocket whose backend says 200", EXTENDED)
            .headers(0, block(&WEBSOCKET))
            .replies([Reply::Send(
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
            )])
            .any()
            .on_none(),
        websocket_answered(
            "a WebSocket",
            "Sec-WebSocket-Accept: {accept}\r\n",
            "200 `hello`",
        ),
        websocket_answered(
            "a WebSocket with another's accept",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
            "502",
        ),
        websocket_answered("a WebSocket without an accept", "", "502"),
        websocket_answered(
            "a WebSocket with two accepts",
            "Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Accept: {accept}\r\n",
            "502",
        ),
    ]
}
