//! Names and values of fields.

use crate::case::{Case, case};

const NAME: &str = "RFC 9110 §5.1";
const VALUE: &str = "RFC 9110 §5.5";
const COLON: &str = "RFC 9112 §5.1";

fn refused(name: &'static str, rule: &'static str, line: &[u8]) -> Case {
    with(name, rule, line).refused(400)
}

fn with(name: &'static str, rule: &'static str, line: &[u8]) -> Case {
    let request = [b"GET / HTTP/1.1\r\nHost: a\r\n", line, b"\r\n\r\n"].concat();
    case(name, rule).sends(request)
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        with(
            "a name of all signs of a token",
            NAME,
            b"!#$%&'*+-.^_`|~09aZ: x",
        )
        .verbatim(),
        with("an underscore in a name", NAME, b"X_Y: z").verbatim(),
        with("a value with spaces around it", VALUE, b"X:   y   ").verbatim(),
        with("an empty value", VALUE, b"X:").verbatim(),
        with("a value of blanks", VALUE, b"X: \t ").verbatim(),
        with("a tab in a value", VALUE, b"X: y\tz").verbatim(),
        with("a colon in a value", VALUE, b"X: :y:").verbatim(),
        with("a value beyond ASCII", VALUE, b"X: \xc3\xa9\xff").verbatim(),
        with("the same field twice", "RFC 9110 §5.3", b"X: 1\r\nX: 2").verbatim(),
        with(
            "a Cookie twice",
            "RFC 6265 §5.4",
            b"Cookie: a=1\r\nCookie: b=2",
        )
        .verbatim(),
        refused("a space before a colon", COLON, b"X : y"),
        refused("a tab before a colon", COLON, b"X\t: y"),
        refused("a name with a space in it", NAME, b"X Y: z"),
        refused("an empty name", NAME, b": x"),
        refused("a name that is a space", NAME, b" : x"),
        refused("a line without a colon", COLON, b"hello"),
        refused("a name with a parenthesis", NAME, b"X(Y): z"),
        refused("a name with a slash", NAME, b"X/Y: z"),
        refused("a name with a bracket", NAME, b"X[Y]: z"),
        refused("a name with an equals sign", NAME, b"X=Y: z"),
        refused("a name in quotes", NAME, b"\"X\": z"),
        refused("a NUL in a name", NAME, b"X\0Y: z"),
        refused("a name beyond ASCII", NAME, b"X\xc3\xa9: z"),
        refused("a NUL in a value", VALUE, b"X: y\0z"),
        refused("SOH in a value", VALUE, b"X: y\x01z"),
        refused("a backspace in a value", VALUE, b"X: y\x08z"),
        refused("a vertical tab in a value", VALUE, b"X: y\x0bz"),
        refused("an escape in a value", VALUE, b"X: y\x1bz"),
        refused("DEL in a value", VALUE, b"X: y\x7fz"),
    ];
    // With Host there are a hundred, and then one more.
    let lines = |count: usize| {
        (0..count)
            .map(|n| format!("X-{n}: y\r\n"))
            .collect::<String>()
    };
    let long = format!("X: {}\r\n", "y".repeat(70_000));
    cases.push(
        case("a hundred fields", "RFC 6585 §5")
            .get(&lines(99))
            .verbatim(),
    );
    cases.push(
        case("a hundred and one fields", "RFC 6585 §5")
            .get(&lines(100))
            .refused(431),
    );
    cases.push(
        case("a field of 70 KB", "RFC 6585 §5")
            .get(&long)
            .refused(431),
    );
    cases
}
