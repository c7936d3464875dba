//! Responses, read by lameduck and by others: a client must see the same responses as the proxy.

use lameduck::proxy::forward::headers::{ClientFraming, ResponseEdit, write_response};
use lameduck::proxy::h1::chunked::{LAST_CHUNK, start_chunk};
use lameduck::proxy::h1::method::{HttpVersion, Method};
use lameduck::proxy::h1::request::HeadProgress;
use lameduck::proxy::h1::response::{ResponseBody, ResponseHead};

use super::peer::{self, Seen};
use super::strict::{self, Framing};
use super::{Content, by_name};

const MAX_HEADER: usize = 4096;
/// Most 1xx before the response.
const MAX_INTERIM: usize = 4;
/// The answer to the next request.
const CANARY: &[u8] = b"HTTP/1.1 218 Canary\r\nContent-Length: 0\r\n\r\n";

/// A response as lameduck read it.
struct Ours<'a> {
    /// From the response's first byte on.
    bytes: &'a [u8],
    head: ResponseHead,
    body: Content,
}

impl Ours<'_> {
    fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let field = |name: &[u8], value: &[u8]| (name.to_ascii_lowercase(), value.to_vec());
        let fields = self.head.fields.iter();
        fields
            .map(|f| field(f.name.of(self.bytes), f.value.of(self.bytes)))
            .collect()
    }
}

/// The first response that is no 1xx. A 101 is another matter: from there on it isn't HTTP.
fn read(mut bytes: &[u8], method: Method) -> Option<Ours<'_>> {
    for _ in 0..=MAX_INTERIM {
        let mut head = ResponseHead::new();
        match head.parse(bytes, method, false, MAX_HEADER) {
            Ok(HeadProgress::Complete) => {}
            Ok(HeadProgress::Partial) => {
                assert_eq!(strict::response(bytes).map(|head| head.len), None);
                return None;
            }
            Err(_) => return None,
        }
        same_as_strict(bytes, &head, method);
        if head.interim() {
            bytes = &bytes[head.len..];
            continue;
        }
        let body = content(&bytes[head.len..], head.body);
        return Some(Ours { bytes, head, body });
    }
    None
}

fn content(bytes: &[u8], body: ResponseBody) -> Content {
    match body {
        ResponseBody::None => Content::Whole(vec![], 0),
        ResponseBody::UntilClose => Content::Whole(bytes.to_vec(), bytes.len()),
        ResponseBody::Length(length) => Content::of_length(bytes, length),
        ResponseBody::Chunked => Content::of_chunks(bytes),
    }
}

fn same_as_strict(bytes: &[u8], head: &ResponseHead, method: Method) {
    let strict = strict::response(bytes).expect("a response that RFC 9112 has");
    assert_eq!(strict.len, head.len);
    assert_eq!(strict.start[1], head.status.to_string().as_bytes());
    assert_eq!(strict.minor, head.version as u8);
    assert_eq!(strict.fields.len(), head.fields.len());
    for ((name, value), field) in strict.fields.iter().zip(&head.fields) {
        assert_eq!(*name, field.name.of(bytes).to_ascii_lowercase());
        assert_eq!(*value, field.value.of(bytes));
    }
    assert_eq!(body_of(&strict, head.status, method), head.body);
    assert!(strict.keep_alive || !head.keep_alive);
}

/// RFC 9112 §6.3.
fn body_of(strict: &strict::Head<'_>, status: u16, method: Method) -> ResponseBody {
    match strict.framing {
        _ if method == Method::Head || status < 200 || matches!(status, 204 | 304) => {
            ResponseBody::None
        }
        Framing::Unframed => ResponseBody::UntilClose,
        Framing::Length(length) => ResponseBody::Length(length),
        Framing::Chunked => ResponseBody::Chunked,
    }
}

fn choose(data: &[u8]) -> Option<(Method, &[u8])> {
    let (choice, data) = data.split_first()?;
    Some(match choice & 1 {
        0 => (Method::Get, data),
        _ => (Method::Head, data),
    })
}

/// A backend's bytes: what lameduck takes for a response is the same response for the strict reader and for hyper,
/// and ends at the same byte. The first byte chooses the request's method.
pub fn response_reading(data: &[u8]) {
    let Some((method, data)) = choose(data) else {
        return;
    };
    let Some(ours) = read(data, method) else {
        return;
    };
    let seen = asked(&ours, data, method);
    let Some(first) = seen.first() else {
        return;
    };
    assert_eq!(first.status, ours.head.status);
    assert_eq!(first.minor, ours.head.version as u8);
    assert_eq!(by_name(&ours.fields()), by_name(&first.fields));
    same_body(&ours, &seen);
}

