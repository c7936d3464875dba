//! The meaning of header fields: bodies, connections, expectations, upgrades.

use super::*;
use crate::proxy::h1::framing::FramingError;

/// RFC 9112 §6; the spellings are tested in `framing`.
#[test]
fn bodies() {
    assert_eq!(post("").unwrap().body, RequestBody::None);
    assert_eq!(
        post("Content-Length: 5\r\n").unwrap().body,
        RequestBody::Length(5)
    );
    assert_eq!(
        post("Transfer-Encoding: chunked\r\n").unwrap().body,
        RequestBody::Chunked
    );
    assert_eq!(
        get("Content-Length: 5\r\n").unwrap().body,
        RequestBody::Length(5)
    );
    assert!(post("Content-Length: 0\r\n").unwrap().body.is_empty());
    for (fields, error) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            RequestError::Framing(FramingError::LengthAndEncoding),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            RequestError::Framing(FramingError::LengthAndEncoding),
        ),
        (
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            RequestError::Framing(FramingError::LengthsDiffer),
        ),
        (
            "Content-Length: 5, 6\r\n",
            RequestError::Framing(FramingError::LengthsDiffer),
        ),
        (
            "Content-Length: +5\r\n",
            RequestError::Framing(FramingError::BadLength),
        ),
        (
            "Content-Length: 5 5\r\n",
            RequestError::Framing(FramingError::BadLength),
        ),
        (
            "Content-Length:\r\n",
            RequestError::Framing(FramingError::BadLength),
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            RequestError::Framing(FramingError::UnknownCoding),
        ),
        (
            "Transfer-Encoding: chunked, gzip\r\n",
            RequestError::Framing(FramingError::BadEncoding),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            RequestError::Framing(FramingError::BadEncoding),
        ),
        (
            "Transfer-Encoding:\r\n",
            RequestError::Framing(FramingError::BadEncoding),
        ),
    ] {
        assert_eq!(post(fields), Err(error), "{fields}");
    }
    assert_eq!(
        RequestError::Framing(FramingError::UnknownCoding).status(),
        501
    );
    refused(
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        RequestError::Framing(FramingError::EncodingIn10),
    );
    let twice = post("Content-Length: 5\r\nContent-Length: 5\r\n").unwrap();
    assert_eq!(
        kinds(&twice),
        [
            FieldKind::Host,
            FieldKind::ContentLength,
            FieldKind::Dropped
        ]
    );
}

/// RFC 9112 §9.3.
#[test]
fn keep_alive() {
    assert!(get("").unwrap().keep_alive);
    assert!(!get("Connection: close\r\n").unwrap().keep_alive);
    assert!(!get("Connection: keep-alive, Close\r\n").unwrap().keep_alive);
    assert!(
        !get("Connection: keep-alive\r\nConnection: close\r\n")
            .unwrap()
            .keep_alive
    );
    let old = |field: &str| {
        parse(&format!("GET / HTTP/1.0\r\n{field}\r\n"))
            .unwrap()
            .keep_alive
    };
    assert!(!old(""));
    assert!(old("Connection: Keep-Alive\r\n"));
    assert!(!old("Connection: keep-alive, close\r\n"));
    assert!(!old("Proxy-Connection: keep-alive\r\n"));
}

/// RFC 9110 §7.6.1: header fields that `Connection` names are not passed on, unless the app relies on them.
#[test]
fn nominations() {
    let head = get("Connection: x-hop, X-Forwarded-For, host, Authorization, Sec-Foo\r\nX-Hop: 1\r\nAuthorization: 2\r\nX-Forwarded-For: 3\r\nSec-Foo: 4\r\nX-HOP: 5\r\n").unwrap();
    use FieldKind::{Connection, Dropped, Host, Other, XForwardedFor};
    assert_eq!(
        kinds(&head),
        [
            Host,
            Connection,
            Dropped,
            Other,
            XForwardedFor,
            Other,
            Dropped
        ]
    );
    let many = format!("Connection: {}\r\n", "x,".repeat(33));
    assert_eq!(get(&many), Err(RequestError::TooManyOptions));
}

/// RFC 9110 §10.1.1.
#[test]
fn expectations() {
    assert!(
        post("Expect: 100-Continue\r\nContent-Length: 1\r\n")
            .unwrap()
            .expect_continue
    );
    for value in ["", "200-ok", "100-continue, more", "100-continue;q"] {
        let error = post(&format!("Expect: {value}\r\n")).unwrap_err();
        assert_eq!(error.status(), 417, "{value}");
    }
    let old =
        parse("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").unwrap();
    assert!(!old.expect_continue);
    assert_eq!(old.fields[0].kind, FieldKind::Dropped);
}

/// RFC 9110 §7.8, RFC 6455 §4.1.
#[test]
fn upgrades() {
    let upgrade = |fields: &str| get(fields).unwrap().upgrade;
    assert_eq!(
        upgrade("Connection: Upgrade\r\nUpgrade: WebSocket\r\n"),
        Some(UpgradeProtocol::WebSocket)
    );
    assert_eq!(
        upgrade("Connection: keep-alive, upgrade\r\nUpgrade: tcp\r\n"),
        Some(UpgradeProtocol::Other)
    );
    assert_eq!(
        upgrade("Connection: upgrade\r\nUpgrade: h2c, websocket\r\n"),
        Some(UpgradeProtocol::WebSocket)
    );
    for none in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: a\r\n",
        "Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n",
        "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
        "Connection: upgrade\r\nUpgrade: a b\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(upgrade(none), None, "{none}");
    }
    for lengths in ["", "Content-Length: 0\r\n"] {
        let fields = format!("Connection: upgrade\r\nUpgrade: SPDY/3.1\r\n{lengths}");
        assert_eq!(post(&fields).unwrap().upgrade, Some(UpgradeProtocol::Other));
    }
    let body = "Connection: upgrade\r\nUpgrade: tcp\r\nContent-Length: 1\r\n";
    assert_eq!(post(body).unwrap().upgrade, None);
    let list = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: foo/2, h2c\r\nUpgrade: ,websocket\r\n\r\n";
    let offered = parse(list).unwrap();
    let offered: Vec<_> = offered.offered(list.as_bytes()).collect();
    assert_eq!(offered, [&b"foo/2"[..], b"websocket"]);
    let old = "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(parse(old).unwrap().upgrade, None);
}
