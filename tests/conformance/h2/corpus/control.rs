//! Frames about the connection.

use crate::h2::case::{Case, case, plain};
use lameduck_rig::frames::*;

pub fn cases() -> Vec<Case> {
    let promise = [&4u32.to_be_bytes()[..], &plain("GET", &[])].concat();
    let priority = |stream: u32, on: u32| {
        frame(
            PRIORITY,
            0,
            stream,
            &[&on.to_be_bytes()[..], &[15]].concat(),
        )
    };
    let goaway = |code: u32| [&0u32.to_be_bytes()[..], &code.to_be_bytes(), b"bye"].concat();
    vec![
        case("a PING", "RFC 9113 §6.7")
            .frame(PING, 0, 0, b"12345678")
            .get(&[])
            .forwarded("GET /"),
        case("a PING on a stream", "RFC 9113 §6.7")
            .frame(PING, 0, 1, b"12345678")
            .ends(&[PROTOCOL]),
        case("an acknowledgement of no PING", "RFC 9113 §6.7")
            .frame(PING, ACK, 0, b"12345678")
            .get(&[])
            .forwarded("GET /"),
        case("a GOAWAY on a stream", "RFC 9113 §6.8")
            .frame(GOAWAY, 0, 1, goaway(0))
            .ends(&[PROTOCOL]),
        case("a GOAWAY within a request", "RFC 9113 §6.8")
            .post(&[])
            .part("hel")
            .frame(GOAWAY, 0, 0, goaway(NO_ERROR))
            .data("lo")
            .forwarded("POST / `hello`")
            .maybe_last(),
        case("a GOAWAY with an error", "RFC 9113 §6.8")
            .frame(GOAWAY, 0, 0, goaway(PROTOCOL))
            .maybe_last(),
        case("a PUSH_PROMISE", "RFC 9113 §8.4")
            .frame(PUSH_PROMISE, END_HEADERS, 1, &promise)
            .ends(&[PROTOCOL]),
        case("a PUSH_PROMISE within a request", "RFC 9113 §8.4")
            .post(&[])
            .once_forwarded()
            .frame(PUSH_PROMISE, END_HEADERS, 1, &promise)
            .unfinished()
            .ends(&[PROTOCOL]),
        case("a PRIORITY on the connection", "RFC 9113 §6.3")
            .sends(priority(0, 3))
            .ends(&[PROTOCOL]),
        case("a PRIORITY on an idle stream", "RFC 9113 §6.3")
            .sends(priority(9, 3))
            .get(&[])
            .forwarded("GET /"),
        case("a PRIORITY of a stream on itself", "RFC 7540 §5.3.1")
            .sends(priority(1, 1))
            .get(&[])
            .on_none()
            .any()
            .late(&[PROTOCOL]),
        case("HEADERS that depend on themselves", "RFC 7540 §5.3.1")
            .headers(
                END_STREAM | WITH_PRIORITY,
                [&[0, 0, 0, 1, 15][..], &plain("GET", &[])].concat(),
            )
            .any()
            .late(&[PROTOCOL]),
        case("HEADERS with priority", "RFC 9113 §5.3.2")
            .headers(
                END_STREAM | WITH_PRIORITY,
                [&[0x80, 0, 0, 0, 15][..], &plain("GET", &[])].concat(),
            )
            .forwarded("GET /"),
        case("a PRIORITY behind the answer", "RFC 9113 §5.1")
            .get(&[])
            .once_answered()
            .sends(priority(1, 3))
            .forwarded("GET /"),
    ]
}
