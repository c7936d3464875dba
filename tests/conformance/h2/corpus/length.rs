//! `content-length` and what really comes.

use crate::h2::case::{Case, case, plain};
use lameduck_rig::frames::*;

const RULE: &str = "RFC 9113 §8.1.1";
const FORM: &str = "RFC 9110 §8.6";

fn sent(name: &'static str, rule: &'static str, lengths: &[&str], body: &str) -> Case {
    let fields: Vec<_> = lengths
        .iter()
        .map(|length| ("content-length", *length))
        .collect();
    case(name, rule).post(&fields).data(body)
}

fn bad(name: &'static str, lengths: &[&str]) -> Case {
    sent(name, FORM, lengths, "hello").malformed()
}

/// What there is too much of would be the next request.
const SMUGGLED: &str = "helloGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

pub fn cases() -> Vec<Case> {
    vec![
        sent("a length that is right", RULE, &["5"], "hello").forwarded("POST / `hello`"),
        sent(
            "a body longer than its length (CL.H2)",
            RULE,
            &["5"],
            SMUGGLED,
        )
        .malformed_late(),
        sent("a body shorter than its length", RULE, &["50"], "hello").malformed_late(),
        sent("a body behind length zero (H2.CL)", RULE, &["0"], SMUGGLED).malformed_late(),
        sent("an empty body of some length", RULE, &["5"], "").malformed_late(),
        case("a length without a body", RULE)
            .headers(END_STREAM, plain("POST", &[("content-length", "5")]))
            .malformed(),
        case("a GET's length without a body", RULE)
            .get(&[("content-length", "5")])
            .malformed(),
        case("length zero without a body", RULE)
            .headers(END_STREAM, plain("POST", &[("content-length", "0")]))
            .forwarded("POST /"),
        case("too much in a frame of its own", RULE)
            .post(&[("content-length", "5")])
            .part("hello")
            .data("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            .malformed_late(),
        case("too much that comes late", RULE)
            .post(&[("content-length", "5")])
            .part("hello")
            .once_forwarded()
            .data("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            .any()
            .late(&[PROTOCOL]),
        case("too little, then trailers", RULE)
            .post(&[("content-length", "50")])
            .part("hello")
            .trailers(&[("x", "y")])
            .malformed_late(),
        case("the right length, then trailers", RULE)
            .post(&[("content-length", "5")])
            .part("hello")
            .trailers(&[("x", "y")])
            .any()
            .gets("200 `answer to POST /`"),
        bad("two differing lengths", &["5", "6"]),
        sent("two equal lengths", FORM, &["5", "5"], "hello")
            .any()
            .on_none(),
        sent("a list of equal lengths", FORM, &["5, 5"], "hello")
            .any()
            .on_none(),
        bad("a list of differing lengths", &["5, 6"]),
        bad("an empty length", &[""]),
        bad("a length of +5", &["+5"]),
        bad("a length of -5", &["-5"]),
        bad("a length of 0x5", &["0x5"]),
        bad("a length of 5.0", &["5.0"]),
        bad("a length of 5e0", &["5e0"]),
        bad("a length with a blank", &["5 5"]),
        bad("a length with a blank before it", &[" 5"]),
        bad("a length with CR LF", &["5\r\nx: y"]),
        bad("a length with a comma behind it", &["5,"]),
        bad("a length beyond 2^64", &["18446744073709551621"]),
        bad("a length of 2^64 - 1", &["18446744073709551615"]).unfinished(),
        bad("a length in other digits", &["５"]),
        sent("a length with zeros before it", FORM, &["0005"], "hello")
            .any()
            .on_none(),
        case("a body without a length", RULE)
            .post(&[])
            .part("hel")
            .data("lo")
            .forwarded("POST / `hello`"),
        case("a body that looks like chunks", RULE)
            .post(&[])
            .data("0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            .any()
            .gets("200 `answer to POST /`"),
        case("a GET with a body", "RFC 9110 §9.3.1")
            .headers(0, plain("GET", &[]))
            .data("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            .any()
            .gets("200 `answer to GET /`"),
        case("a HEAD with a body", "RFC 9110 §9.3.2")
            .headers(0, plain("HEAD", &[]))
            .data("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            .any()
            .gets("200"),
        case("a body that never ends", "RFC 9113 §8.1")
            .post(&[("content-length", "5")])
            .part("hel")
            .unfinished()
            .on_none(),
    ]
}
