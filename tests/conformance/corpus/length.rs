//! `Content-Length`: one number, or refused.

use crate::case::{Case, case};

const RULE: &str = "RFC 9110 §8.6";
const ONCE: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";

fn refused(name: &'static str, value: &str) -> Case {
    case(name, RULE)
        .post(&format!("Content-Length: {value}\r\n"), "hello")
        .refused(400)
}

pub fn cases() -> Vec<Case> {
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
            .get("Content-Length: 0\r\n")
            .verbatim(),
        case("a GET with a body of some bytes", "RFC 9110 §9.3.1")
            .sends("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            .verbatim(),
        case("a length in HTTP/1.0", RULE)
            .sends("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            .forwarded(ONCE)
            .closes(),
        case("two equal lengths", RULE)
            .post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")
            .forwarded(ONCE),
        case("a list of equal lengths", RULE)
            .post("Content-Length: 5, 5\r\n", "hello")
            .forwarded(ONCE),
        case("a length and a list of it", RULE)
            .post("Content-Length: 5\r\nContent-Length: 5 ,5\r\n", "hello")
            .forwarded(ONCE),
        case("leading zeros", RULE)
            .post("Content-Length: 0005\r\n", "hello")
            .forwarded(ONCE),
        case("a length and the same with a zero before it", RULE)
            .post("Content-Length: 5\r\nContent-Length: 05\r\n", "hello")
            .forwarded(ONCE),
        case("two lengths that differ", "RFC 9112 §6.3")
            .post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!")
            .refused(400),
        case("two lengths that differ, the larger first", "RFC 9112 §6.3")
            .post("Content-Length: 6\r\nContent-Length: 5\r\n", "hello!")
            .refused(400),
        case("a length and an empty one", RULE)
            .post("Content-Length: 5\r\nContent-Length:\r\n", "hello")
            .refused(400),
        case("Content_Length", "RFC 9110 §5.1")
            .post("Content_Length: 5\r\nContent-Length: 0\r\n", "")
            .refused(400),
        refused("a list of lengths that differ", "5, 6"),
        refused("a list with nothing behind its comma", "5,"),
        refused("a list with nothing before its comma", ", 5"),
        refused("a plus sign", "+5"),
        refused("a minus sign", "-5"),
        refused("minus zero", "-0"),
        refused("an empty length", ""),
        refused("two numbers", "5 5"),
        refused("a fraction", "5.0"),
        refused("an exponent", "5e0"),
        refused("a hexadecimal length", "0x5"),
        refused("a length with a letter behind it", "5a"),
        refused("a length in quotes", "\"5\""),
        refused("an underscore in a length", "0_5"),
        refused("a vertical tab behind a length", "5\x0b"),
        refused("a form feed before a length", "\x0c5"),
        refused("a NUL behind a length", "5\0"),
        refused("a digit of another script", "\u{0665}"),
        refused("2^63", "9223372036854775808"),
        refused("2^64 + 5", "18446744073709551621"),
        refused("a length of a hundred digits", &"9".repeat(100)),
    ]
}
