//! Responses on their way to the client.

use super::*;
use crate::proxy::h1::method::Method;

const SAME: ResponseEdit<'static> = ResponseEdit {
    close: false,
    client_version: HttpVersion::Http11,
    framing: ClientFraming::Same,
    via: false,
    hsts: 0,
    changes: None,
};

fn respond_to(text: &str, method: Method, edit: &ResponseEdit<'_>) -> String {
    let (mut head, mut again, mut out) = (ResponseHead::new(), ResponseHead::new(), Vec::new());
    assert_eq!(
        head.parse(text.as_bytes(), method, true, 8192),
        Ok(HeadProgress::Complete),
        "{text}"
    );
    write_response(&mut out, text.as_bytes(), &head, edit);
    let written = String::from_utf8(out).unwrap();
    assert_eq!(
        again.parse(written.as_bytes(), method, true, 8192),
        Ok(HeadProgress::Complete),
        "{written}"
    );
    assert_eq!(
        (again.len, again.status, again.upgrade),
        (written.len(), head.status, head.upgrade),
        "{written}"
    );
    if edit.framing == ClientFraming::Same {
        assert_eq!(again.body, head.body, "{written}");
    }
    written
}

fn respond(text: &str, edit: &ResponseEdit<'_>) -> String {
    respond_to(text, Method::Get, edit)
}

#[test]
fn a_plain_response_is_copied_byte_for_byte() {
    let text = "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX:  y \r\n\r\n";
    assert_eq!(respond(text, &SAME), text);
}

#[test]
fn hop_by_hop_fields_are_removed_from_a_response() {
    let text = "HTTP/1.1 200 OK\r\nConnection: close, x-mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2\r\nContent-Length: 5, 5\r\nA: b\r\n\r\n";
    assert_eq!(
        respond(text, &SAME),
        "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\n"
    );
    assert_eq!(
        respond(
            text,
            &ResponseEdit {
                close: true,
                via: true,
                hsts: 0,
                changes: None,
                ..SAME
            }
        ),
        "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\nConnection: close\r\nVia: 1.1 lameduck\r\n\r\n"
    );
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 007\r\nContent-Length: 7\r\n\r\n";
    assert_eq!(
        respond(twice, &SAME),
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
    );
    let zero = "HTTP/1.1 200 OK\r\nContent-Length: 000\r\n\r\n";
    assert_eq!(
        respond(zero, &SAME),
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn incomplete_status_lines_are_completed() {
    let ends = "Content-Length: 0\r\n\r\n";
    assert_eq!(
        respond(&format!("HTTP/1.1 200\r\n{ends}"), &SAME),
        format!("HTTP/1.1 200 \r\n{ends}")
    );
    assert_eq!(
        respond(&format!("HTTP/1.0 404 Not Here\r\n{ends}"), &SAME),
        format!("HTTP/1.1 404 Not Here\r\n{ends}")
    );
    assert_eq!(
        respond(&format!("HTTP/1.0 404\r\n{ends}"), &SAME),
        format!("HTTP/1.1 404 \r\n{ends}")
    );
    assert_eq!(
        respond("HTTP/1.1 204\r\n\r\n", &SAME),
        "HTTP/1.1 204 \r\n\r\n"
    );
}

/// RFC 9112 §6.1, §9.3.
#[test]
fn framings() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n";
    assert_eq!(
        respond(chunked, &SAME),
        "HTTP/1.1 200 OK\r\nTrailer: A\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let old = ResponseEdit {
        client_version: HttpVersion::Http10,
        ..SAME
    };
    assert_eq!(
        respond(
            chunked,
            &ResponseEdit {
                framing: ClientFraming::Dechunked,
                ..old
            }
        ),
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    );
    let until_close = "HTTP/1.0 200 OK\r\n\r\n";
    assert_eq!(
        respond(until_close, &SAME),
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(
        respond(
            until_close,
            &ResponseEdit {
                framing: ClientFraming::Chunked,
                ..SAME
            }
        ),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(
        respond(length, &old),
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n"
    );
    assert_eq!(
        respond_to(chunked, Method::Head, &SAME),
        "HTTP/1.1 200 OK\r\nTrailer: A\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    assert_eq!(
        respond_to(chunked, Method::Head, &old),
        "HTTP/1.1 200 OK\r\nTrailer: A\r\nConnection: keep-alive\r\n\r\n"
    );
    assert_eq!(
        respond("HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n", &SAME),
        "HTTP/1.1 204 X\r\n\r\n"
    );
    assert_eq!(
        respond(
            "HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n",
            &SAME
        ),
        "HTTP/1.1 204 X\r\n\r\n"
    );
    assert_eq!(
        respond("HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", &SAME),
        "HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n"
    );
}

#[test]
fn framing_suits_the_clients_version() {
    use ClientFraming::{Chunked, Dechunked, Same};
    for (body, old, new) in [
        (ResponseBody::None, Same, Same),
        (ResponseBody::Length(1), Same, Same),
        (ResponseBody::Chunked, Dechunked, Same),
        (ResponseBody::UntilClose, Same, Chunked),
    ] {
        let head = ResponseHead {
            body,
            ..ResponseHead::new()
        };
        assert_eq!(
            ClientFraming::choose(&head, HttpVersion::Http10),
            old,
            "{body:?}"
        );
        assert_eq!(
            ClientFraming::choose(&head, HttpVersion::Http11),
            new,
            "{body:?}"
        );
    }
}

/// RFC 9110 §7.8, §15.2.
#[test]
fn switching_and_interim() {
    let switch = "HTTP/1.1 101 Go\r\nupgrade: websocket\r\nconnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
    assert_eq!(
        respond(
            switch,
            &ResponseEdit {
                close: true,
                ..SAME
            }
        ),
        "HTTP/1.1 101 Go\r\nSec-WebSocket-Accept: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    let required =
        "HTTP/1.1 426 X\r\nUpgrade: a, b\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(
        respond(required, &SAME),
        "HTTP/1.1 426 X\r\nContent-Length: 0\r\nConnection: upgrade\r\nUpgrade: a, b\r\n\r\n"
    );
    let close = ResponseEdit {
        close: true,
        ..SAME
    };
    assert!(respond(required, &close).contains("Connection: close, upgrade\r\n"));
    assert_eq!(
        respond("HTTP/1.1 100 Continue\r\n\r\n", &close),
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    assert_eq!(
        respond(
            "HTTP/1.1 103 X\r\nLink: a\r\nConnection: close\r\n\r\n",
            &close
        ),
        "HTTP/1.1 103 X\r\nLink: a\r\n\r\n"
    );
}
