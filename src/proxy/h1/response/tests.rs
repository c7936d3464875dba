use super::*;
use crate::proxy::h1::framing::FramingError;

const MAX: usize = 1024;

/// Parses, and checks that the result doesn't depend on the split.
fn parse_for(text: &str, method: Method, upgrade: bool) -> Result<ResponseHead, ResponseError> {
    let mut head = ResponseHead::new();
    let outcome = head.parse(text.as_bytes(), method, upgrade, MAX);
    let complete_at = if outcome == Ok(HeadProgress::Complete) {
        head.len
    } else {
        text.len()
    };
    let mut other = ResponseHead::new();
    for split in 0..complete_at {
        let early = other.parse(&text.as_bytes()[..split], method, upgrade, MAX);
        assert!(
            early == Ok(HeadProgress::Partial) || early == outcome,
            "after {split}: {early:?}, then {outcome:?}"
        );
    }
    assert_ne!(outcome, Ok(HeadProgress::Partial), "{text}");
    outcome.map(|_| head)
}

fn parse(text: &str) -> Result<ResponseHead, ResponseError> {
    parse_for(text, Method::Get, false)
}

fn ok(fields: &str) -> Result<ResponseHead, ResponseError> {
    parse(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"))
}

fn body(status: u16, fields: &str, method: Method) -> ResponseBody {
    parse_for(
        &format!("HTTP/1.1 {status} X\r\n{fields}\r\n"),
        method,
        false,
    )
    .unwrap()
    .body
}

#[test]
fn a_plain_response() {
    let text = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nKeep-Alive: timeout=5, max=100\r\n\r\n";
    let head = parse(text).unwrap();
    assert_eq!(
        (head.len, head.status, head.version),
        (text.len(), 200, HttpVersion::Http11)
    );
    assert_eq!(head.body, ResponseBody::Length(5));
    assert_eq!(head.keep_alive_timeout, Some(5));
    assert!(head.keep_alive && !head.is_event_stream && !head.interim() && head.upgrade.is_none());
    assert_eq!(head.fields[0].value.of(text.as_bytes()), b"text/plain");
}

#[test]
fn a_head_is_reused_without_leftovers() {
    let mut head = ResponseHead::new();
    let first = b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\nKeep-Alive: timeout=1\r\nContent-Type: text/event-stream\r\n\r\n";
    assert_eq!(
        head.parse(first, Method::Get, true, MAX),
        Ok(HeadProgress::Complete)
    );
    let plain = b"HTTP/1.0 204 X\r\n\r\n";
    assert_eq!(
        head.parse(plain, Method::Get, true, MAX),
        Ok(HeadProgress::Complete)
    );
    let mut fresh = ResponseHead::new();
    assert_eq!(
        fresh.parse(plain, Method::Get, true, MAX),
        Ok(HeadProgress::Complete)
    );
    assert_eq!(head, fresh);
}

#[test]
fn status_lines() {
    assert_eq!(parse("HTTP/1.1 200\r\n\r\n").unwrap().status, 200);
    assert_eq!(parse("HTTP/1.1 200 \r\n\r\n").unwrap().status, 200);
    assert_eq!(parse("HTTP/1.1 999 \u{e9}\r\n\r\n").unwrap().status, 999);
    for bad in [
        "HTTP/1.1 099 X",
        "HTTP/1.1 20 X",
        "HTTP/1.1 2000 X",
        "HTTP/1.1 2x0 X",
        "HTTP/1.1  200 X",
        "HTTP/1.1 200\tX",
        "HTTP/1.1 200 a\0b",
        "HTTX/1.1 200 X",
        "HTTP/2.0 200 X",
        "\r\nHTTP/1.1 200 X",
        "\nHTTP/1.1 200 X",
        "x",
        " HTTP/1.1 200 X",
    ] {
        let error = parse(&format!("{bad}\r\n\r\n")).unwrap_err();
        assert!(
            matches!(
                error,
                ResponseError::BadStatusLine | ResponseError::BadVersion
            ),
            "{bad}: {error}"
        );
    }
}

/// The same rules as for requests; see there.
#[test]
fn lines_and_names() {
    use ResponseError::{BadFieldName, BadFieldValue, BadLineEnd};
    for (text, error) in [
        ("HTTP/1.1 200 OK\nA: b\r\n\r\n", BadLineEnd),
        ("HTTP/1.1 200\nA: b\r\n\r\n", BadLineEnd),
        ("HTTP/1.1 200 OK\r\nA: b\n\r\n", BadLineEnd),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\n", BadLineEnd),
        ("HTTP/1.1 200 OK\n\n", BadLineEnd),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", BadFieldName),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", BadFieldName),
        ("HTTP/1.1 200 OK\r\n: b\r\n\r\n", BadFieldName),
        ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", BadFieldValue),
        ("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", BadFieldValue),
    ] {
        assert_eq!(parse(text), Err(error), "{}", text.escape_debug());
    }
    // In a response this name has no meaning, unlike in a request.
    assert!(parse("HTTP/1.1 200 OK\r\nContent_Length: 1\r\n\r\n").is_ok());
    assert_eq!(
        ok(&"A: b\r\n".repeat(101)),
        Err(ResponseError::TooManyFields)
    );
    assert_eq!(
        ok(&format!("A: {}\r\n", "b".repeat(MAX))),
        Err(ResponseError::HeadTooLarge)
    );
    assert_eq!(
        ok(&format!("Connection: {}\r\n", "x,".repeat(33))),
        Err(ResponseError::TooManyOptions)
    );
}

