use super::*;

mod meaning;

const LIMITS: HeadLimits = HeadLimits {
    max_header: 4096,
    max_uri: 256,
};

/// Parses, and checks that the result doesn't depend on the split: each prefix is partial or has the same error, and
/// bytes after the head don't matter.
fn parse(text: &str) -> Result<RequestHead, RequestError> {
    parse_with(text.as_bytes(), &LIMITS)
}

fn parse_with(bytes: &[u8], limits: &HeadLimits) -> Result<RequestHead, RequestError> {
    let mut head = RequestHead::new();
    let outcome = head.parse(bytes, limits);
    let complete_at = if outcome == Ok(HeadProgress::Complete) {
        head.len
    } else {
        bytes.len()
    };
    let mut other = RequestHead::new();
    for split in 0..complete_at {
        let early = other.parse(&bytes[..split], limits);
        assert!(
            early == Ok(HeadProgress::Partial) || early == outcome,
            "after {split} bytes: {early:?}, then {outcome:?}"
        );
    }
    if outcome.is_ok() {
        let longer = [bytes, b"GET"].concat();
        assert_eq!(other.parse(&longer, limits), Ok(HeadProgress::Complete));
        assert_eq!(other, head);
    }
    assert_ne!(
        outcome,
        Ok(HeadProgress::Partial),
        "{}",
        bytes.escape_ascii()
    );
    outcome.map(|_| head)
}

fn get(fields: &str) -> Result<RequestHead, RequestError> {
    parse(&format!(
        "GET /a/b?c=d HTTP/1.1\r\nHost: example.org:8080\r\n{fields}\r\n"
    ))
}

