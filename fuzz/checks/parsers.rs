//! Each parser against itself, and against what the proxy writes.

use lameduck::config;
use lameduck::proxy::forward::headers::{
    ClientFraming, RequestEdit, ResponseEdit, write_request, write_response,
};
use lameduck::proxy::h1::chunked::{ChunkDecoder, ChunkError, LAST_CHUNK, start_chunk};
use lameduck::proxy::h1::fields::FieldKind;
use lameduck::proxy::h1::method::{HttpVersion, Method};
use lameduck::proxy::h1::request::{HeadLimits, HeadProgress, RequestError, RequestHead};
use lameduck::proxy::h1::response::{ResponseError, ResponseHead};
use lameduck::proxy::h1::span::HeaderField;
use lameduck::proxy::messages::websocket::FrameTracker;

const LIMITS: HeadLimits = HeadLimits {
    max_header: 2048,
    max_uri: 512,
};
/// Room for what the proxy adds.
const WIDE: HeadLimits = HeadLimits {
    max_header: 8192,
    max_uri: 512,
};
/// More lines than the proxy adds to a head.
const ADDED: usize = 12;

/// A request's head: parse, write, parse again.
pub fn request_head(data: &[u8]) {
    let mut head = RequestHead::new();
    let outcome = head.parse(data, &LIMITS);
    let mut early = RequestHead::new();
    for split in splits(data.len()) {
        let part = early.parse(&data[..split], &LIMITS);
        if outcome == Ok(HeadProgress::Complete) && split >= head.len {
            assert_eq!((part, &early), (outcome, &head));
        } else {
            assert!(
                part == Ok(HeadProgress::Partial) || part == outcome,
                "{part:?} after {split}, then {outcome:?}"
            );
        }
    }
    if outcome != Ok(HeadProgress::Complete) {
        return;
    }
    plain_lines(&data[..head.len]);
    for trusted in [false, true] {
        let policy = config::HeadersConfig {
            trusted: vec![],
            x_forwarded: true,
            forwarded: true,
            via: true,
            request_id: true,
        };
        let edit = RequestEdit {
            policy: &policy,
            client_ip: "192.0.2.1",
            trusted,
            scheme: "http",
            identity: "",
            request_id: b"id",
            host_override: None,
            fallback_host: "backend:80",
            changes: None,
        };
        let mut out = Vec::new();
        write_request(&mut out, data, &head, &edit);
        let mut again = RequestHead::new();
        match again.parse(&out, &WIDE) {
            Err(RequestError::TooManyFields) if head.fields.len() + ADDED > 100 => continue,
            read => assert_eq!(read, Ok(HeadProgress::Complete), "{}", out.escape_ascii()),
        }
        plain_lines(&out);
        assert_eq!(again.len, out.len());
        assert_eq!(
            (again.method, again.body, again.version),
            (head.method, head.body, HttpVersion::Http11)
        );
        assert_eq!(again.method_span.of(&out), head.method_span.of(data));
        assert_eq!(again.path.of(&out), head.path.of(data));
        assert_eq!(again.upgrade, head.upgrade);
        if head.upgrade.is_some() {
            assert_eq!(
                again.offered(&out).collect::<Vec<_>>(),
                head.offered(data).collect::<Vec<_>>()
            );
        }
        assert_eq!(count(&again.fields, FieldKind::Host), 1);
        if !head.authority.is_empty() {
            assert_eq!(again.authority.of(&out), head.authority.of(data));
        }
        for gone in [
            FieldKind::KeepAlive,
            FieldKind::ProxyConnection,
            FieldKind::Http2Settings,
            FieldKind::Dropped,
        ] {
            assert_eq!(count(&again.fields, gone), 0, "{gone:?}");
        }
        assert_eq!(count(&again.fields, FieldKind::XForwardedFor), 1);
        if !trusted {
            let claims = again
                .fields
                .iter()
                .find(|field| field.kind == FieldKind::XForwardedFor);
            assert_eq!(
                claims.map(|field| field.value.of(&out)),
                Some(&b"192.0.2.1"[..])
            );
            assert_eq!(count(&again.fields, FieldKind::Claim), 0);
        }
    }
}

