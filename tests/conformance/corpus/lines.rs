//! Bare LF, bare CR and folded lines, in every place of a request's head.

use crate::case::{Case, case};

const RULE: &str = "RFC 9112 §2.2";
const FOLD: &str = "RFC 9112 §5.2";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn refused(name: &'static str, request: &str) -> Case {
    case(name, RULE).sends(request).refused(400)
}

pub fn cases() -> Vec<Case> {
    vec![
        case("an empty line before a request", RULE)
            .sends(format!("\r\n{GET}"))
            .forwarded(GET),
        case("two empty lines before a request", RULE)
            .sends(format!("\r\n\r\n{GET}"))
            .forwarded(GET),
        case("a head in pieces", RULE)
            .sends("GET / HT")
            .sends("TP/1.1\r")
            .sends("\nHost: a\r\nX: y\r\n\r")
            .sends("\n")
            .forwarded("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"),
        refused(
            "three empty lines before a request",
            "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        refused(
            "an LF before a request",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        refused(
            "a CR before a request",
            "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        refused("all lines ended by LF", "GET / HTTP/1.1\nHost: a\n\n"),
        refused(
            "a request line ended by LF",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
        ),
        refused(
            "a field ended by LF",
            "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        ),
        refused(
            "the last field ended by LF",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
        ),
        refused(
            "a blank line that is an LF",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
        ),
        refused("two LFs behind a field", "GET / HTTP/1.1\r\nHost: a\n\n"),
        refused("all lines ended by CR", "GET / HTTP/1.1\rHost: a\r\r"),
        refused(
            "a request line ended by CR",
            "GET / HTTP/1.1\rHost: a\r\n\r\n",
        ),
        refused(
            "a field ended by CR",
            "GET / HTTP/1.1\r\nX: y\rHost: a\r\n\r\n",
        ),
        refused(
            "a line ended by CR CR LF",
            "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        ),
        refused(
            "a blank line with a CR before it",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n",
        ),
        refused(
            "a CR in a value",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n",
        ),
        refused(
            "a CR in a name",
            "GET / HTTP/1.1\r\nHost: a\r\nX\rY: z\r\n\r\n",
        ),
        case("a CR in a target", RULE)
            .sends("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n")
            .refused(505),
        refused("a CR in a method", "G\rET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused(
            "an LF in a name",
            "GET / HTTP/1.1\r\nHost: a\r\nX\nY: z\r\n\r\n",
        ),
        case("a folded line", FOLD)
            .get("X: y\r\n z\r\n")
            .refused(400),
        case("a line folded by a tab", FOLD)
            .get("X: y\r\n\tz\r\n")
            .refused(400),
        case("a folded line of spaces", FOLD)
            .get("X: y\r\n  \r\n")
            .refused(400),
        case("a folded line behind LF", FOLD)
            .get("X: y\n z\r\n")
            .refused(400),
        case("a folded Host", FOLD)
            .sends("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n")
            .refused(400),
        case("a folded length", FOLD)
            .post("Content-Length:\r\n 5\r\n", "hello")
            .refused(400),
        case("a folded first line", "RFC 9112 §2.2")
            .sends("GET / HTTP/1.1\r\n Host: b\r\nHost: a\r\n\r\n")
            .refused(400),
        case("a request that ends within its head", "RFC 9112 §8")
            .sends("GET / HTTP/1.1\r\nHost: a\r\n")
            .half_closes()
            .gets("")
            .end_closed(),
        case("a request that stops within its head", "RFC 9110 §15.5.9")
            .sends("GET / HTTP/1.1\r\nHost: a\r\n")
            .and_no_more()
            .refused(408),
    ]
}
