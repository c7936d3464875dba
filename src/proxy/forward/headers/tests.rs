use super::*;
use crate::proxy::h1::request::{HeadLimits, HeadProgress};

mod responses;

const LIMITS: HeadLimits = HeadLimits {
    max_header: 8192,
    max_uri: 4096,
};

fn policy(
    x_forwarded: bool,
    forwarded: bool,
    via: bool,
    request_id: bool,
) -> config::HeadersConfig {
    config::HeadersConfig {
        trusted: vec![],
        x_forwarded,
        forwarded,
        via,
        request_id,
    }
}

fn edit(policy: &config::HeadersConfig, trusted: bool) -> RequestEdit<'_> {
    RequestEdit {
        policy,
        client_ip: "192.0.2.1",
        trusted,
        scheme: "http",
        identity: "",
        request_id: b"id-1",
        host_override: None,
        fallback_host: "127.0.0.1:3000",
        changes: None,
    }
}

/// Writes a head, and checks that a strict parser reads the result in the same way.
fn write(text: &str, edit: &RequestEdit<'_>) -> String {
    let (mut head, mut again, mut out) = (RequestHead::new(), RequestHead::new(), Vec::new());
    assert_eq!(
        head.parse(text.as_bytes(), &LIMITS),
        Ok(HeadProgress::Complete),
        "{text}"
    );
    write_request(&mut out, text.as_bytes(), &head, edit);
    let written = String::from_utf8(out).unwrap();
    assert_eq!(
        again.parse(written.as_bytes(), &LIMITS),
        Ok(HeadProgress::Complete),
        "{written}"
    );
    assert_eq!(
        (again.len, again.body, again.method),
        (written.len(), head.body, head.method),
        "{written}"
    );
    assert_eq!(again.upgrade, head.upgrade);
    assert_eq!(
        again.path.of(written.as_bytes()),
        head.path.of(text.as_bytes())
    );
    written
}

/// Writes a head with all header policies off.
fn bare(text: &str) -> String {
    write(text, &edit(&policy(false, false, false, false), false))
}

#[test]
fn a_plain_request_is_copied_byte_for_byte() {
    let text = "GET /a?b HTTP/1.1\r\nHost: a\r\nx-Odd:   spaced \t\r\nAccept: */*\r\n\r\n";
    assert_eq!(bare(text), text);
    assert_eq!(bare(&format!("\r\n{text}")), text);
}

#[test]
fn default_policy_adds_forwarding_fields() {
    let written = write(
        "GET / HTTP/1.1\r\nHost: a:80\r\nConnection: keep-alive\r\nA: b\r\n\r\n",
        &edit(&policy(true, false, false, true), false),
    );
    assert_eq!(
        written,
        "GET / HTTP/1.1\r\nHost: a:80\r\nA: b\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a:80\r\nX-Request-Id: id-1\r\n\r\n"
    );
}

/// RFC 9110 §7.6.1.
#[test]
fn hop_by_hop_fields_are_removed() {
    let text = "POST / HTTP/1.1\r\nKeep-Alive: 5\r\nHost: a\r\nConnection: close, x-mine\r\nX-Mine: 1\r\nA: b\r\nProxy-Connection: x\r\nHTTP2-Settings: x\r\nUpgrade: h2c\r\nTE: gzip\r\nTrailer: C\r\nTransfer-Encoding: Chunked\r\n\r\n";
    assert_eq!(
        bare(text),
        "POST / HTTP/1.1\r\nHost: a\r\nA: b\r\nTrailer: C\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let trailers = bare("GET / HTTP/1.1\r\nHost: a\r\nTE: deflate, trailers\r\n\r\n");
    assert_eq!(
        trailers,
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: te\r\nTE: trailers\r\n\r\n"
    );
}

#[test]
fn nothing_that_the_app_relies_on_can_be_stripped() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length, authorization, cookie, x-request-id\r\nContent-Length: 1\r\nAuthorization: b\r\nCookie: c\r\nX-Request-Id: d\r\n\r\n";
    assert_eq!(
        bare(text),
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nAuthorization: b\r\nCookie: c\r\nX-Request-Id: d\r\n\r\n"
    );
}

