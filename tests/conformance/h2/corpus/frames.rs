//! Lengths of frames, padding, what nobody knows.

use crate::h2::case::{Case, case, plain};
use lameduck_rig::frames::*;

const SIZE: &str = "RFC 9113 §4.2";
const PAD: &str = "RFC 9113 §6.1";
const UNKNOWN: &str = "RFC 9113 §4.1";

/// A frame that breaks the connection.
fn broken(name: &'static str, rule: &'static str, bytes: Vec<u8>, codes: &[u32]) -> Case {
    case(name, rule).sends(bytes).ends(codes)
}

/// The same behind a POST's head, whose body it would be.
fn broken_body(name: &'static str, rule: &'static str, bytes: Vec<u8>, codes: &[u32]) -> Case {
    case(name, rule)
        .post(&[])
        .once_forwarded()
        .sends(bytes)
        .unfinished()
        .ends(codes)
}

pub fn cases() -> Vec<Case> {
    let block = plain("GET", &[]);
    let padded = |length: u8, padding: &[u8]| [&[length], block.as_slice(), padding].concat();
    let head = END_HEADERS | END_STREAM;
    vec![
        broken(
            "a HEADERS frame beyond the frame size",
            SIZE,
            frame(HEADERS, head, 1, &vec![0; 16_385]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken_body(
            "a DATA frame beyond the frame size",
            SIZE,
            frame(DATA, 0, 1, &vec![b'x'; 16_385]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken(
            "an unknown frame beyond the frame size",
            SIZE,
            frame(0xbe, 0, 0, &vec![0; 16_385]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        case("a DATA frame of exactly the frame size", SIZE)
            .post(&[])
            .data(&"x".repeat(16_384))
            .forwarded(&format!("POST / `{}…`", "x".repeat(48))),
        broken(
            "a PING of seven bytes",
            "RFC 9113 §6.7",
            frame(PING, 0, 0, &[0; 7]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken(
            "a PING of nine bytes",
            "RFC 9113 §6.7",
            frame(PING, 0, 0, &[0; 9]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken(
            "a GOAWAY of seven bytes",
            "RFC 9113 §6.8",
            frame(GOAWAY, 0, 0, &[0; 7]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken(
            "a WINDOW_UPDATE of three bytes",
            "RFC 9113 §6.9",
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken(
            "a WINDOW_UPDATE of five bytes",
            "RFC 9113 §6.9",
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1, 0]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken_body(
            "an RST_STREAM of three bytes",
            "RFC 9113 §6.4",
            frame(RST_STREAM, 0, 1, &[0, 0, 8]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken(
            "a HEADERS frame with priority but no room for it",
            "RFC 9113 §6.2",
            frame(HEADERS, head | WITH_PRIORITY, 1, &[0; 4]),
            &[FRAME_SIZE, PROTOCOL],
        ),
        case("a PRIORITY of four bytes", "RFC 9113 §6.3")
            .frame(PRIORITY, 0, 1, [0; 4])
            .any()
            .ends(&[FRAME_SIZE, PROTOCOL]),
        case("padding in HEADERS", "RFC 9113 §6.2")
            .headers(END_STREAM | PADDED, padded(3, &[0; 3]))
            .forwarded("GET /"),
        case("padding of length 0 in HEADERS", "RFC 9113 §6.2")
            .headers(END_STREAM | PADDED, padded(0, &[]))
            .forwarded("GET /"),
        case("padding that isn't zero", PAD)
            .headers(END_STREAM | PADDED, padded(3, b"abc"))
            .any()
            .on_none(),
        broken(
            "padding as long as HEADERS",
            "RFC 9113 §6.2",
            frame(
                HEADERS,
                head | PADDED,
                1,
                &padded(block.len() as u8 + 1, &[]),
            ),
            &[PROTOCOL],
        ),
        broken(
            "padding longer than HEADERS",
            "RFC 9113 §6.2",
            frame(HEADERS, head | PADDED, 1, &padded(255, &[])),
            &[PROTOCOL],
        ),
        broken(
            "HEADERS with padding, but empty",
            "RFC 9113 §6.2",
            frame(HEADERS, head | PADDED, 1, &[]),
            &[PROTOCOL, FRAME_SIZE],
        ),
        case("padding and priority in HEADERS", "RFC 9113 §6.2")
            .headers(
                END_STREAM | PADDED | WITH_PRIORITY,
                [&[2, 0, 0, 0, 0, 15], block.as_slice(), &[0, 0]].concat(),
            )
            .forwarded("GET /"),
        case("padding in DATA", PAD)
            .post(&[])
            .frame(DATA, PADDED | END_STREAM, 1, b"\x02hello\0\0")
            .forwarded("POST / `hello`"),
        case("DATA of padding alone", PAD)
            .post(&[])
            .frame(DATA, PADDED, 1, b"\x02\0\0")
            .data("hello")
            .forwarded("POST / `hello`"),
        case("padding counts in no length", "RFC 9113 §8.1.1")
            .post(&[("content-length", "5")])
            .frame(DATA, PADDED | END_STREAM, 1, b"\x02hello\0\0")
            .forwarded("POST / `hello`"),
        broken_body(
            "padding longer than DATA",
            PAD,
            frame(DATA, PADDED, 1, b"\x09hello"),
            &[PROTOCOL],
        ),
        broken_body(
            "padding as long as DATA",
            PAD,
            frame(DATA, PADDED, 1, b"\x06hello"),
            &[PROTOCOL],
        ),
        broken_body(
            "DATA with padding, but empty",
            PAD,
            frame(DATA, PADDED, 1, b""),
            &[PROTOCOL, FRAME_SIZE],
        ),
        case("an unknown frame on the connection", UNKNOWN)
            .frame(0xbe, 0xff, 0, b"what")
            .get(&[])
            .forwarded("GET /"),
        case("an unknown frame on an idle stream", UNKNOWN)
            .frame(0xbe, 0xff, 77, b"what")
            .get(&[])
            .forwarded("GET /"),
        case("an unknown frame within a body", UNKNOWN)
            .post(&[])
            .part("hel")
            .frame(0xbe, 0xff, 1, b"what")
            .data("lo")
            .forwarded("POST / `hello`"),
        case("flags that nobody knows", UNKNOWN)
            .headers(END_STREAM | 0xd2, &block)
            .forwarded("GET /"),
        case("the reserved bit of a stream", UNKNOWN)
            .frame(HEADERS, head, 0x8000_0001, &block)
            .on(1)
            .forwarded("GET /"),
        case("PRIORITY_UPDATE", "RFC 9218 §7.1")
            .frame(0x10, 0, 0, b"\0\0\0\x01u=0")
            .get(&[])
            .forwarded("GET /"),
        case("ALTSVC and ORIGIN from a client", "RFC 7838 §4")
            .frame(0x0a, 0, 0, b"\0\0")
            .frame(0x0c, 0, 0, b"\0\0")
            .get(&[])
            .forwarded("GET /"),
    ]
}
