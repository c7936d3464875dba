//! What a client says about itself that only a proxy may say.

use crate::case::{Case, case};

const RULE: &str = "RFC 7239 §8.1";
const PLAIN: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn dropped(name: &'static str, line: &str) -> Case {
    case(name, RULE)
        .get(&format!("{line}\r\n"))
        .forwarded(PLAIN)
}

pub fn cases() -> Vec<Case> {
    vec![
        dropped("X-Forwarded-For", "X-Forwarded-For: 9.9.9.9"),
        dropped(
            "X-Forwarded-For twice",
            "X-Forwarded-For: 9.9.9.9\r\nx-forwarded-for: 8.8.8.8",
        ),
        dropped("X_Forwarded_For", "X_Forwarded_For: 9.9.9.9"),
        dropped("X-Forwarded-Host", "X-Forwarded-Host: b"),
        dropped("X-Forwarded-Proto", "X-Forwarded-Proto: https"),
        dropped("X-Forwarded-Port", "X-Forwarded-Port: 1"),
        dropped("X-Real-IP", "X-Real-IP: 9.9.9.9"),
        dropped("Forwarded", "Forwarded: for=9.9.9.9"),
        dropped("an X-Request-Id with a space in it", "X-Request-Id: a b"),
        dropped("two X-Request-Ids", "X-Request-Id: a\r\nX-Request-Id: b"),
        case("an X-Request-Id", "RFC 9110 §5.1")
            .get("X-Request-Id: mine\r\n")
            .verbatim(),
    ]
}
