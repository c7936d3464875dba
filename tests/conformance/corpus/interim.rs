//! 1xx: before the answer.

use crate::case::{Case, Reply, case, echo};

const RULE: &str = "RFC 9110 §15.2";
const EXPECT: &str = "RFC 9110 §10.1.1";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const EXPECTS: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

fn answered(name: &'static str, answer: &str) -> Case {
    case(name, RULE)
        .sends(GET)
        .answer(answer)
        .verbatim()
        .gets(answer)
}

fn text(bytes: &str) -> Reply {
    Reply::Send(bytes.as_bytes().to_vec())
}

pub fn cases() -> Vec<Case> {
    vec![
        answered("a 103", &format!("{HINTS}{OK}")),
        answered("two 103s", &format!("{HINTS}{HINTS}{OK}")),
        answered("a 100 that nobody waits for", &format!("{CONTINUE}{OK}")),
        answered("a 102", &format!("HTTP/1.1 102 Processing\r\n\r\n{OK}")),
        answered("an unknown 1xx", &format!("HTTP/1.1 199 x\r\n\r\n{OK}")),
        answered("sixteen 1xx", &(HINTS.repeat(16) + OK)),
        case("a hundred 1xx", RULE).sends(GET).answer(HINTS.repeat(100) + OK).verbatim().told(502).discards(),
        case("a 1xx with a length", "RFC 9110 §8.6")
            .sends(GET)
            .answer(format!("HTTP/1.1 103 x\r\nContent-Length: 5\r\n\r\n{OK}"))
            .verbatim()
            .gets(format!("HTTP/1.1 103 x\r\n\r\n{OK}")),
        case("a 1xx for HTTP/1.0", RULE)
            .sends("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            .answer(format!("{HINTS}{CONTINUE}{OK}"))
            .forwarded(GET)
            .gets(OK)
            .closes(),
        case("a 1xx and then nothing", RULE)
            .post("Content-Length: 5\r\n", "hello")
            .answer_and_close(HINTS)
            .verbatim()
            .then_told(HINTS, 502),
        case("100-continue, waited for", EXPECT)
            .sends(EXPECTS)
            .once_answered()
            .sends("hello")
            .replies([text(CONTINUE), Reply::Body, Reply::Echo])
            .verbatim()
            .gets(CONTINUE.to_owned() + &echo("POST", "/", "")),
        case("100-continue, not waited for", EXPECT).sends(EXPECTS.to_owned() + "hello").verbatim(),
        case("100-continue, answered with a refusal", EXPECT)
            .sends(EXPECTS)
            .replies([text("HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n"), Reply::Close])
            .and_no_more()
            .verbatim()
            .gets("HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
            .closes(),
        case("100-continue with chunks", EXPECT)
            .post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "")
            .once_answered()
            .sends("5\r\nhello\r\n0\r\n\r\n")
            .replies([text(CONTINUE), Reply::Body, Reply::Echo])
            .verbatim()
            .gets(CONTINUE.to_owned() + &echo("POST", "/", "")),
        case("100-continue in capitals", EXPECT)
            .post("Expect: 100-CONTINUE\r\nContent-Length: 5\r\n", "hello")
            .verbatim(),
        case("100-continue without a body", EXPECT).get("Expect: 100-continue\r\n").verbatim(),
        case("100-continue in HTTP/1.0", EXPECT)
            .sends("POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
            .forwarded("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            .closes(),
        case("another expectation", EXPECT)
            .post("Expect: 200-ok\r\nContent-Length: 5\r\n", "hello")
            .refused(417),
        case("100-continue and another expectation", EXPECT)
            .post("Expect: 100-continue, x\r\nContent-Length: 5\r\n", "hello")
            .refused(417),
    ]
}
