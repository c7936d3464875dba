//! Trailers of requests.

use crate::h2::case::{Case, case};
use lameduck_rig::frames::*;
use lameduck_rig::hpack::block;

const RULE: &str = "RFC 9113 §8.1";

fn with(name: &'static str, rule: &'static str, fields: &[(&str, &str)]) -> Case {
    case(name, rule)
        .post(&[("te", "trailers")])
        .part("hello")
        .trailers(fields)
}

/// Never whole at the backend.
fn bad(name: &'static str, rule: &'static str, fields: &[(&str, &str)]) -> Case {
    with(name, rule, fields).malformed_late()
}

/// Pseudo-header fields in trailers are dropped by the reader of blocks, before anybody could refuse them.
fn dropped(name: &'static str, rule: &'static str, fields: &[(&str, &str)]) -> Case {
    with(name, rule, fields).forwarded("POST / `te: trailers` `hello`")
}

/// RFC 9110 §6.5.1: what frames, routes or authorises means nothing there. It may be dropped or refused.
fn forbidden(name: &'static str, field: (&str, &str)) -> Case {
    with(name, "RFC 9110 §6.5.1", &[field])
        .any()
        .dropped_or_refused()
}

pub fn cases() -> Vec<Case> {
    vec![
        with("trailers", RULE, &[("x", "y")])
            .any()
            .gets("200 `answer to POST /`"),
        with("two trailers", RULE, &[("x", "y"), ("z", "a")])
            .any()
            .gets("200 `answer to POST /`"),
        with("trailers of nothing", RULE, &[])
            .any()
            .gets("200 `answer to POST /`"),
        case("trailers without a body", RULE)
            .post(&[])
            .trailers(&[("x", "y")])
            .any()
            .gets("200 `answer to POST /`"),
        case("trailers without END_STREAM", RULE)
            .post(&[])
            .part("hello")
            .headers(0, block(&[("x", "y")]))
            .malformed_late(),
        case("DATA behind trailers", RULE)
            .post(&[])
            .part("hello")
            .trailers(&[("x", "y")])
            .frame(
                DATA,
                END_STREAM,
                1,
                b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
            )
            .any()
            .late(&[STREAM_CLOSED, PROTOCOL]),
        dropped(
            "a pseudo-header field in trailers",
            RULE,
            &[(":path", "/admin")],
        ),
        dropped(":method in trailers", RULE, &[(":method", "GET")]),
        dropped(":status in trailers", RULE, &[(":status", "200")]),
        bad(
            "an upper-case name in trailers",
            "RFC 9113 §8.2.1",
            &[("X", "y")],
        ),
        bad("an empty name in trailers", "RFC 9113 §8.2.1", &[("", "y")]),
        bad(
            "a blank in a trailer's name",
            "RFC 9113 §8.2.1",
            &[("x y", "z")],
        ),
        bad(
            "CR LF in a trailer's name",
            "RFC 9113 §8.2.1",
            &[("x: y\r\nz", "z")],
        ),
        bad(
            "CR LF in a trailer's value",
            "RFC 9113 §8.2.1",
            &[("x", "y\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")],
        ),
        bad(
            "LF in a trailer's value",
            "RFC 9113 §8.2.1",
            &[("x", "y\nz")],
        ),
        bad(
            "NUL in a trailer's value",
            "RFC 9113 §8.2.1",
            &[("x", "y\0")],
        ),
        bad(
            "connection in trailers",
            "RFC 9113 §8.2.2",
            &[("connection", "close")],
        ),
        forbidden(
            "transfer-encoding in trailers",
            ("transfer-encoding", "chunked"),
        ),
        forbidden("content-length in trailers", ("content-length", "5")),
        forbidden("host in trailers", ("host", "b")),
        forbidden("authorization in trailers", ("authorization", "Basic eDp5")),
        forbidden("cookie in trailers", ("cookie", "a=b")),
        forbidden(
            "x-forwarded-for in trailers",
            ("x-forwarded-for", "10.0.0.1"),
        ),
    ]
}
