use super::super::carrier;
use super::super::frame_header::MAX_PAYLOAD;
use super::*;

/// Returns a HEADERS frame.
fn headers(stream: u32, is_last: bool, block: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_block(&mut out, stream, is_last, block);
    out
}

fn literals(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        put_literal(&mut block, name.as_bytes(), value);
    }
    block
}

/// Returns what is read from a sieve if the bytes arrive in slices of this size.
fn through(sieve: &mut HeadSieve, bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in bytes.chunks(piece) {
        let passed = sieve.follow(piece);
        out.extend_from_slice(&piece[..passed]);
        out.extend_from_slice(&sieve.ready[sieve.ready_from..]);
        sieve.ready.clear();
    }
    out
}

fn fields_of(frame: &[u8], table: &mut FieldTable) -> Vec<(Vec<u8>, Vec<u8>)> {
    let header = FrameHeader::parse(frame).unwrap();
    let block = header.fragment(frame).unwrap();
    let (mut reader, mut field) = (BlockReader::new(block), FieldBuffer::default());
    let mut fields = Vec::new();
    while let Some(piece) = reader.next_piece(table, &mut field).unwrap() {
        let (name, value) = match piece {
            BlockPiece::Indexed(index) => table.get(index).unwrap(),
            BlockPiece::Literal => field.parts(),
            BlockPiece::Resize => continue,
        };
        fields.push((name.to_vec(), value.to_vec()));
    }
    fields
}

const DATA: &[u8] = b"\0\0\x05\0\0\0\0\0\x01hello";

#[test]
fn good_blocks_pass_as_they_came_in_any_pieces() {
    let mut bytes = headers(1, false, b"\x88\x40\x01x\x01y\xbe");
    bytes.extend_from_slice(DATA);
    // Padding and priority; then CONTINUATION.
    bytes.extend_from_slice(b"\0\0\x0a\x01\x2c\0\0\0\x03\x02\0\0\0\0\x07\x88\xbe\0\0");
    bytes
        .extend_from_slice(b"\0\0\x02\x01\0\0\0\0\x05\x88\x40\0\0\x04\x09\x04\0\0\0\x05\x01a\x01b");
    bytes.extend_from_slice(&headers(5, true, &literals(&[("trailer", b"1")])));
    for piece in 1..bytes.len() {
        let mut sieve = HeadSieve::new(HeadSender::Backend, 10_000);
        assert_eq!(through(&mut sieve, &bytes, piece), bytes, "{piece}");
        assert!(!sieve.is_rewriting && !sieve.is_off);
        assert!(sieve.held.is_empty());
    }
}

/// The malformed head becomes a stream error for the crate; the heads after it keep their meaning.
#[test]
fn malformed_heads_are_replaced_and_later_ones_are_spelled_out() {
    let bad: [&[(&str, &[u8])]; 9] = [
        &[(":status", b"200"), ("x-a", b"a\x01b")],
        &[(":status", b"200"), ("x-a", b"\x7f")],
        &[(":status", b"200"), ("X-A", b"a")],
        &[(":status", b"200"), ("", b"a")],
        &[(":status", b"200"), ("x(a)", b"a")],
        &[(":status", b"101")],
        &[(":status", b"20")],
        &[(":status", b"200"), (":path", b"/")],
        &[("x-trailer", b"\0")],
    ];
    for fields in bad {
        let mut bytes = headers(1, false, b"\x88\x40\x01x\x01y");
        let good = bytes.len();
        bytes.extend_from_slice(&headers(3, false, &literals(fields)));
        bytes.extend_from_slice(DATA);
        bytes.extend_from_slice(&headers(5, true, b"\x88\xbe"));
        for piece in [1, 7, bytes.len()] {
            let mut sieve = HeadSieve::new(HeadSender::Backend, 10_000);
            let out = through(&mut sieve, &bytes, piece);
            assert_eq!(out[..good], bytes[..good]);
            let second = FrameHeader::parse(&out[good..]).unwrap();
            assert_eq!((second.stream, second.flags), (3, END_HEADERS));
            let (_, behind) = out[good..].split_at(second.size());
            let mut table = FieldTable::default();
            let malformed = fields_of(&out[good..], &mut table);
            assert_eq!(malformed, [(b"connection".to_vec(), b"close".to_vec())]);
            let last = behind.strip_prefix(DATA).unwrap();
            let expected = [
                (b":status".to_vec(), b"200".to_vec()),
                (b"x".to_vec(), b"y".to_vec()),
            ];
            assert_eq!(fields_of(last, &mut table), expected);
            assert_eq!(
                FrameHeader::parse(last).unwrap().flags,
                END_HEADERS | END_STREAM
            );
        }
    }
}