#[test]
fn upgrades_are_offered_again() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c, websocket\r\nHTTP2-Settings: x\r\nSec-WebSocket-Key: k\r\n\r\n";
    assert_eq!(
        bare(text),
        "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: k\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
}

#[test]
fn content_length_is_passed_on_as_one_plain_number() {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 005\r\n",
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}A: b\r\n\r\n");
        let written = bare(&text);
        assert_eq!(
            written.matches("Content-Length: 5\r\n").count(),
            1,
            "{written}"
        );
        assert_eq!(written.matches("Content-Length").count(), 1, "{written}");
    }
}

/// RFC 9112 §3.2.1, §3.2.2, §3.2.4, RFC 9110 §2.5.
#[test]
fn request_is_http_1_1_in_origin_form_with_one_host() {
    for (line, host, want) in [
        (
            "GET http://b:81/c?d HTTP/1.1",
            "Host: a\r\n",
            "GET /c?d HTTP/1.1\r\nHost: b:81\r\n",
        ),
        (
            "GET http://b?d HTTP/1.1",
            "Host: a\r\n",
            "GET /?d HTTP/1.1\r\nHost: b\r\n",
        ),
        (
            "GET http://b HTTP/1.1",
            "Host: a\r\n",
            "GET / HTTP/1.1\r\nHost: b\r\n",
        ),
        (
            "OPTIONS http://b HTTP/1.1",
            "Host: a\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: b\r\n",
        ),
        (
            "OPTIONS * HTTP/1.1",
            "Host: a\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
        ),
        (
            "PURGE / HTTP/1.0",
            "",
            "PURGE / HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n",
        ),
        (
            "GET / HTTP/1.0",
            "Host: a\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n",
        ),
        ("GET / HTTP/1.1", "Host:\r\n", "GET / HTTP/1.1\r\nHost:\r\n"),
    ] {
        assert_eq!(
            bare(&format!("{line}\r\n{host}\r\n")),
            format!("{want}\r\n")
        );
    }
}

#[test]
fn a_host_can_be_replaced() {
    let policy = policy(true, false, false, false);
    let edit = RequestEdit {
        host_override: Some("backend:1"),
        ..edit(&policy, false)
    };
    let written = write("GET / HTTP/1.1\r\nA: b\r\nHost: a\r\n\r\n", &edit);
    assert!(
        written.starts_with("GET / HTTP/1.1\r\nHost: backend:1\r\nA: b\r\nX-Forwarded-For"),
        "{written}"
    );
    assert!(written.contains("X-Forwarded-Host: a\r\n"), "{written}");
}

const CLAIMING: &str = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: real\r\nx-forwarded-for: 2.2.2.2, 3.3.3.3\r\nX-Real-IP: 1.1.1.1\r\nX_Forwarded_For: 9.9.9.9\r\nX-Forwarded-Port: 1\r\n\r\n";

