//! Requests, read by lameduck and by others: whoever stands behind the proxy must see the same requests.

use lameduck::config;
use lameduck::proxy::forward::headers::{RequestEdit, write_request};
use lameduck::proxy::h1::fields::FieldKind;
use lameduck::proxy::h1::method::Method;
use lameduck::proxy::h1::request::{
    HeadLimits, HeadProgress, RequestBody, RequestHead, TargetForm,
};
use lameduck::proxy::h1::span::ByteSpan;

use super::peer::{self, Seen};
use super::strict::{self, Framing};
use super::{Content, by_name, fold};

const LIMITS: HeadLimits = HeadLimits {
    max_header: 4096,
    max_uri: 1024,
};
/// Most requests of one connection that are looked at.
const MAX_REQUESTS: usize = 8;
/// What comes after the last request, to see where that ends.
const CANARY: &[u8] = b"CANARY /canary HTTP/1.1\r\nHost: canary\r\n\r\n";
/// The names that the proxy may add or replace.
const ADDED: [&str; 11] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "forwarded",
    "via",
];

const EDIT: RequestEdit<'static> = RequestEdit {
    policy: &config::HeadersConfig {
        trusted: vec![],
        x_forwarded: true,
        forwarded: true,
        via: true,
        request_id: false,
    },
    client_ip: "192.0.2.1",
    trusted: false,
    scheme: "http",
    identity: "",
    request_id: b"",
    host_override: None,
    fallback_host: "backend:80",
    changes: None,
};

/// A request as lameduck read it.
struct Ours<'a> {
    /// From the request's first byte on.
    bytes: &'a [u8],
    head: RequestHead,
    body: Content,
}

impl Ours<'_> {
    fn text(&self, span: ByteSpan) -> String {
        String::from_utf8_lossy(span.of(self.bytes)).into_owned()
    }

    /// Names in lower case with their values, as others should see them.
    fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let field = |name: &[u8], value: &[u8]| (name.to_ascii_lowercase(), value.to_vec());
        let fields = self.head.fields.iter();
        fields
            .map(|f| field(f.name.of(self.bytes), f.value.of(self.bytes)))
            .collect()
    }

    fn framing(&self) -> Framing {
        match self.head.body {
            RequestBody::None => Framing::Unframed,
            RequestBody::Length(length) => Framing::Length(length),
            RequestBody::Chunked => Framing::Chunked,
        }
    }

    /// What the app is asked for.
    fn origin(&self) -> Vec<u8> {
        let origin = self.head.origin.of(self.bytes);
        match origin.first() {
            None if self.head.form == TargetForm::Asterisk => b"*".to_vec(),
            None | Some(b'?') => [b"/", origin].concat(),
            _ => origin.to_vec(),
        }
    }
}

/// The requests of a connection, until one is refused, isn't complete or ends it.
fn read(mut bytes: &[u8]) -> Vec<Ours<'_>> {
    let mut all = Vec::new();
    while all.len() < MAX_REQUESTS {
        let mut head = RequestHead::new();
        let outcome = head.parse(bytes, &LIMITS);
        if outcome == Ok(HeadProgress::Partial) {
            // It would be waited for to no end.
            assert_eq!(strict::request(bytes).map(|head| head.len), None);
        }
        if outcome != Ok(HeadProgress::Complete) {
            break;
        }
        let body = content(&bytes[head.len..], head.body);
        let (here, keep_alive) = (bytes, head.keep_alive);
        let end = body.len().map(|length| head.len + length);
        all.push(Ours {
            bytes: here,
            head,
            body,
        });
        match end {
            Some(end) if keep_alive => bytes = &bytes[end..],
            _ => break,
        }
    }
    all
}

fn content(bytes: &[u8], body: RequestBody) -> Content {
    match body {
        RequestBody::None => Content::Whole(vec![], 0),
        RequestBody::Length(length) => Content::of_length(bytes, length),
        RequestBody::Chunked => Content::of_chunks(bytes),
    }
}

