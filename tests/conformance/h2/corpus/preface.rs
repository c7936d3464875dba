//! How a connection begins.

use crate::h2::case::{Case, case};
use lameduck_rig::frames::*;

const PREFACE_RULE: &str = "RFC 9113 §3.4";
const SETTINGS_RULE: &str = "RFC 9113 §6.5";
const VALUES: &str = "RFC 9113 §6.5.2";

/// A preface and this.
fn begun(name: &'static str, rule: &'static str, frames: &[u8]) -> Case {
    case(name, rule).hello([PREFACE, frames].concat())
}

/// A SETTINGS frame that breaks the connection, after a proper start.
fn broken(name: &'static str, rule: &'static str, bytes: Vec<u8>, codes: &[u32]) -> Case {
    case(name, rule).sends(bytes).ends(codes)
}

/// A value that is no fault.
fn taken(name: &'static str, values: &[(u16, u32)]) -> Case {
    case(name, VALUES)
        .sends(settings(values))
        .get(&[])
        .forwarded("GET /")
}

pub fn cases() -> Vec<Case> {
    let request = frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &crate::h2::case::plain("GET", &[]),
    );
    vec![
        case("a plain request", "RFC 9113 §8.1")
            .get(&[])
            .forwarded("GET /"),
        begun(
            "a request in the same segment as the preface",
            PREFACE_RULE,
            &[settings(&[(1, 0)]), request.clone()].concat(),
        )
        .on(1)
        .forwarded("GET /"),
        case("a preface that is wrong at its end", PREFACE_RULE)
            .hello(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX")
            .sends(settings(&[]))
            .ends(&[PROTOCOL]),
        case("a preface of another version", PREFACE_RULE)
            .hello(b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n")
            .sends(settings(&[]))
            .ends(&[PROTOCOL]),
        begun(
            "no SETTINGS behind the preface, but a request",
            PREFACE_RULE,
            &request,
        )
        .on(1)
        .forwarded("GET /"),
        begun(
            "no SETTINGS behind the preface, but a PING",
            PREFACE_RULE,
            &frame(PING, 0, 0, &[0; 8]),
        ),
        begun(
            "an acknowledgement as the first SETTINGS",
            PREFACE_RULE,
            &frame(SETTINGS, ACK, 0, b""),
        )
        .ends(&[PROTOCOL]),
        broken(
            "a second preface",
            PREFACE_RULE,
            PREFACE.to_vec(),
            &[PROTOCOL],
        )
        .ends(&[PROTOCOL, FRAME_SIZE]),
        broken(
            "SETTINGS on a stream",
            SETTINGS_RULE,
            frame(SETTINGS, 0, 1, b""),
            &[PROTOCOL],
        ),
        broken(
            "SETTINGS of five bytes",
            SETTINGS_RULE,
            frame(SETTINGS, 0, 0, b"\0\x03\0\0\0"),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken(
            "SETTINGS of seven bytes",
            SETTINGS_RULE,
            frame(SETTINGS, 0, 0, b"\0\x03\0\0\0\x01\0"),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken(
            "an acknowledgement with a value",
            SETTINGS_RULE,
            frame(SETTINGS, ACK, 0, b"\0\x03\0\0\0\x01"),
            &[FRAME_SIZE, PROTOCOL],
        ),
        broken("ENABLE_PUSH of 2", VALUES, settings(&[(2, 2)]), &[PROTOCOL]),
        broken(
            "a window of 2^31",
            VALUES,
            settings(&[(4, 0x8000_0000)]),
            &[FLOW_CONTROL, PROTOCOL],
        ),
        broken(
            "a frame size of 16,383",
            VALUES,
            settings(&[(5, 16_383)]),
            &[PROTOCOL],
        ),
        broken(
            "a frame size of 2^24",
            VALUES,
            settings(&[(5, 0x100_0000)]),
            &[PROTOCOL],
        ),
        broken(
            "ENABLE_CONNECT_PROTOCOL of 2",
            "RFC 8441 §3",
            settings(&[(8, 2)]),
            &[PROTOCOL],
        ),
        taken("the largest window", &[(4, 0x7fff_ffff)]),
        taken("the largest frame size", &[(5, 0xff_ffff)]),
        taken("a table of 2^32 - 1", &[(1, u32::MAX), (1, 0)]),
        taken("no room for concurrent pushes", &[(3, 0)]),
        taken("a setting that nobody knows", &[(0xfafa, 7)]),
        taken("a setting twice", &[(4, 1), (4, 65_535)]),
        taken("a header list of 1 byte", &[(6, 1 << 20), (6, 16_384)]),
        case("an acknowledgement that nobody waits for", SETTINGS_RULE)
            .frame(SETTINGS, ACK, 0, b"")
            .frame(SETTINGS, ACK, 0, b"")
            .get(&[])
            .on_none()
            .any()
            .late(&[PROTOCOL]),
    ]
}
