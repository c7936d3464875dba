//! `Content-Length`: one number, or refused.

use crate::case::{Case, case};

const RULE: &str = "RFC 9110 §8.6";
const DIGITS: &str = "nginx and HAProxy refuse it, too";

fn refused(name: &'static str, value: &str) -> Case {
    case(name, RULE)
        .post(&format!("Content-Length: {value}\r\n"), "hello")
        .refused(400)
}

pub fn cases() -> Vec<Case> {
    let _ = DIGITS;
    vec![
        case("a length", RULE)
            .post("Content-Length: 5\r\n", "hello")
            .verbatim()
            .reuses(),
        case("a length of nothing", RULE)
            .post("Content-Length: 0\r\n", "")
            .verbatim(),
        case("a length without a space before it", RULE)
            .post("Content-Length:5\r\n", "hello")
            .verbatim(),
        case("a length with tabs around it", RULE)
            .post("Content-Length:\t5\t\r\n", "hello")
            .verbatim(),
        case("a length in capitals", RULE)
            .post("CONTENT-LENGTH: 5\r\n", "hello")
            .verbatim(),
        case("a POST without a length", "RFC 9112 §6.3")
            .post("", "")
            .verbatim(),
        case("a GET with a body", "RFC 9110 §9.3.1")
            .get("Content-Length: 5\r\n")
            .and_no_more(),
        case("two equal lengths", RULE)
            .post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")
            .forwarded("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        case("a list of equal lengths", RULE)
            .post("Content-Length: 5, 5\r\n", "hello")
            .forwarded("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        case("leading zeros", RULE)
            .post("Content-Length: 0005\r\n", "hello")
            .forwarded("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        case("two lengths that differ", "RFC 9112 §6.3")
            .post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!")
            .refused(400),
        refused("a plus sign", "+5"),
        refused("a minus sign", "-5"),
        refused("an empty length", ""),
    ]
}