/// A client's bytes: what lameduck takes for a request is the same request for the strict reader and for hyper, and
/// the next one starts at the same byte. To refuse more than they do is fine.
pub fn request_reading(data: &[u8]) {
    let ours = read(data);
    for one in &ours {
        let strict = strict::request(one.bytes).expect("a request that RFC 9112 has");
        assert_eq!(strict.len, one.head.len);
        assert_eq!(strict.start[0], one.head.method_span.of(one.bytes));
        assert_eq!(strict.start[1], one.head.target.of(one.bytes));
        assert_eq!(strict.minor, one.head.version as u8);
        let fields = strict.fields.iter().map(|(n, v)| (n.clone(), v.to_vec()));
        assert_eq!(fields.collect::<Vec<_>>(), one.fields());
        assert_eq!(strict.framing, one.framing());
        assert_eq!(strict.keep_alive, one.head.keep_alive);
    }
    let Some(last) = ours.last() else {
        return;
    };
    let before = data.len() - last.bytes.len();
    let end = last
        .body
        .len()
        .map(|length| before + last.head.len + length);
    let input = match end {
        Some(end) => [&data[..end], CANARY].concat(),
        None => data.to_vec(),
    };
    let seen = peer::serve(&input);
    for (one, seen) in ours.iter().zip(&seen) {
        same(one, seen);
        one.body.agrees(seen.content.as_ref());
        if one.body.len().is_none() || seen.content.is_none() {
            return;
        }
    }
    let canary = seen.get(ours.len());
    // hyper reads no `Connection` with a byte beyond ASCII in it. To close where it would go on is no harm.
    let readable = strict::request(last.bytes)
        .is_some_and(|head| head.values("connection").all(<[u8]>::is_ascii));
    if seen.len() >= ours.len() && end.is_some() && last.head.keep_alive && readable {
        assert!(canary.is_some(), "hyper doesn't go on: {seen:?}");
    }
    if let Some(canary) = canary {
        is_canary(canary);
    }
    assert!(seen.len() <= ours.len() + 1, "{seen:?}");
}

fn same(ours: &Ours<'_>, seen: &Seen) {
    let (method, path, authority) = &seen.request;
    assert_eq!(*method, ours.text(ours.head.method_span));
    if ours.head.form != TargetForm::Asterisk {
        assert_eq!(path.as_bytes(), ours.origin());
    }
    if ours.head.form == TargetForm::Absolute {
        assert_eq!(*authority, Some(ours.text(ours.head.authority)));
    }
    assert_eq!(seen.minor, ours.head.version as u8);
    framed_alike(ours.head.body, seen);
    assert_eq!(by_name(&ours.fields()), by_name(&seen.fields));
}

/// To hyper, no body and a body of no byte are the same.
fn framed_alike(body: RequestBody, seen: &Seen) {
    let length = match body {
        RequestBody::None => Some(0),
        RequestBody::Length(length) => Some(length),
        RequestBody::Chunked => None,
    };
    assert_eq!(seen.length, length);
}

fn is_canary(seen: &Seen) {
    assert_eq!(seen.request.0, "CANARY", "{seen:?}");
    assert_eq!(seen.request.1, "/canary");
}

/// A chunked body, and what follows it, as [`request_reading`] and [`request_forwarding`] have it.
pub fn chunk_reading(data: &[u8]) {
    const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let request = [HEAD, data].concat();
    request_reading(&request);
    request_forwarding(&request);
}

/// What the app gets for a client's bytes: the same request, for the strict reader, for hyper, and for readers as
/// lenient as there are; and no field that nobody sent or that nobody wanted added.
pub fn request_forwarding(data: &[u8]) {
    let Some(ours) = read(data).into_iter().next() else {
        return;
    };
    for (trusted, host_override) in [(false, None), (true, None), (false, Some("app:1"))] {
        let edit = RequestEdit {
            trusted,
            host_override,
            ..EDIT
        };
        let mut out = Vec::new();
        write_request(&mut out, ours.bytes, &ours.head, &edit);
        forwarded(&ours, out, host_override);
    }
}