/// RFC 9112 §6.3.
#[test]
fn bodies() {
    use ResponseBody::{Chunked, Length, None, UntilClose};
    let get = Method::Get;
    assert_eq!(body(200, "", get), UntilClose);
    assert_eq!(body(200, "Content-Length: 5\r\n", get), Length(5));
    assert_eq!(
        body(200, "Content-Length: 5\r\nContent-Length: 5\r\n", get),
        Length(5)
    );
    assert_eq!(body(200, "Transfer-Encoding: chunked\r\n", get), Chunked);
    for fields in [
        "",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(body(200, fields, Method::Head), None, "{fields}");
        for status in [100, 103, 204, 304] {
            assert_eq!(body(status, fields, get), None, "{status} {fields}");
        }
    }
    for (fields, error) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            ResponseError::Framing(FramingError::LengthAndEncoding),
        ),
        (
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            ResponseError::Framing(FramingError::LengthsDiffer),
        ),
        (
            "Content-Length: -1\r\n",
            ResponseError::Framing(FramingError::BadLength),
        ),
        (
            "Transfer-Encoding: gzip\r\n",
            ResponseError::Framing(FramingError::BadEncoding),
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            ResponseError::Framing(FramingError::UnknownCoding),
        ),
        (
            "Transfer-Encoding: identity\r\n",
            ResponseError::Framing(FramingError::BadEncoding),
        ),
    ] {
        assert_eq!(ok(fields), Err(error), "{fields}");
    }
    assert_eq!(
        parse("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Err(ResponseError::Framing(FramingError::EncodingIn10))
    );
}

/// RFC 9112 §9.3; a connection on which unexpected bytes may follow isn't reused.
#[test]
fn keep_alive() {
    let kept = |text: &str| parse(text).unwrap().keep_alive;
    assert!(kept("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(!kept(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ));
    assert!(!kept("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert!(kept(
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
    ));
    assert!(!kept("HTTP/1.1 200 OK\r\n\r\n"));
    assert!(kept("HTTP/1.1 204 X\r\n\r\n"));
    assert!(kept("HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n"));
    assert!(!kept("HTTP/1.1 204 X\r\nContent-Length: 3\r\n\r\n"));
    assert!(!kept(
        "HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    assert!(kept("HTTP/1.1 304 X\r\nContent-Length: 3\r\n\r\n"));
}

#[test]
fn keep_alive_timeouts_and_event_streams() {
    let timeout = |value: &str| {
        ok(&format!("Keep-Alive: {value}\r\n"))
            .unwrap()
            .keep_alive_timeout
    };
    assert_eq!(timeout("max=3, Timeout=72"), Some(72));
    for none in [
        "",
        "timeout",
        "timeout=",
        "timeout=x",
        "timeout=-1",
        "timeout=99999999999",
        "72",
    ] {
        assert_eq!(timeout(none), None, "{none}");
    }
    let stream = |value: &str| {
        ok(&format!("Content-Type: {value}\r\n"))
            .unwrap()
            .is_event_stream
    };
    assert!(
        stream("text/event-stream")
            && stream("Text/Event-Stream;charset=utf-8")
            && stream("text/event-stream ; a=b")
    );
    assert!(!stream("text/event-streams") && !stream("text/plain") && !stream("text/event-strea"));
}

/// RFC 9110 §7.8.
#[test]
fn unrequested_101_is_refused() {
    let switch = |fields: &str, asked| {
        parse_for(
            &format!("HTTP/1.1 101 X\r\n{fields}\r\n"),
            Method::Get,
            asked,
        )
    };
    let good = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let head = switch(good, true).unwrap();
    assert_eq!(
        (head.upgrade, head.body, head.interim()),
        (Some(UpgradeProtocol::WebSocket), ResponseBody::None, false)
    );
    let text = format!("HTTP/1.1 101 X\r\n{good}\r\n");
    let agrees = |offered: &[&'static str]| {
        let offered = offered.iter().map(|name| name.as_bytes());
        head.agrees(text.as_bytes(), offered)
    };
    assert!(agrees(&["WebSocket"]) && agrees(&["tcp", "websocket"]));
    assert!(!agrees(&["tcp", "websocket/2"]) && !agrees(&[]));
    assert_eq!(switch(good, false), Err(ResponseError::UnaskedUpgrade));
    for bad in [
        "",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade: a, b\r\n",
        "Connection: upgrade\r\nUpgrade: a\r\nUpgrade: a\r\n",
        "Connection: upgrade\r\nUpgrade:\r\n",
    ] {
        assert_eq!(
            switch(bad, true),
            Err(ResponseError::UnaskedUpgrade),
            "{bad}"
        );
    }
    let old = "HTTP/1.0 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(
        parse_for(old, Method::Get, true),
        Err(ResponseError::UnaskedUpgrade)
    );
    assert_eq!(ok(good).unwrap().upgrade, None);
}

/// RFC 9110 §15.2.
#[test]
fn interim_responses() {
    for status in [100, 102, 103] {
        assert!(
            parse(&format!("HTTP/1.1 {status} X\r\n\r\n"))
                .unwrap()
                .interim()
        );
    }
    assert!(!ok("").unwrap().interim());
}
