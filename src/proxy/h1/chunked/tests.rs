use super::*;
use proptest::prelude::*;

/// Decodes in slices of `step` bytes; returns content, bytes used, and whether it was complete.
fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), ChunkError> {
    let (mut decoder, mut skimmer) = (ChunkDecoder::new(256), ChunkDecoder::new(256));
    let mut out = Vec::new();
    let mut used = 0;
    for piece in input.chunks(step) {
        let decoded = decoder.decode(piece, &mut out);
        assert_eq!(skimmer.skip_body(piece), decoded);
        used += decoded?.0;
    }
    assert_eq!(decoder.payload(), out.len() as u64);
    Ok((out, used, decoder.is_complete()))
}

/// Returns the content of a complete body, or the error, and checks that both are the same for every split.
fn whole(input: &[u8]) -> Result<Vec<u8>, ChunkError> {
    let outcome = decode(input, input.len().max(1));
    for step in 1..input.len().min(40) {
        assert_eq!(
            decode(input, step),
            outcome,
            "in pieces of {step}: {}",
            input.escape_ascii()
        );
    }
    let (content, used, complete) = outcome?;
    assert!(complete, "{}", input.escape_ascii());
    assert_eq!(used, input.len());
    Ok(content)
}

#[track_caller]
fn refused(input: &str, error: ChunkError) {
    assert_eq!(
        whole(input.as_bytes()),
        Err(error),
        "{}",
        input.escape_debug()
    );
}