/// A response's head. Its first byte chooses the request that it answers.
pub fn response_head(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let method = if choice & 1 == 0 {
        Method::Get
    } else {
        Method::Head
    };
    let asked = choice & 2 != 0;
    let mut head = ResponseHead::new();
    let outcome = head.parse(data, method, asked, LIMITS.max_header);
    let mut early = ResponseHead::new();
    for split in splits(data.len()) {
        let part = early.parse(&data[..split], method, asked, LIMITS.max_header);
        if outcome == Ok(HeadProgress::Complete) && split >= head.len {
            assert_eq!((part, &early), (outcome, &head));
        } else {
            assert!(
                part == Ok(HeadProgress::Partial) || part == outcome,
                "{part:?} after {split}, then {outcome:?}"
            );
        }
    }
    if outcome != Ok(HeadProgress::Complete) {
        return;
    }
    plain_lines(&data[..head.len]);
    assert!(asked || head.status != 101);
    for close in [false, true] {
        let edit = ResponseEdit {
            close,
            client_version: HttpVersion::Http11,
            framing: ClientFraming::Same,
            via: true,
            hsts: 0,
            changes: None,
        };
        let mut out = Vec::new();
        write_response(&mut out, data, &head, &edit);
        let mut again = ResponseHead::new();
        match again.parse(&out, method, asked, WIDE.max_header) {
            Err(ResponseError::TooManyFields) if head.fields.len() + ADDED > 100 => continue,
            read => assert_eq!(read, Ok(HeadProgress::Complete), "{}", out.escape_ascii()),
        }
        plain_lines(&out);
        assert_eq!(again.len, out.len());
        assert_eq!(
            (again.status, again.body, again.upgrade),
            (head.status, head.body, head.upgrade)
        );
        for gone in [
            FieldKind::KeepAlive,
            FieldKind::ProxyConnection,
            FieldKind::Dropped,
        ] {
            assert_eq!(count(&again.fields, gone), 0, "{gone:?}");
        }
    }
}

/// A chunked body: in one piece and in many, skimmed and decoded, and its content chunked again.
pub fn chunk_decoder(data: &[u8]) {
    let decode = |step: usize| -> Result<(Vec<u8>, usize, bool), ChunkError> {
        let (mut decoder, mut skimmer) = (ChunkDecoder::new(200), ChunkDecoder::new(200));
        let (mut out, mut used) = (Vec::new(), 0);
        for piece in data.chunks(step) {
            let decoded = decoder.decode(piece, &mut out);
            assert_eq!(skimmer.skip_body(piece), decoded);
            let (taken, complete) = decoded?;
            assert!(taken == piece.len() || complete);
            used += taken;
        }
        assert_eq!(decoder.payload(), out.len() as u64);
        Ok((out, used, decoder.is_complete()))
    };
    let whole = decode(data.len().max(1));
    for step in [1, 2, 3, 7, 64] {
        assert_eq!(decode(step), whole, "in pieces of {step}");
    }
    let Ok((content, used, true)) = whole else {
        return;
    };
    assert_eq!(
        ChunkDecoder::new(200).skip_body(&data[..used]),
        Ok((used, true))
    );
    let mut encoded = Vec::new();
    for piece in content.chunks(11) {
        start_chunk(&mut encoded, piece.len());
        encoded.extend_from_slice(piece);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(LAST_CHUNK);
    let mut again = Vec::new();
    assert_eq!(
        ChunkDecoder::new(0).decode(&encoded, &mut again),
        Ok((encoded.len(), true))
    );
    assert_eq!(again, content);
}

/// Frames: the same boundaries, whatever the split.
pub fn frame_tracker(data: &[u8]) {
    let mut whole = FrameTracker::new();
    whole.feed(data);
    for split in splits(data.len()) {
        let mut parts = FrameTracker::new();
        parts.feed(&data[..split]);
        if let Some(end) = parts.next_boundary(&data[split..]) {
            let mut there = parts.clone();
            there.feed(&data[split..split + end]);
            assert!(there.at_boundary());
        }
        parts.feed(&data[split..]);
        assert_eq!(parts.at_boundary(), whole.at_boundary());
        assert_eq!(parts.saw_close(), whole.saw_close());
        assert_eq!(parts.is_broken(), whole.is_broken());
    }
}

/// Every place to split short input at, and about 64 of longer input.
fn splits(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(length / 64 + 1)
}

/// Nothing that another reader could take for a line's end, or for the end of the text.
fn plain_lines(head: &[u8]) {
    assert!(head.ends_with(b"\r\n\r\n"));
    for (at, byte) in head.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(head.get(at + 1), Some(&b'\n')),
            b'\n' => assert!(at > 0 && head[at - 1] == b'\r'),
            b'\t' => {}
            _ => assert!(*byte >= b' ' && *byte != 0x7f),
        }
    }
}

fn count(fields: &[HeaderField], kind: FieldKind) -> usize {
    fields.iter().filter(|field| field.kind == kind).count()
}
