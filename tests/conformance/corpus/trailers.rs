//! Trailers, both ways.

use crate::case::{Case, case};

const RULE: &str = "RFC 9110 §6.5.1";
const ASKED: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn sent(name: &'static str, trailers: &str) -> Case {
    case(name, RULE).chunks(&format!("5\r\nhello\r\n0\r\n{trailers}\r\n"))
}

fn answered(name: &'static str, trailers: &str) -> Case {
    case(name, RULE)
        .sends(ASKED)
        .answer(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{trailers}\r\n"
        ))
        .verbatim()
}

pub fn cases() -> Vec<Case> {
    let forbidden = [
        ("a trailer Content-Length", "Content-Length: 5"),
        ("a trailer Transfer-Encoding", "Transfer-Encoding: chunked"),
        ("a trailer Host", "Host: b"),
        ("a trailer Connection", "Connection: close"),
        ("a trailer Authorization", "Authorization: Basic eA=="),
        ("a trailer X-Forwarded-For", "X-Forwarded-For: 1.2.3.4"),
        ("a trailer X_Forwarded_For", "X_Forwarded_For: 1.2.3.4"),
        (
            "a trailer X-Client-Cert-Verified",
            "X-Client-Cert-Verified: yes",
        ),
        (
            "a trailer X_Client_Cert_Verified",
            "X_Client_Cert_Verified: yes",
        ),
        ("a trailer Client-Cert", "Client-Cert: :MA==:"),
        ("a trailer Via", "Via: 1.1 b"),
        ("a trailer Content_Type", "Content_Type: text/html"),
        (
            "a trailer Proxy-Authorization",
            "Proxy-Authorization: Basic eA==",
        ),
        ("a trailer If-Match", "If-Match: *"),
    ];
    let malformed = [
        ("a trailer without a colon", "hello\r\n"),
        ("a trailer without a name", ": x\r\n"),
        ("a trailer with a space before its colon", "A : x\r\n"),
        ("a trailer on a folded line", "A: x\r\n y\r\n"),
        ("a trailer ended by LF", "A: x\n"),
        ("a bare CR in a trailer", "A: x\ry\r\n"),
        ("a NUL in a trailer", "A: \0\r\n"),
    ];
    let mut cases = vec![
        sent("a trailer", "X-Sum: 1\r\n").verbatim().reuses(),
        sent("two trailers", "X-Sum: 1\r\nX-More: 2\r\n").verbatim(),
        sent("trailers of 10 KB", &format!("X-Sum: {}\r\n", "1".repeat(10_000))).refused_late(400),
        case("a trailer that is announced", "RFC 9110 §6.6.2")
            .post("Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
            .verbatim(),
        answered("a response's trailer", "X-Sum: 1\r\n")
            .gets("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
            .reuses(),
        answered("a response's trailer Content-Length", "Content-Length: 5\r\n")
            .told(502)
            .discards(),
        answered("a response's trailer X-Request-Id", "X-Request-Id: 1\r\n")
            .gets("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Request-Id: 1\r\n\r\n"),
        answered("a response's trailer without a colon", "hello\r\n")
            .told(502)
            .discards(),
        case("a response's trailer for HTTP/1.0", RULE)
            .sends("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
            .answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
            .forwarded(ASKED)
            .gets("HTTP/1.1 200 OK\r\n\r\nhello")
            .closes()
            .reuses(),
    ];
    let line = |(name, line): (&'static str, &str)| sent(name, &format!("{line}\r\n")).refused(400);
    cases.extend(forbidden.into_iter().map(line));
    cases.extend(
        malformed
            .into_iter()
            .map(|(name, lines)| sent(name, lines).refused(400)),
    );
    cases
}