fn post(fields: &str) -> Result<RequestHead, RequestError> {
    parse(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

#[track_caller]
fn refused(bytes: &[u8], error: RequestError) {
    assert_eq!(
        parse_with(bytes, &LIMITS).map(|_| ()),
        Err(error),
        "{}",
        bytes.escape_ascii()
    );
}

fn kinds(head: &RequestHead) -> Vec<FieldKind> {
    head.fields.iter().map(|field| field.kind).collect()
}

#[test]
fn a_plain_request() {
    let text = "GET /a/b?c=d HTTP/1.1\r\nHost: example.org:8080\r\nAccept: \t*/* \r\nIdempotency-Key: k\r\nX:\r\n\r\n";
    let (head, buf) = (parse(text).unwrap(), text.as_bytes());
    assert_eq!(head.len, text.len());
    assert_eq!(
        (head.method, head.version),
        (Method::Get, HttpVersion::Http11)
    );
    assert_eq!(head.method_span.of(buf), b"GET");
    assert_eq!(head.target.of(buf), b"/a/b?c=d");
    assert_eq!(head.path.of(buf), b"/a/b");
    assert_eq!(head.host.of(buf), b"example.org");
    assert_eq!(head.authority.of(buf), b"example.org:8080");
    assert_eq!(head.fields.len(), 4);
    assert_eq!(head.fields[1].name.of(buf), b"Accept");
    assert_eq!(head.fields[1].value.of(buf), b"*/*");
    assert_eq!(head.fields[3].value.of(buf), b"");
    assert_eq!(head.body, RequestBody::None);
    assert!(
        head.keep_alive && head.idempotency_key && !head.expect_continue && head.upgrade.is_none()
    );
}

#[test]
fn a_head_is_reused_without_leftovers() {
    let mut head = RequestHead::new();
    let first = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTE: trailers\r\nIdempotency-Key: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(head.parse(first, &LIMITS), Ok(HeadProgress::Complete));
    assert!(head.expect_continue && head.te_trailers && head.idempotency_key);
    let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(head.parse(upgrade, &LIMITS), Ok(HeadProgress::Complete));
    let plain = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(head.parse(plain, &LIMITS), Ok(HeadProgress::Complete));
    let mut fresh = RequestHead::new();
    assert_eq!(fresh.parse(plain, &LIMITS), Ok(HeadProgress::Complete));
    assert_eq!(head, fresh);
}

/// RFC 9112 §2.2.
#[test]
fn two_empty_lines_before_are_skipped() {
    let text = "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = parse(text).unwrap();
    assert_eq!(head.len, text.len());
    assert_eq!(head.method_span.of(text.as_bytes()), b"GET");
    refused(
        b"\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        RequestError::BadRequestLine,
    );
    refused(
        b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        RequestError::BadRequestLine,
    );
    refused(
        b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        RequestError::BadRequestLine,
    );
    refused(
        b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        RequestError::BadRequestLine,
    );
}

/// RFC 9112 §2.2: a bare LF may be refused, a bare CR must not be taken for a line's end.
#[test]
fn lines_end_in_crlf() {
    use RequestError::{BadFieldValue, BadLineEnd, BadVersion};
    refused(b"GET / HTTP/1.1\nHost: a\r\n\r\n", BadLineEnd);
    refused(b"GET / HTTP/1.1\r\nHost: a\n\r\n", BadLineEnd);
    refused(b"GET / HTTP/1.1\r\nHost: a\n\n", BadLineEnd);
    refused(b"GET / HTTP/1.1\r\nHost: a\r\n\n", BadLineEnd);
    refused(b"GET / HTTP/1.1\r\nHost: a\r\nX:\nY: z\r\n\r\n", BadLineEnd);
    refused(b"GET / HTTP/1.0\n\n", BadLineEnd);
    refused(b"GET / HTTP/1.0\n\r\n", BadLineEnd);
    refused(b"GET / HTTP/1.0\r\n\n", BadLineEnd);
    refused(b"GET / HTTP/1.1\rHost: a\r\n\r\n", BadLineEnd);
    refused(b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", BadFieldValue);
    refused(b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", BadFieldValue);
    refused(b"GET / HTTP/1.1\r\nHost: a\r\n\rX: y\r\n\r\n", BadLineEnd);
    refused(b"GET /\r/ HTTP/1.1\r\nHost: a\r\n\r\n", BadVersion);
}

/// RFC 9110 §5.5: NUL, CR and LF are dangerous; so is every other control character. Obs-text stays opaque.
#[test]
fn controls_are_refused_everywhere() {
    for byte in (0..=0x1f)
        .chain([0x7f])
        .filter(|b| !matches!(b, b'\t' | b'\r' | b'\n'))
    {
        // At several places, because values are scanned in blocks.
        for before in [
            "",
            "abc",
            "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz",
        ] {
            let value = [
                b"GET / HTTP/1.1\r\nHost: a\r\nX: ",
                before.as_bytes(),
                &[byte],
                b"abc\r\n\r\n",
            ]
            .concat();
            refused(&value, RequestError::BadFieldValue);
            let name = [
                b"GET / HTTP/1.1\r\nHost: a\r\nX",
                before.as_bytes(),
                &[byte],
                b": abc\r\n\r\n",
            ]
            .concat();
            refused(&name, RequestError::BadFieldName);
            let target = [
                b"GET /",
                before.as_bytes(),
                &[byte],
                b" HTTP/1.1\r\nHost: a\r\n\r\n",
            ]
            .concat();
            refused(&target, RequestError::BadRequestLine);
        }
    }
    assert!(
        parse_with(
            b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\nX: \xff\t\xe9\r\n\r\n",
            &LIMITS
        )
        .is_ok()
    );
}

/// Only the app knows in which encoding a path is.
#[test]
fn paths_and_queries_have_any_byte_above_ascii_and_hosts_none() {
    for (line, target) in [
        (&b"GET /\xff?\x80 HTTP/1.1"[..], &b"/\xff?\x80"[..]),
        (b"GET /a\xc3 HTTP/1.0", b"/a\xc3"),
        (b"GET http://a/\xe9 HTTP/1.1", b"http://a/\xe9"),
        (b"GET http://a?\xe9 HTTP/1.1", b"http://a?\xe9"),
    ] {
        let text = [line, b"\r\nHost: a\r\nX: \xff\r\n\r\n"].concat();
        for end in 0..text.len() {
            let mut head = RequestHead::new();
            assert_eq!(
                head.parse(&text[..end], &LIMITS),
                Ok(HeadProgress::Partial),
                "{end}"
            );
        }
        let head = parse_with(&text, &LIMITS).unwrap();
        assert_eq!(head.target.of(&text), target);
        assert_eq!(head.fields[1].value.of(&text), b"\xff");
    }
    for line in [
        &b"GET http://\xe9/ HTTP/1.1"[..],
        b"GET \xff HTTP/1.1",
        b"GET /\xff\x01 HTTP/1.1",
        b"G\xff /\xff HTTP/1.1",
        b"GET /\xff  HTTP/1.1",
    ] {
        let text = [line, b"\r\nHost: a\r\n\r\n"].concat();
        assert!(
            parse_with(&text, &LIMITS).is_err(),
            "{}",
            line.escape_ascii()
        );
    }
}

/// RFC 9112 §5.1 (no space before the colon), §5.2 (no folding), RFC 9110 §5.6.2 (names are tokens).
#[test]
fn field_names_are_tokens() {
    for line in [
        "Host : a",
        "X\t: y",
        " X: y",
        "\tX: y",
        ": y",
        "X",
        "X y: z",
        "X@: y",
        "X(: y",
        "X\u{e9}: y",
        "[X]: y",
    ] {
        refused(
            format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n").as_bytes(),
            RequestError::BadFieldName,
        );
    }
    // A first line that starts with a space (RFC 9112 §2.2).
    refused(
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        RequestError::BadFieldName,
    );
    refused(
        b"GET / HTTP/1.1\r\nX: a\r\n b\r\nHost: a\r\n\r\n",
        RequestError::BadFieldName,
    );
    for line in ["Content_Length: 5", "TRANSFER_ENCODING: chunked"] {
        assert_eq!(
            get(&format!("{line}\r\n")),
            Err(RequestError::FramingImitation)
        );
    }
}

#[test]
fn malformed_request_lines_are_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /  HTTP/1.1",
        "GET / a HTTP/1.1",
        "G@T / HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTPS/1.1",
        "/ HTTP/1.1",
        " HTTP/1.1",
    ] {
        let text = format!("{line}\r\nHost: a\r\n\r\n");
        let error = parse(&text).unwrap_err();
        assert_eq!(error.status(), 400, "{line}: {error}");
    }
}

/// RFC 9112 §2.3 and RFC 9110 §15.6.6.
#[test]
fn other_versions_are_505() {
    for version in [
        "HTTP/1.2",
        "HTTP/1.9",
        "HTTP/2.0",
        "HTTP/2",
        "HTTP/0.9",
        "HTTP/3.0",
        "HTTP/1.10",
        "HTTP/11.1",
    ] {
        let text = format!("GET / {version}\r\nHost: a\r\n\r\n");
        let error = parse(&text).unwrap_err();
        assert!(matches!(error.status(), 505 | 400), "{version}");
        if version != "HTTP/1.10" {
            assert_eq!(error, RequestError::BadVersion, "{version}");
        }
    }
    refused(b"GET /\r\n", RequestError::BadVersion);
    refused(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        RequestError::BadVersion,
    );
}

/// RFC 9112 §3.2.
#[test]
fn exactly_one_good_host() {
    refused(b"GET / HTTP/1.1\r\n\r\n", RequestError::NoHost);
    refused(b"GET http://a/ HTTP/1.1\r\n\r\n", RequestError::NoHost);
    assert_eq!(
        get("Host: example.org:8080\r\n"),
        Err(RequestError::ManyHosts)
    );
    for host in [
        "a b", "a/b", "u@a", "a:b", "a,b", "a:99999", "[::1", "\u{e9}",
    ] {
        refused(
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(),
            RequestError::BadHost,
        );
        refused(
            format!("GET http://b/ HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(),
            RequestError::BadHost,
        );
    }
    let text = "GET / HTTP/1.0\r\n\r\n";
    let old = parse(text).unwrap();
    assert!(old.host.of(text.as_bytes()).is_empty() && old.authority.is_empty());
    assert!(
        parse("GET / HTTP/1.1\r\nHost:\r\n\r\n")
            .unwrap()
            .host
            .is_empty()
    );
}

/// RFC 9112 §3.2.2.
#[test]
fn the_target_wins_over_host() {
    let text = "GET http://b:81/c HTTP/1.1\r\nHost: a\r\n\r\n";
    let (head, buf) = (parse(text).unwrap(), text.as_bytes());
    assert_eq!(head.host.of(buf), b"b");
    assert_eq!(head.authority.of(buf), b"b:81");
    assert_eq!(head.path.of(buf), b"/c");
    let text = "GET http://[::1] HTTP/1.1\r\nHost: a:1\r\n\r\n";
    let (head, buf) = (parse(text).unwrap(), text.as_bytes());
    assert_eq!(
        (head.host.of(buf), head.path.of(buf)),
        (&b"[::1]"[..], &b"/"[..])
    );
}

#[test]
fn target_forms() {
    refused(
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        RequestError::ConnectMethod,
    );
    refused(
        b"CONNECT / HTTP/1.1\r\nHost: a:443\r\n\r\n",
        RequestError::ConnectMethod,
    );
    refused(
        b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        RequestError::BadTarget,
    );
    refused(
        b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
        RequestError::BadTarget,
    );
    refused(
        b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        RequestError::BadTarget,
    );
    refused(
        b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        RequestError::BadHost,
    );
    let text = "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = parse(text).unwrap();
    assert_eq!(
        (head.form, head.path.of(text.as_bytes())),
        (TargetForm::Asterisk, &b"/"[..])
    );
    let text = "PURGE / HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = parse(text).unwrap();
    assert_eq!(
        (head.method, head.method_span.of(text.as_bytes())),
        (Method::Other, &b"PURGE"[..])
    );
}

#[test]
fn heads_beyond_the_limits_are_refused() {
    let request = |path: usize, value: usize| {
        format!(
            "GET /{} HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "p".repeat(path),
            "v".repeat(value)
        )
    };
    assert!(parse(&request(255, 0)).is_ok());
    assert_eq!(parse(&request(256, 0)), Err(RequestError::TargetTooLong));
    assert_eq!(parse(&request(5000, 0)), Err(RequestError::TargetTooLong));
    let overhead = request(0, 0).len();
    assert!(parse(&request(0, 4096 - overhead)).is_ok());
    assert_eq!(
        parse(&request(0, 4097 - overhead)),
        Err(RequestError::HeadTooLarge)
    );
    assert_eq!(parse(&"G".repeat(5000)), Err(RequestError::HeadTooLarge));
    assert!(get(&"A: b\r\n".repeat(99)).is_ok());
    assert_eq!(
        get(&"A: b\r\n".repeat(100)),
        Err(RequestError::TooManyFields)
    );
    assert_eq!(RequestError::TooManyFields.status(), 431);
    assert_eq!(RequestError::TargetTooLong.status(), 414);
    assert_eq!(RequestError::HeadTooLarge.status(), 431);
}