/// Shows hyper the response alone, and a canary as the answer to the next request where there may be one.
fn asked(ours: &Ours<'_>, data: &[u8], method: Method) -> Vec<Seen> {
    let before = data.len() - ours.bytes.len();
    let end = ours
        .body
        .len()
        .map(|length| before + ours.head.len + length);
    let bytes = &data[..end.unwrap_or(data.len())];
    let alone = end.is_none() || ours.head.body == ResponseBody::UntilClose;
    let answers = [bytes, CANARY];
    peer::ask(method.as_str(), &answers[..if alone { 1 } else { 2 }])
}

fn same_body(ours: &Ours<'_>, seen: &[Seen]) {
    let length = match ours.head.body {
        ResponseBody::None => Some(0),
        ResponseBody::Length(length) => Some(length),
        ResponseBody::Chunked | ResponseBody::UntilClose => None,
    };
    assert_eq!(seen[0].length, length);
    ours.body.agrees(seen[0].content.as_ref());
    if ours.body.len().is_some() && seen[0].content.is_none() {
        // It refuses the body; it must not wait for more of another.
        assert_eq!(ours.head.body, ResponseBody::Chunked);
    }
    if let Some(canary) = seen.get(1) {
        assert_eq!(canary.status, 218);
    }
    if ours.head.keep_alive && ours.body.len().is_some() && seen[0].content.is_some() {
        assert_eq!(seen.len(), 2, "hyper doesn't go on: {seen:?}");
    }
}

/// What a client gets for a backend's bytes: the same response, for the strict reader and for hyper.
pub fn response_forwarding(data: &[u8]) {
    let Some((method, data)) = choose(data) else {
        return;
    };
    let Some(ours) = read(data, method) else {
        return;
    };
    for client_version in [HttpVersion::Http10, HttpVersion::Http11] {
        let framing = ClientFraming::choose(&ours.head, client_version);
        let edit = ResponseEdit {
            close: false,
            client_version,
            framing,
            via: true,
            hsts: 0,
            changes: None,
        };
        let mut out = Vec::new();
        write_response(&mut out, ours.bytes, &ours.head, &edit);
        forwarded(&ours, &out, &edit, method);
    }
}

fn forwarded(ours: &Ours<'_>, out: &[u8], edit: &ResponseEdit<'_>, method: Method) {
    let strict = strict::response(out).expect("a response that RFC 9112 has");
    assert_eq!((strict.len, strict.minor), (out.len(), 1));
    assert_eq!(strict.start[1], ours.head.status.to_string().as_bytes());
    let body = match edit.framing {
        ClientFraming::Same => ours.head.body,
        ClientFraming::Dechunked => ResponseBody::UntilClose,
        ClientFraming::Chunked => ResponseBody::Chunked,
    };
    assert_eq!(body_of(&strict, ours.head.status, method), body);
    if body == ResponseBody::UntilClose {
        assert!(!strict.keep_alive);
    }
    if edit.client_version == HttpVersion::Http10 {
        assert_eq!(strict.values("transfer-encoding").count(), 0);
    }
    let sent = ours.fields();
    for (name, value) in &strict.fields {
        let added = [
            "content-length",
            "transfer-encoding",
            "connection",
            "via",
            "upgrade",
        ];
        let added = added.iter().any(|added| added.as_bytes() == name);
        let copied = sent.iter().any(|(n, v)| n == name && v == value);
        assert!(added || copied, "{} was added", name.escape_ascii());
    }
    let mut head = ours.head.clone();
    (head.body, head.len, head.keep_alive) = (body, out.len(), false);
    let again = Ours {
        bytes: out,
        head,
        body: content(b"", body),
    };
    let seen = asked(&again, out, method);
    if let Some(first) = seen.first() {
        assert_eq!(first.status, ours.head.status);
        if body != ResponseBody::UntilClose {
            same_body(&again, &seen);
        }
    }
}

/// What a client of HTTP/1.1 gets for a backend's bytes, and what it must find there: the request's method, the
/// status and the content.
#[allow(dead_code, reason = "of examples/forward.rs alone")]
pub fn forward(data: &[u8]) -> Option<(Vec<u8>, &'static str, u16, Vec<u8>)> {
    let (method, data) = choose(data)?;
    let ours = read(data, method)?;
    let Content::Whole(content, length) = &ours.body else {
        return None;
    };
    let edit = ResponseEdit {
        close: false,
        client_version: HttpVersion::Http11,
        framing: ClientFraming::choose(&ours.head, HttpVersion::Http11),
        via: true,
        hsts: 0,
        changes: None,
    };
    let mut wire = Vec::new();
    write_response(&mut wire, ours.bytes, &ours.head, &edit);
    if edit.framing == ClientFraming::Same {
        wire.extend_from_slice(&ours.bytes[ours.head.len..ours.head.len + length]);
    } else {
        if !content.is_empty() {
            start_chunk(&mut wire, content.len());
            wire.extend_from_slice(content);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(LAST_CHUNK);
    }
    Some((wire, method.as_str(), ours.head.status, content.clone()))
}