#[test]
fn targets_that_the_http_crate_can_not_hold_are_carried() {
    let mut bytes = PREFACE.to_vec();
    let path = b"/<x>?q=\"\xe9\"";
    bytes.extend_from_slice(&headers(
        1,
        true,
        &literals(&[
            (":method", b"GET"),
            (":scheme", b"http"),
            (":path", path),
            (":authority", b"a%20b"),
            ("x", b"y"),
        ]),
    ));
    let mut sieve = HeadSieve::new(HeadSender::Client, 10_000);
    let out = through(&mut sieve, &bytes, bytes.len());
    let fields = fields_of(&out[PREFACE.len()..], &mut FieldTable::default());
    let mut request = http::Request::new(());
    for (name, value) in &fields[4..] {
        let name = http::HeaderName::from_bytes(name).unwrap();
        request
            .headers_mut()
            .insert(name, http::HeaderValue::from_bytes(value).unwrap());
    }
    let text = |at: usize| String::from_utf8(fields[at].1.clone()).unwrap();
    *request.uri_mut() = format!("http://{}{}", text(3), text(2)).parse().unwrap();
    let (parts, ()) = request.into_parts();
    assert_eq!(carrier::covered_path(&parts), Some(&path[..]));
    assert_eq!(carrier::covered_authority(&parts), Some(&b"a%20b"[..]));
    assert_eq!(
        parts
            .headers
            .keys()
            .filter(|name| !carrier::is_carrier(name))
            .count(),
        1
    );
}

/// Bombs of small references and heads of many frames stay within limits.
#[test]
fn too_large_heads_are_malformed_and_their_memory_is_limited() {
    let mut value = vec![b'v'; 4000];
    let mut bomb = b"\x88\x40\x01x\x7f\xa1\x1e".to_vec();
    bomb.append(&mut value);
    bomb.extend(std::iter::repeat_n(0xbe, 10_000));
    let mut frames = headers(1, false, &bomb);
    frames.extend_from_slice(&headers(3, true, b"\x88\xbe"));
    let many = literals(&vec![("name", &[b'v'; 200][..]); 4000]);
    frames.extend_from_slice(&headers(5, false, &[b"\x88", &many[..]].concat()));
    frames.extend_from_slice(&headers(7, true, b"\x88\xbe"));
    for piece in [1000, frames.len()] {
        let mut sieve = HeadSieve::new(HeadSender::Backend, 100_000);
        let out = through(&mut sieve, &frames, piece);
        assert!(out.len() < 20_000 && sieve.held.len() < 100_000 + 2 * MAX_PAYLOAD);
        let mut at = 0;
        let mut seen = Vec::new();
        while let Some(header) = FrameHeader::parse(&out[at..]) {
            let fields = fields_of(&out[at..], &mut FieldTable::default());
            seen.push((
                header.stream,
                String::from_utf8(fields[0].0.clone()).unwrap(),
            ));
            at += header.size();
        }
        let own = |stream, name: &str| (stream, name.to_owned());
        let expected = [
            own(1, "connection"),
            own(3, ":status"),
            own(5, "connection"),
            own(7, ":status"),
        ];
        assert_eq!(seen, expected);
    }
}

/// Violations of HPACK or of the framing are passed on for the crate to end the connection, whatever came before.
#[test]
fn broken_streams_end_in_the_crate() {
    let broken: [&[u8]; 4] = [
        b"\0\0\x01\x01\x04\0\0\0\x05\xbf",
        b"\0\0\x01\x01\x0c\0\0\0\x05\x09",
        b"\0\0\x01\x01\0\0\0\0\x05\x88\0\0\0\0\0\0\0\0\x05",
        b"\0\0\x04\x05\x04\0\0\0\x01\0\0\0\x02",
    ];
    for broken in broken {
        let mut sieve = HeadSieve::new(HeadSender::Backend, 10_000);
        assert_eq!(through(&mut sieve, broken, 3), broken);
        assert!(sieve.is_off);
        let mut sieve = HeadSieve::new(HeadSender::Backend, 10_000);
        let bad = headers(1, false, &literals(&[("A", b"")]));
        through(&mut sieve, &bad, 100);
        assert!(sieve.is_rewriting);
        let out = through(&mut sieve, &[broken, DATA].concat(), 3);
        assert!(sieve.is_off && out.ends_with(DATA), "{out:?}");
    }
}
