//! Which streams there are, and what may come on them when.

use crate::h2::case::{Case, case, plain};
use lameduck_rig::frames::*;

const IDS: &str = "RFC 9113 §5.1.1";
const STATES: &str = "RFC 9113 §5.1";

pub fn cases() -> Vec<Case> {
    let get = |stream| {
        frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream,
            &plain("GET", &[]),
        )
    };
    let reset = |stream, code: u32| frame(RST_STREAM, 0, stream, &code.to_be_bytes());
    vec![
        case("an even stream", IDS).sends(get(2)).ends(&[PROTOCOL]),
        case("a stream below the last one", IDS)
            .sends(get(5))
            .sends(get(3))
            .any()
            .ends(&[PROTOCOL, STREAM_CLOSED]),
        case("a stream that was skipped", IDS)
            .sends(get(5))
            .on(5)
            .forwarded("GET /"),
        case("HEADERS on a stream that has ended", STATES)
            .get(&[])
            .once_answered()
            .sends(get(1))
            .any()
            .ends(&[PROTOCOL, STREAM_CLOSED]),
        case("DATA on the connection", "RFC 9113 §6.1")
            .frame(DATA, 0, 0, b"x")
            .ends(&[PROTOCOL]),
        case("DATA on an idle stream", STATES)
            .frame(DATA, END_STREAM, 1, b"x")
            .ends(&[PROTOCOL, STREAM_CLOSED]),
        case("DATA behind END_STREAM", STATES)
            .get(&[])
            .data("x")
            .any()
            .late(&[STREAM_CLOSED, PROTOCOL]),
        case("DATA behind the answer", STATES)
            .get(&[])
            .once_answered()
            .data("x")
            .any()
            .late(&[STREAM_CLOSED]),
        case("HEADERS behind END_STREAM", STATES)
            .replies([])
            .get(&[])
            .once_forwarded()
            .sends(get(1))
            .any()
            .late(&[STREAM_CLOSED, PROTOCOL]),
        case("a body behind a body", STATES)
            .post(&[])
            .data("hello")
            .data("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            .any()
            .late(&[STREAM_CLOSED, PROTOCOL]),
        case("RST_STREAM on the connection", "RFC 9113 §6.4")
            .sends(reset(0, CANCEL))
            .ends(&[PROTOCOL]),
        case("RST_STREAM on an idle stream", "RFC 9113 §6.4")
            .sends(reset(1, CANCEL))
            .ends(&[PROTOCOL]),
        case(
            "RST_STREAM on an idle stream of the server's",
            "RFC 9113 §6.4",
        )
        .sends(reset(2, CANCEL))
        .ends(&[PROTOCOL]),
        case("RST_STREAM within a body", "RFC 9113 §6.4")
            .post(&[])
            .part("hel")
            .once_forwarded()
            .sends(reset(1, CANCEL))
            .on_none()
            .unfinished(),
        case("RST_STREAM within a body of known length", "RFC 9113 §6.4")
            .post(&[("content-length", "5")])
            .part("hel")
            .once_forwarded()
            .sends(reset(1, CANCEL))
            .on_none()
            .unfinished(),
        case("RST_STREAM with NO_ERROR within a body", "RFC 9113 §6.4")
            .post(&[])
            .part("hel")
            .once_forwarded()
            .sends(reset(1, NO_ERROR))
            .on_none()
            .unfinished(),
        case("RST_STREAM with a code that nobody knows", "RFC 9113 §7")
            .post(&[])
            .part("hel")
            .once_forwarded()
            .sends(reset(1, 0xfefe))
            .on_none()
            .unfinished(),
        case("RST_STREAM behind the answer", "RFC 9113 §5.1")
            .get(&[])
            .once_answered()
            .sends(reset(1, CANCEL))
            .forwarded("GET /"),
        case("WINDOW_UPDATE behind the answer", "RFC 9113 §5.1")
            .get(&[])
            .once_answered()
            .sends(window_update(1, 1))
            .forwarded("GET /"),
        case("DATA behind our RST_STREAM", STATES)
            .post(&[])
            .part("hel")
            .once_forwarded()
            .sends(reset(1, CANCEL))
            .data("lo")
            .on_none()
            .unfinished()
            .late(&[STREAM_CLOSED, PROTOCOL]),
        case("an empty DATA ends the body", "RFC 9113 §6.1")
            .post(&[])
            .part("hello")
            .data("")
            .forwarded("POST / `hello`"),
        case("a body without a byte", "RFC 9113 §6.1")
            .post(&[])
            .data("")
            .forwarded("POST /"),
        case("many requests at once", IDS)
            .sends((0..50).map(|n| get(2 * n + 1)).collect::<Vec<_>>().concat())
            .on(99)
            .any()
            .straggles()
            .gets("200 `answer to GET /`"),
    ]
}