#[test]
fn claims_of_an_untrusted_client_are_dropped() {
    let written = write(CLAIMING, &edit(&policy(true, true, false, false), false));
    assert_eq!(
        written,
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nForwarded: for=192.0.2.1;host=\"a\";proto=http\r\nCDN-Loop: lameduck\r\n\r\n"
    );
    assert_eq!(bare(CLAIMING), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

/// RFC 9440, section 2.4, too: not even a trusted client may say what only a handshake proves.
#[test]
fn certificate_fields_of_a_client_are_dropped() {
    let claiming = "GET / HTTP/1.1\r\nHost: a\r\nX-Client-Cert-Subject: CN=root\r\nx_client_cert_san: DNS:a\r\nX-CLIENT-CERT: x\r\nX-Client-Certificate: x\r\nClient-Cert: :MII=:\r\nclient_cert_chain: x\r\nClient-Certain: x\r\n\r\n";
    let policy = policy(false, false, false, false);
    for trusted in [false, true] {
        let proven = RequestEdit {
            identity: "X-Client-Cert-Subject: CN=me\r\n",
            ..edit(&policy, trusted)
        };
        assert_eq!(
            write(claiming, &proven),
            "GET / HTTP/1.1\r\nHost: a\r\nClient-Certain: x\r\nX-Client-Cert-Subject: CN=me\r\n\r\n"
        );
    }
}

#[test]
fn forwarding_fields_of_a_trusted_client_are_extended() {
    let written = write(CLAIMING, &edit(&policy(true, true, false, false), true));
    assert_eq!(
        written,
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: real\r\nX-Real-IP: 1.1.1.1\r\nX_Forwarded_For: 9.9.9.9\r\nX-Forwarded-Port: 1\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.1\r\nForwarded: for=1.1.1.1, for=192.0.2.1;host=\"a\";proto=http\r\nCDN-Loop: lameduck\r\n\r\n"
    );
    let untouched = write(CLAIMING, &edit(&policy(false, false, false, false), true));
    assert_eq!(untouched, CLAIMING);
}

/// RFC 7239 §6.
#[test]
fn forwarded_quotes_ipv6() {
    let policy = policy(true, true, false, false);
    let six = RequestEdit {
        client_ip: "2001:db8::1",
        ..edit(&policy, false)
    };
    let written = write("GET / HTTP/1.0\r\n\r\n", &six);
    assert!(
        written.contains("Forwarded: for=\"[2001:db8::1]\";proto=http\r\n"),
        "{written}"
    );
    assert!(
        written.contains("X-Forwarded-For: 2001:db8::1\r\n")
            && !written.contains("X-Forwarded-Host"),
        "{written}"
    );
    let none = RequestEdit {
        client_ip: "",
        ..six
    };
    assert!(write("GET / HTTP/1.0\r\n\r\n", &none).contains("Forwarded: for=unknown;"));
}

/// RFC 9110 §7.6.3.
#[test]
fn via_is_appended() {
    let policy = policy(false, false, true, false);
    let written = write(
        "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 x\r\n\r\n",
        &edit(&policy, false),
    );
    assert_eq!(
        written,
        "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 x\r\nVia: 1.1 lameduck\r\n\r\n"
    );
    assert!(
        write("GET / HTTP/1.0\r\n\r\n", &edit(&policy, false)).contains("Via: 1.0 lameduck\r\n")
    );
}

#[test]
fn request_ids() {
    let incoming = |fields: &str| {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut head = RequestHead::new();
        assert_eq!(
            head.parse(text.as_bytes(), &LIMITS),
            Ok(HeadProgress::Complete)
        );
        incoming_request_id(text.as_bytes(), &head)
            .map(|id| String::from_utf8(id.to_vec()).unwrap())
    };
    assert_eq!(
        incoming("X-Request-Id: aZ0.-_:\r\n").as_deref(),
        Some("aZ0.-_:")
    );
    assert_eq!(
        incoming(&format!("X-Request-Id: {}\r\n", "a".repeat(128))).map(|id| id.len()),
        Some(128)
    );
    for fields in [
        "",
        "X-Request-Id:\r\n",
        "X-Request-Id: a b\r\n",
        "X-Request-Id: a\"\r\n",
        "X-Request-Id: a\r\nX-Request-Id: b\r\n",
        "X_Request_Id: a\r\n",
    ] {
        assert_eq!(incoming(fields), None, "{fields}");
    }
    assert_eq!(
        incoming(&format!("X-Request-Id: {}\r\n", "a".repeat(129))),
        None
    );
    let written = write(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: bad id\r\n\r\n",
        &edit(&policy(false, false, false, true), false),
    );
    assert_eq!(
        written,
        "GET / HTTP/1.1\r\nHost: a\r\nCDN-Loop: lameduck\r\nX-Request-Id: id-1\r\n\r\n"
    );
}
