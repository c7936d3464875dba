//! Blocks in several frames.

use crate::h2::case::{Case, case, plain};
use lameduck_rig::frames::*;

const RULE: &str = "RFC 9113 §6.10";
const BLOCK: &str = "RFC 9113 §4.3";

pub fn cases() -> Vec<Case> {
    let block = plain("GET", &[("x", "y")]);
    let (start, rest) = block.split_at(20);
    let (middle, end) = rest.split_at(7);
    let begun = |name| case(name, BLOCK).frame(HEADERS, END_STREAM, 1, start);
    let interrupted = |name, frame: Vec<u8>| begun(name).sends(frame).ends(&[PROTOCOL]);
    let whole = |kind, stream| frame(kind, END_HEADERS, stream, rest);
    vec![
        begun("a block in two frames")
            .sends(whole(CONTINUATION, 1))
            .on(1)
            .forwarded("GET / `x: y`"),
        begun("a block in three frames")
            .frame(CONTINUATION, 0, 1, middle)
            .frame(CONTINUATION, END_HEADERS, 1, end)
            .on(1)
            .forwarded("GET / `x: y`"),
        begun("a CONTINUATION without a byte")
            .frame(CONTINUATION, 0, 1, b"")
            .frame(CONTINUATION, END_HEADERS, 1, rest)
            .on(1)
            .forwarded("GET / `x: y`"),
        case("a block that begins behind an empty HEADERS", RULE)
            .frame(HEADERS, END_STREAM, 1, b"")
            .frame(CONTINUATION, END_HEADERS, 1, &block)
            .on(1)
            .forwarded("GET / `x: y`"),
        case("a CONTINUATION of nothing", RULE)
            .sends(whole(CONTINUATION, 1))
            .ends(&[PROTOCOL]),
        case("a CONTINUATION on the connection", RULE)
            .sends(whole(CONTINUATION, 0))
            .ends(&[PROTOCOL]),
        case("a CONTINUATION behind END_HEADERS", RULE)
            .get(&[])
            .sends(whole(CONTINUATION, 1))
            .any()
            .ends(&[PROTOCOL, STREAM_CLOSED]),
        interrupted("a CONTINUATION of another stream", whole(CONTINUATION, 3)),
        interrupted("DATA within a block", frame(DATA, 0, 1, b"x")),
        interrupted("a PING within a block", frame(PING, 0, 0, &[0; 8])),
        interrupted("SETTINGS within a block", settings(&[])),
        interrupted(
            "another request within a block",
            frame(HEADERS, END_HEADERS | END_STREAM, 3, &block),
        ),
        interrupted(
            "the same request within a block",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &block),
        ),
        interrupted(
            "an unknown frame within a block",
            frame(0xbe, 0, 1, b"what"),
        ),
        interrupted(
            "RST_STREAM within a block",
            frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()),
        ),
        interrupted("WINDOW_UPDATE within a block", window_update(0, 1)),
        interrupted(
            "PRIORITY within a block",
            frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1]),
        ),
        case("HEADERS on stream 0", "RFC 9113 §6.2")
            .frame(HEADERS, END_HEADERS | END_STREAM, 0, &block)
            .ends(&[PROTOCOL]),
        begun("a block that never ends").unfinished().ends(&[
            PROTOCOL,
            ENHANCE_YOUR_CALM,
            NO_ERROR,
        ]),
    ]
}
