//! Much of what costs the sender little (RFC 9113 §10.5).

use crate::h2::case::{Case, case, plain};
use lameduck_rig::frames::*;
use lameduck_rig::hpack::block;

const RULE: &str = "RFC 9113 §10.5";
const CALM: &[u32] = &[ENHANCE_YOUR_CALM, PROTOCOL, NO_ERROR, FRAME_SIZE];

fn many(count: usize, frame: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count as u32).flat_map(frame).collect()
}

/// Too much: the connection may end, or go on.
fn flood(name: &'static str, bytes: Vec<u8>) -> Case {
    case(name, RULE).sends(bytes).any().late(CALM).straggles()
}

pub fn cases() -> Vec<Case> {
    let cookies: Vec<_> = (0..90).map(|_| ("x", "y")).collect();
    let long = "y".repeat(100_000);
    let crumbs: Vec<_> = (0..5000).map(|_| ("cookie", "a")).collect();
    vec![
        flood(
            "10,000 PINGs",
            many(10_000, |n| frame(PING, 0, 0, &u64::from(n).to_be_bytes())),
        ),
        flood(
            "10,000 SETTINGS",
            many(10_000, |_| settings(&[(4, 65_535)])),
        ),
        flood(
            "10,000 PRIORITYs",
            many(10_000, |n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 1])),
        ),
        flood(
            "10,000 WINDOW_UPDATEs",
            many(10_000, |_| window_update(0, 1)),
        ),
        flood(
            "10,000 unknown frames",
            many(10_000, |_| frame(0xbe, 0, 0, b"")),
        ),
        case("10,000 DATAs without a byte", RULE)
            .post(&[])
            .sends(many(10_000, |_| frame(DATA, 0, 1, b"")))
            .unfinished()
            .on_none()
            .late(CALM),
        case("10,000 DATAs of padding", RULE)
            .post(&[])
            .sends(many(10_000, |_| frame(DATA, PADDED, 1, b"\0")))
            .unfinished()
            .on_none()
            .late(CALM),
        case("1,000 CONTINUATIONs", RULE)
            .frame(HEADERS, END_STREAM, 1, plain("GET", &[]))
            .sends(many(1000, |_| {
                frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(1000))]))
            }))
            .unfinished()
            .ends(CALM),
        case("10,000 CONTINUATIONs without a byte", RULE)
            .frame(HEADERS, END_STREAM, 1, plain("GET", &[]))
            .sends(many(10_000, |_| frame(CONTINUATION, 0, 1, b"")))
            .unfinished()
            .ends(CALM),
        flood(
            "1,000 requests that are reset at once",
            many(1000, |n| {
                let stream = 2 * n + 1;
                let head = frame(
                    HEADERS,
                    END_HEADERS | END_STREAM,
                    stream,
                    &plain("GET", &[]),
                );
                [head, frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())].concat()
            }),
        ),
        flood(
            "500 requests that make the proxy reset them",
            many(500, |n| {
                let stream = 2 * n + 1;
                let head = frame(HEADERS, END_HEADERS, stream, &plain("POST", &[]));
                [head, window_update(stream, 0)].concat()
            }),
        ),
        case("90 fields", RULE)
            .get(&cookies)
            .any()
            .gets("200 `answer to GET /`"),
        case("5,000 cookie crumbs", RULE)
            .frame(HEADERS, END_STREAM, 1, plain("GET", &[]))
            .sends(many(3, |n| {
                frame(
                    CONTINUATION,
                    if n == 2 { END_HEADERS } else { 0 },
                    1,
                    &block(&crumbs[..1600]),
                )
            }))
            .on(1)
            .any()
            .late(CALM),
        case("a value of 100,000 bytes", RULE)
            .long(&[plain("GET", &[]), block(&[("x", &long)])].concat())
            .late(CALM),
        case("a hundred uses of one large entry", RULE)
            .headers(END_STREAM, [plain("GET", &[]), bomb()].concat())
            .late(CALM),
    ]
}

/// A field of 3,900 bytes that goes into the table, and many references of one byte to it.
fn bomb() -> Vec<u8> {
    let value = "y".repeat(3900);
    let mut entry = block(&[("x", &value)]);
    entry[0] = 0x40;
    entry.extend([0x80 | 62; 2000]);
    entry
}
