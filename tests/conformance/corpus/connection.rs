//! `Connection` and what it names: fields of the hop end here, fields of the app don't.

use crate::case::{Case, case, echo};

const RULE: &str = "RFC 9110 §7.6.1";
const PLAIN: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// These lines are sent, those go on.
fn hop(name: &'static str, sent: &str, goes_on: &str) -> Case {
    case(name, RULE)
        .get(sent)
        .forwarded(format!("GET / HTTP/1.1\r\nHost: a\r\n{goes_on}\r\n"))
}

/// A client names a field that the app relies on.
fn kept(name: &'static str, line: &str) -> Case {
    let field = line.split(':').next().unwrap();
    hop(
        name,
        &format!("{line}\r\nConnection: {field}\r\n"),
        &format!("{line}\r\n"),
    )
}

/// The backend's lines, and those that the client gets.
fn back(name: &'static str, sent: &str, goes_on: &str) -> Case {
    case(name, RULE)
        .sends(PLAIN)
        .answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{sent}\r\n"
        ))
        .verbatim()
        .gets(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{goes_on}\r\n"
        ))
}

pub fn cases() -> Vec<Case> {
    let many: String = (0..40).map(|n| format!("x-{n},")).collect();
    vec![
        hop("a field that Connection names", "X-Hop: 1\r\nConnection: X-Hop\r\n", ""),
        hop("a field that Connection names in another case", "X-HOP: 1\r\nConnection: x-hop\r\n", ""),
        hop("a field named before it comes", "Connection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n", "X-End: 2\r\n"),
        hop("a field that is there twice", "X-Hop: 1\r\nX-End: 2\r\nX-Hop: 3\r\nConnection: X-Hop\r\n", "X-End: 2\r\n"),
        hop("two Connections", "Connection: X-Hop\r\nConnection: X-Too\r\nX-Hop: 1\r\nX-Too: 1\r\n", ""),
        hop("a Connection with empty elements", "Connection: ,, X-Hop ,\r\nX-Hop: 1\r\n", ""),
        hop("a Connection that names nothing that is there", "Connection: X-Hop\r\n", ""),
        hop("a Connection that names itself", "Connection: Connection\r\n", ""),
        hop("an option that is no token", "Connection: X Hop\r\nX: 1\r\n", "X: 1\r\n"),
        hop("an empty Connection", "Connection:\r\n", ""),
        case("Max-Forwards", "RFC 9110 §7.6.2")
            .sends("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
            .verbatim(),
        hop("Keep-Alive", "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", ""),
        hop("Proxy-Connection", "Proxy-Connection: close\r\n", ""),
        hop("TE: gzip", "TE: gzip\r\nConnection: TE\r\n", ""),
        hop("TE: trailers", "TE: gzip, trailers\r\nConnection: TE\r\n", "Connection: te\r\nTE: trailers\r\n"),
        hop("forty options", &format!("Connection: {many}\r\n"), "").refused(400),
        hop("Connection names Host", "Connection: Host\r\n", ""),
        hop("Connection names X-Forwarded-For", "X-Forwarded-For: 9.9.9.9\r\nConnection: X-Forwarded-For\r\n", ""),
        hop("Connection names X-Real-IP", "X-Real-IP: 9.9.9.9\r\nConnection: X-Real-IP\r\n", ""),
        kept("Connection names Authorization", "Authorization: Basic eA=="),
        kept("Connection names Cookie", "Cookie: a=b"),
        kept("Connection names Content-Type", "Content-Type: text/plain"),
        kept("Connection names Content-Encoding", "Content-Encoding: gzip"),
        kept("Connection names Origin", "Origin: http://a"),
        kept("Connection names Sec-Fetch-Site", "Sec-Fetch-Site: same-origin"),
        kept("Connection names Cache-Control", "Cache-Control: no-store"),
        kept("Connection names Range", "Range: bytes=0-1"),
        kept("Connection names If-Match", "If-Match: \"x\""),
        kept("Connection names Via", "Via: 1.1 b"),
        kept("Connection names Idempotency-Key", "Idempotency-Key: 1"),
        kept("Connection names X-Request-Id", "X-Request-Id: mine"),
        case("Connection names Content-Length", RULE)
            .post("Content-Length: 5\r\nConnection: Content-Length\r\n", "hello")
            .forwarded("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
        case("Connection names Transfer-Encoding", RULE)
            .post("Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n", "5\r\nhello\r\n0\r\n\r\n")
            .forwarded("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        case("Connection names length and chunks", RULE)
            .post(
                "Content-Length: 15\r\nTransfer-Encoding: chunked\r\nConnection: Content-Length\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            )
            .refused(400),
        case("Connection: close", "RFC 9112 §9.6").get("Connection: close\r\n").forwarded(PLAIN).closes().reuses(),
        case("Connection: CLOSE in a list", "RFC 9112 §9.6")
            .get("Connection: keep-alive, CLOSE\r\n")
            .forwarded(PLAIN)
            .closes(),
        case("Connection: close in a second field", "RFC 9112 §9.6")
            .get("Connection: keep-alive\r\nConnection: close\r\n")
            .forwarded(PLAIN)
            .closes(),
        case("Connection: closed is no close", "RFC 9112 §9.6").get("Connection: closed\r\n").forwarded(PLAIN),
        case("keep-alive in HTTP/1.0", "RFC 9112 §9.3")
            .sends("GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n")
            .forwarded(PLAIN)
            .gets(echo("GET", "/", "Connection: keep-alive\r\n")),
        back("a response's field that Connection names", "X-Hop: 1\r\nConnection: X-Hop\r\n", ""),
        back("a response's Keep-Alive", "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", "").reuses(),
        back("a response's Proxy-Connection", "Proxy-Connection: keep-alive\r\n", ""),
        back("a response's Connection names Set-Cookie", "Set-Cookie: a=b\r\nConnection: Set-Cookie\r\n", "Set-Cookie: a=b\r\n"),
        back("a response's Upgrade", "Upgrade: h2c\r\nConnection: Upgrade\r\n", ""),
        back("a response's Connection: close", "Connection: close\r\n", "").discards(),
        case("a response's Connection names Content-Length", RULE)
            .sends(PLAIN)
            .answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Content-Length\r\n\r\nhello")
            .verbatim()
            .gets("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ]
}
