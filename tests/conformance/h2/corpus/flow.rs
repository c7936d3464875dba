//! Windows.

use crate::h2::case::{Case, case};
use lameduck_rig::frames::*;

const RULE: &str = "RFC 9113 §6.9";
const OVERFLOW: &str = "RFC 9113 §6.9.1";
const INITIAL: &str = "RFC 9113 §6.9.2";

pub fn cases() -> Vec<Case> {
    let body = "x".repeat(100_000);
    let large = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let small = |size| [PREFACE.to_vec(), settings(&[(1, 0), (4, size)])].concat();
    vec![
        case("an increment of 0 on the connection", RULE)
            .sends(window_update(0, 0))
            .ends(&[PROTOCOL]),
        case("an increment of 0 on a stream", RULE)
            .post(&[])
            .once_forwarded()
            .sends(window_update(1, 0))
            .unfinished()
            .late(&[PROTOCOL]),
        case("an increment on an idle stream", RULE)
            .sends(window_update(1, 1))
            .ends(&[PROTOCOL]),
        case("the connection's window beyond 2^31 - 1", OVERFLOW)
            .sends(window_update(0, 0x7fff_ffff))
            .ends(&[FLOW_CONTROL]),
        case("a stream's window beyond 2^31 - 1", OVERFLOW)
            .post(&[])
            .once_forwarded()
            .sends(window_update(1, 0x7fff_ffff))
            .unfinished()
            .late(&[FLOW_CONTROL]),
        case("a stream's window beyond 2^31 - 1 by SETTINGS", INITIAL)
            .post(&[])
            .once_forwarded()
            .sends(window_update(1, 0x7fff_0000))
            .sends(settings(&[(4, 0x7fff_ffff)]))
            .unfinished()
            .ends(&[FLOW_CONTROL]),
        case("the largest increment", OVERFLOW)
            .sends(window_update(0, 0x7fff_ffff - 65_535))
            .get(&[])
            .forwarded("GET /"),
        case("the reserved bit of an increment", RULE)
            .sends(window_update(0, 0x8000_0001))
            .get(&[])
            .forwarded("GET /"),
        case("a large answer", RULE)
            .answer(&large)
            .get(&[])
            .forwarded("GET /")
            .gets("200 `100000 bytes`"),
        case("an answer in windows of one byte", INITIAL)
            .hello(small(1))
            .get(&[])
            .forwarded("GET /"),
        case("a window of 0 that opens later", INITIAL)
            .hello(small(0))
            .get(&[])
            .once_answered()
            .sends(settings(&[(4, 65_535)]))
            .forwarded("GET /"),
        case("a window of 0 that opens by WINDOW_UPDATE", INITIAL)
            .hello(small(0))
            .get(&[])
            .once_answered()
            .sends(window_update(1, 1000))
            .sends(settings(&[(4, 65_535)]))
            .forwarded("GET /"),
        case("a window below zero", INITIAL)
            .answer(&large)
            .reads_nothing()
            .get(&[])
            .once_answered()
            .sends(settings(&[(4, 0)]))
            .sends(settings(&[(4, 1 << 20)]))
            .sends(window_update(0, 1 << 20))
            .forwarded("GET /")
            .gets("200 `100000 bytes`"),
        case("more than the stream's window", OVERFLOW)
            .replies([])
            .post(&[])
            .sends(
                (0..80)
                    .map(|_| frame(DATA, 0, 1, &[b'x'; 16_384]))
                    .collect::<Vec<_>>()
                    .concat(),
            )
            .unfinished()
            .on_none()
            .late(&[FLOW_CONTROL]),
    ]
}