fn forwarded(ours: &Ours<'_>, mut out: Vec<u8>, host_override: Option<&str>) {
    let strict = strict::request(&out).expect("a request that RFC 9112 has");
    assert_eq!(strict.len, out.len());
    assert_eq!(strict.minor, 1);
    assert_eq!(strict.start[0], ours.head.method_span.of(ours.bytes));
    assert_eq!(strict.start[1], ours.origin());
    assert_eq!(strict.framing, ours.framing());
    // The proxy ends a connection that the client wants ended, not the app.
    assert!(strict.keep_alive);
    let host = match host_override {
        Some(host) => host.as_bytes(),
        None if ours.head.authority.is_empty() && ours.head.kinds & FieldKind::Host.bit() == 0 => {
            b"backend:80"
        }
        None => ours.head.authority.of(ours.bytes),
    };
    assert_eq!(strict.values("host").collect::<Vec<_>>(), [host]);
    let sent = ours.fields();
    for (name, value) in &strict.fields {
        let added = ADDED.iter().any(|added| added.as_bytes() == name);
        let copied = sent.iter().any(|(n, v)| n == name && v == value);
        assert!(added || copied, "{} was added", name.escape_ascii());
    }
    lenient(&strict);

    let body = ours.body.len().map(|length| {
        let start = ours.head.len;
        &ours.bytes[start..start + length]
    });
    out.extend_from_slice(body.unwrap_or_default());
    out.extend_from_slice(if body.is_some() { CANARY } else { b"" });
    let seen = peer::serve(&out);
    let Some(first) = seen.first() else {
        return;
    };
    assert_eq!(first.request.0, ours.text(ours.head.method_span));
    assert_eq!(first.request.1.as_bytes(), ours.origin());
    framed_alike(ours.head.body, first);
    if body.is_some() && first.content.is_some() {
        ours.body.agrees(first.content.as_ref());
        is_canary(seen.get(1).expect("the next request"));
    }
}

/// Readers that fold `_` into `-`, look for a word anywhere in a value, or take the first or last of several
/// fields, must come to the same framing.
fn lenient(head: &strict::Head<'_>) {
    let values = |name: &[u8]| -> Vec<&[u8]> {
        let fields = head.fields.iter();
        fields
            .filter(|(known, _)| fold(known) == name)
            .map(|(_, value)| *value)
            .collect()
    };
    let (lengths, codings) = (values(b"content-length"), values(b"transfer-encoding"));
    match head.framing {
        Framing::Unframed => assert!(lengths.is_empty() && codings.is_empty()),
        Framing::Chunked => {
            assert!(lengths.is_empty());
            assert_eq!(codings, [b"chunked"]);
        }
        Framing::Length(length) => {
            assert!(codings.is_empty());
            assert_eq!(lengths, [length.to_string().as_bytes()]);
        }
    }
    assert_eq!(values(b"host").len(), 1);
}

/// What the app gets for a whole connection, and what it must find there: method, target and content of each
/// request. A method that not every reader knows is replaced by PUT.
#[allow(dead_code, reason = "of examples/forward.rs alone")]
pub fn forward(data: &[u8]) -> (Vec<u8>, Vec<[Vec<u8>; 3]>) {
    let (mut wire, mut requests) = (Vec::new(), Vec::new());
    for ours in read(data) {
        let Content::Whole(content, length) = &ours.body else {
            break;
        };
        if ours.head.upgrade.is_some() {
            break;
        }
        let method = match ours.head.method {
            Method::Other => Method::Put,
            known => known,
        };
        let mut head = Vec::new();
        write_request(&mut head, ours.bytes, &ours.head, &EDIT);
        wire.extend_from_slice(method.as_bytes());
        wire.extend_from_slice(&head[ours.head.method_span.len()..]);
        wire.extend_from_slice(&ours.bytes[ours.head.len..ours.head.len + length]);
        let origin = ours.origin();
        requests.push([method.as_bytes().to_vec(), origin, content.clone()]);
    }
    (wire, requests)
}