#[test]
fn valid_bodies_are_decoded() {
    assert_eq!(whole(b"0\r\n\r\n").unwrap(), b"");
    assert_eq!(
        whole(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n").unwrap(),
        b"hello world"
    );
    assert_eq!(
        whole(b"00A\r\n0123456789\r\n000\r\n\r\n").unwrap(),
        b"0123456789"
    );
    assert_eq!(
        whole(b"a\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n").unwrap(),
        b"\r\n\r\n\r\n\r\n\r\n"
    );
    assert_eq!(
        whole(b"1;a=b\r\nx\r\n1 \t;c=\"d;e\"\r\ny\r\n0;last\r\n\r\n").unwrap(),
        b"xy"
    );
    assert_eq!(
        whole(b"0\r\nServer-Timing: a\r\nX-Sum: \tb\xe9 \r\nEmpty:\r\n\r\n").unwrap(),
        b""
    );
}

#[test]
fn decoder_stops_before_the_next_message() {
    let input = b"1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
    for step in 1..input.len() {
        assert_eq!(decode(input, step), Ok((b"x".to_vec(), 11, true)));
    }
    let mut done = ChunkDecoder::new(0);
    assert_eq!(done.skip_body(b"0\r\n\r\n"), Ok((5, true)));
    assert_eq!(done.skip_body(b"0\r\n\r\n"), Ok((0, true)));
    assert_eq!(done.skip_body(b""), Ok((0, true)));
}

/// RFC 9112 §7.1: `chunk-size = 1*HEXDIG`, and an overflow must be noticed.
#[test]
fn malformed_and_overflowing_sizes_are_refused() {
    for bad in [
        "\r\n",
        ";a\r\n",
        "x\r\n",
        "+1\r\nx\r\n",
        "-1\r\n",
        "0x1\r\nx\r\n",
        " 1\r\nx\r\n",
        "1 \r\nx\r\n",
        "1\t\r\n",
        "1_0\r\n",
        "00000000000000001\r\nx\r\n",
        "10000000000000000\r\n",
        "\n",
        "1,1\r\n",
    ] {
        refused(bad, ChunkError::BadSize);
    }
    let mut decoder = ChunkDecoder::new(0);
    assert_eq!(
        decoder.skip_body(b"7FFFFFFFFFFFFFFF\r\nabc"),
        Ok((21, false))
    );
    assert_eq!(decoder.payload(), 3);
    refused("8000000000000000\r\n", ChunkError::BadSize);
}

/// A response's sizes may be padded, in any number of chunks; a request's may not.
#[test]
fn padded_sizes_are_accepted_in_responses() {
    let body = "1    \r\nx\r\n".repeat(10_000) + "0 \t\r\n\r\n";
    let mut decoder = ChunkDecoder::of_response(0);
    assert_eq!(decoder.skip_body(body.as_bytes()), Ok((body.len(), true)));
    assert_eq!(decoder.payload(), 10_000);
    let endless = format!("1{}", " ".repeat(300));
    for bad in ["1 x\r\n", "1 \n", " 1\r\n", &endless] {
        ChunkDecoder::of_response(0)
            .skip_body(bad.as_bytes())
            .unwrap_err();
    }
}

/// RFC 9112 §2.2, §7.1: a bare LF, or anything else, in place of CR LF.
#[test]
fn line_ends_other_than_crlf_are_refused() {
    for bad in [
        "1\r\rx\r\n",
        "1\rx",
        "1\r\nx\n",
        "1\r\nxy\r\n",
        "1\r\nx\rx",
        "0\r\n\rx",
        "0;a\rb\r\n",
        "0\r\nA: b\rc\r\n\r\n",
    ] {
        refused(bad, ChunkError::BadLineEnd);
    }
    refused("1\nx\r\n", ChunkError::BadSize);
    refused("0\r\n\n", ChunkError::BadTrailer);
    refused("1\r\nx\r\n\r\n", ChunkError::BadSize);
}

/// RFC 9112 §7.1.1.
#[test]
fn malformed_and_long_extensions_are_refused() {
    for bad in ["1;a\nx\r\n", "1;a\0\r\nx\r\n", "1;a\x7f\r\nx", "1;\x0b\r\n"] {
        refused(bad, ChunkError::BadExtension);
    }
    let with = |length: usize, chunks: usize| {
        let chunk = format!("1;{}\r\nx\r\n", "e".repeat(length));
        decode(
            format!("{}0\r\n\r\n", chunk.repeat(chunks)).as_bytes(),
            4096,
        )
        .map(|(content, ..)| content.len())
    };
    assert_eq!(with(256, 64), Ok(64));
    assert_eq!(with(257, 1), Err(ChunkError::ExtensionsTooLong));
    assert_eq!(with(256, 65), Err(ChunkError::ExtensionsTooLong));
    refused(
        &format!("1{};a\r\nx\r\n0\r\n\r\n", " ".repeat(400)),
        ChunkError::ExtensionsTooLong,
    );
}

/// RFC 9112 §7.1.2, RFC 9110 §6.5.1.
#[test]
fn trailers() {
    for bad in [
        "A : b",
        " a: b",
        "\ta: b",
        ": b",
        "a",
        "a\u{e9}: b",
        "a: b\0",
        "a: b\n",
    ] {
        refused(&format!("0\r\n{bad}\r\n\r\n"), ChunkError::BadTrailer);
    }
    refused("0\r\nA: b\r\n folded\r\n\r\n", ChunkError::BadTrailer);
    for name in [
        "Transfer-Encoding",
        "CONTENT-LENGTH",
        "content_length",
        "Host",
        "Connection",
        "Upgrade",
        "TE",
        "Trailer",
        "Authorization",
        "Cookie",
        "X-Forwarded-For",
        "X_Forwarded_For",
        "X-Forwarded-Anything-At-All-However-Long",
        "Forwarded",
        "X-Real-IP",
    ] {
        refused(
            &format!("0\r\nA: b\r\n{name}: c\r\n\r\n"),
            ChunkError::ForbiddenTrailer,
        );
    }
    for name in [
        "Hos",
        "Hosts",
        "X-Host",
        "Content-Lengths",
        "T",
        "Server-Timing",
        "Grpc-Status",
    ] {
        assert_eq!(
            whole(format!("0\r\n{name}: c\r\n\r\n").as_bytes()),
            Ok(vec![]),
            "{name}"
        );
    }
    // 256 bytes of names, colons and values.
    assert!(decode(format!("0\r\nA:{}\r\n\r\n", "b".repeat(254)).as_bytes(), 99).is_ok());
    assert_eq!(
        decode(format!("0\r\nA:{}\r\n\r\n", "b".repeat(255)).as_bytes(), 99),
        Err(ChunkError::TrailersTooLong)
    );
    assert_eq!(
        decode(format!("0\r\n{}", "a".repeat(300)).as_bytes(), 99),
        Err(ChunkError::TrailersTooLong)
    );
}

#[test]
fn decoder_repeats_its_error() {
    let mut decoder = ChunkDecoder::new(0);
    assert_eq!(decoder.skip_body(b"x"), Err(ChunkError::BadSize));
    assert_eq!(decoder.skip_body(b"0\r\n\r\n"), Err(ChunkError::BadSize));
    assert_eq!(decoder.skip_body(b""), Err(ChunkError::BadSize));
    assert!(!decoder.is_complete());
}

#[test]
fn chunk_header_has_the_size_in_hexadecimal() {
    for size in [1usize, 9, 15, 16, 255, 256, 65535, 65536, usize::MAX] {
        let mut out = Vec::new();
        start_chunk(&mut out, size);
        assert_eq!(out, format!("{size:x}\r\n").into_bytes());
    }
}

proptest! {
    /// Chunked content is decoded unchanged, however it was chunked and however it is split into reads.
    #[test]
    fn chunked_content_is_decoded_unchanged(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8), cuts in prop::collection::vec(1usize..60, 1..60)) {
        let mut encoded = Vec::new();
        for chunk in &chunks {
            start_chunk(&mut encoded, chunk.len());
            encoded.extend_from_slice(chunk);
            encoded.extend_from_slice(b"\r\n");
        }
        encoded.extend_from_slice(LAST_CHUNK);
        let (mut decoder, mut skimmer) = (ChunkDecoder::new(0), ChunkDecoder::new(0));
        let (mut out, mut rest) = (Vec::new(), &encoded[..]);
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            let decoded = decoder.decode(piece, &mut out).unwrap();
            prop_assert_eq!(skimmer.skip_body(piece).unwrap(), decoded);
            prop_assert_eq!(decoded, (piece.len(), after.is_empty()));
            rest = after;
            if rest.is_empty() { break; }
        }
        prop_assert_eq!(out, chunks.concat());
    }

    /// Random bytes that look like chunks: no panic, and the same result for every split.
    #[test]
    fn any_split_gives_the_same_answer(input in "[0-3a;: \t\r\nTX-]{0,60}", step in 1usize..9) {
        let input = input.as_bytes();
        prop_assert_eq!(decode(input, step), decode(input, input.len().max(1)));
    }
}

/// Reads and takes of any size give the same content, and the trailers.
#[test]
fn pieces_give_content_and_trailers() {
    let body = b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nA: b\r\nC:d\r\n\r\nnext";
    for read in 1..=body.len() {
        for take in 1..=6 {
            let mut decoder = ChunkDecoder::new(1024);
            let (mut at, mut content, mut trailers) = (0, Vec::new(), Vec::new());
            while !decoder.is_complete() {
                let input = &body[at..body.len().min(at + read)];
                let piece = decoder.next_piece(input, &mut trailers).unwrap();
                let count = piece.content.min(take);
                content.extend_from_slice(&input[piece.framing..piece.framing + count]);
                decoder.took(count);
                at += piece.framing + count;
            }
            assert_eq!(content, b"hello world");
            assert_eq!(trailers, b"A: b\r\nC:d\r\n\r\n");
            assert_eq!((&body[at..], decoder.payload()), (&b"next"[..], 11));
        }
    }
}
