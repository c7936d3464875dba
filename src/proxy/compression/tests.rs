//! Tests the encoders against independent decoders.

use super::brotli::BrotliEncoder;
use super::zstd::ZstdEncoder;
use super::*;
use crate::config::CompressionAlgorithm::{Brotli, Gzip, Zstd};
use crate::config::ServerConfig;
use crate::proxy::h1::request::{HeadLimits, HeadProgress, RequestHead};
use crate::proxy::memory::tests::TURN;
use proptest::prelude::*;
use std::io::{Read as _, Write as _};
use std::sync::atomic::Ordering;

const ALL: [CompressionAlgorithm; 3] = [Zstd, Brotli, Gzip];

fn config() -> CompressionConfig {
    CompressionConfig {
        max_at_once: 1_000_000,
        ..CompressionConfig::default()
    }
}

fn begin(
    config: &CompressionConfig,
    algorithm: CompressionAlgorithm,
    length: Option<u64>,
) -> BodyEncoder {
    BodyEncoder::begin(config, algorithm, length, false, &Arc::default()).unwrap()
}

/// Decodes a complete body; returns an error for a truncated one.
fn decoded(algorithm: CompressionAlgorithm, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match algorithm {
        Gzip => flate2::read::GzDecoder::new(body).read_to_end(&mut out)?,
        Zstd => ::zstd::stream::read::Decoder::new(body)?.read_to_end(&mut out)?,
        Brotli => ::brotli::Decompressor::new(body, 4096).read_to_end(&mut out)?,
    };
    Ok(out)
}

/// Decodes the beginning of a body, like a client that reads as it arrives.
fn decoded_so_far(algorithm: CompressionAlgorithm, body: &[u8]) -> Vec<u8> {
    match algorithm {
        Gzip => {
            let mut decoder = flate2::write::GzDecoder::new(Vec::new());
            decoder.write_all(body).unwrap();
            decoder.flush().unwrap();
            decoder.get_ref().clone()
        }
        Zstd => {
            let mut decoder = ::zstd::stream::write::Decoder::new(Vec::new()).unwrap();
            decoder.write_all(body).unwrap();
            decoder.flush().unwrap();
            decoder.get_ref().clone()
        }
        Brotli => {
            // Its writer holds back what exceeds its buffer.
            let mut decoder = ::brotli::Decompressor::new(body, 4096);
            let (mut out, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = decoder.read(&mut piece) {
                out.extend_from_slice(&piece[..count]);
            }
            out
        }
    }
}

fn json(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = String::new();
    while text.len() < length {
        let (id, name) = (random.u32(..100_000), random.u32(..977));
        text += &format!("{{\"id\":{id},\"name\":\"user-{name}\",\"tags\":[\"a\",\"b\"]}},\n");
    }
    text.truncate(length);
    text.into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn body_in_any_pieces_with_any_flushes_decodes_to_the_same(
        algorithm in prop_oneof![Just(Zstd), Just(Brotli), Just(Gzip)],
        level in 0usize..9,
        pieces in proptest::collection::vec(
            (prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                (any::<u8>(), 0usize..150_000).prop_map(|(byte, count)| vec![byte; count]),
                (0usize..100_000).prop_map(json),
            ], any::<bool>()),
            0..6,
        ),
        tells_length: bool,
    ) {
        let config = CompressionConfig {
            gzip_level: level as u32 + 1,
            zstd_level: level as i32 + 1,
            br_level: level as u32 % 7,
            ..config()
        };
        let whole: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
        let length = tells_length.then_some(whole.len() as u64);
        let mut encoder = begin(&config, algorithm, length);
        let (mut out, mut given) = (Vec::new(), 0);
        for (piece, is_flushed) in &pieces {
            encoder.push(piece, &mut out).unwrap();
            given += piece.len();
            if *is_flushed {
                encoder.flush(&mut out).unwrap();
                prop_assert!(decoded_so_far(algorithm, &out) == whole[..given]);
            }
        }
        encoder.finish(&mut out).unwrap();
        prop_assert!(decoded(algorithm, &out).unwrap() == whole);
    }
}

#[test]
fn body_that_was_not_finished_is_no_whole_one() {
    for algorithm in ALL {
        let mut encoder = begin(&config(), algorithm, None);
        let mut out = Vec::new();
        encoder.push(&json(30_000), &mut out).unwrap();
        encoder.flush(&mut out).unwrap();
        drop(encoder);
        assert!(
            decoded_so_far(algorithm, &out) == json(30_000),
            "{algorithm}"
        );
        assert!(decoded(algorithm, &out).is_err(), "{algorithm}");
    }
}

#[test]
fn reused_encoder_keeps_nothing_of_the_previous_body() {
    for algorithm in ALL {
        let mut fresh = None;
        for round in 0..5 {
            // Every other encoder is dropped in the middle.
            let mut encoder = begin(&config(), algorithm, None);
            let mut out = Vec::new();
            encoder.push(&json(5_000), &mut out).unwrap();
            if round % 2 == 1 {
                continue;
            }
            encoder.finish(&mut out).unwrap();
            assert!(
                out == *fresh.get_or_insert_with(|| out.clone()),
                "{algorithm}"
            );
        }
    }
}

#[test]
fn changed_level_is_not_compressed_by_a_spare_of_the_old_one() {
    for algorithm in [Zstd, Gzip] {
        let sizes = [1, 9, 1].map(|level| {
            let config = CompressionConfig {
                gzip_level: level,
                zstd_level: level as i32,
                ..config()
            };
            let mut encoder = begin(&config, algorithm, None);
            let mut out = Vec::new();
            encoder.push(&json(60_000), &mut out).unwrap();
            encoder.finish(&mut out).unwrap();
            out.len()
        });
        assert!(sizes[1] < sizes[0] && sizes[0] == sizes[2], "{sizes:?}");
    }
}

#[test]
fn places_and_memory_are_bounded_and_given_back() {
    let _turn = TURN.lock();
    let counters: Arc<PlaneCounters> = Arc::default();
    // Encoders of other tests have places too; few compared to these.
    let config = CompressionConfig {
        max_at_once: 1_000,
        ..CompressionConfig::default()
    };
    let begin = |lasts| BodyEncoder::begin(&config, Gzip, None, lasts, &counters);
    let mut lasting: Vec<_> = std::iter::from_fn(|| begin(true)).collect();
    assert!((400..=500).contains(&lasting.len()), "{}", lasting.len());
    let mut others: Vec<_> = std::iter::from_fn(|| begin(false)).collect();
    assert!((400..=600).contains(&others.len()), "{}", others.len());
    assert_eq!(
        counters.compression.refusals(),
        [("max_at_once", 2), ("max_memory", 0)]
    );
    // A complete body needs no place while its client receives the rest of it.
    for complete in &mut others[..200] {
        complete.finish(&mut Vec::new()).unwrap();
    }
    assert!(begin(false).is_some());
    lasting.clear();
    assert!(begin(true).is_some());
}

#[test]
fn encoder_needs_no_more_memory_than_is_counted() {
    let body = json(1 << 20);
    for level in 1..=9 {
        let mut encoder = ZstdEncoder::new(level).unwrap();
        encoder.push(&body, &mut Vec::new()).unwrap();
        let size = encoder.size();
        assert!(size <= ZstdEncoder::memory(level), "zstd {level}: {size}");
    }
    assert!(BrotliEncoder::memory(3) < BrotliEncoder::memory(6));
}

#[test]
fn a_step_writes_no_more_than_a_bounded_piece() {
    let mut random = fastrand::Rng::with_seed(1);
    for algorithm in ALL {
        let mut encoder = begin(&config(), algorithm, None);
        for _ in 0..100 {
            let mut step = vec![0; STEP];
            random.fill(&mut step);
            let mut out = Vec::new();
            encoder.push(&step, &mut out).unwrap();
            assert!(out.len() < 96 * 1024, "{algorithm}: {}", out.len());
        }
    }
}

#[test]
fn whole_body_is_compressed_for_a_client_that_reads_it() {
    let _turn = TURN.lock();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let head = |accepted: &str| {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{accepted}\r\n").into_bytes();
        let mut head = RequestHead::new();
        let limits = HeadLimits::from(&ServerConfig::default());
        assert_eq!(head.parse(&text, &limits).unwrap(), HeadProgress::Complete);
        (text, head)
    };
    let body = json(10_000);
    let (text, request) = head("accept-encoding: gzip;q=0.5\r\nAccept-Encoding: br\r\n");
    let alone = |algorithm| choose_coding(&text, &request, &[algorithm]).is_some();
    assert!(alone(Gzip) && !alone(Zstd));
    let choose = |text: &[u8], request: &RequestHead| choose_coding(text, request, &ALL);
    assert_eq!(choose(&text, &request), Some(Brotli));
    for algorithm in ALL {
        let (config, counters) = (config(), Arc::default());
        let whole = runtime.block_on(compress_whole(&config, algorithm, &counters, &body));
        assert!(decoded(algorithm, &whole.unwrap()).unwrap() == body);
    }
    let (text, request) = head("");
    assert_eq!(choose(&text, &request), None);
    assert!(is_worthwhile(&config(), b"text/css", Some(1024)));
    assert!(!is_worthwhile(&config(), b"text/css", Some(1023)));
    assert!(!is_worthwhile(&config(), b"image/png", None));
}

#[test]
fn compressed_bytes_are_counted() {
    let counters: Arc<PlaneCounters> = Arc::default();
    let mut encoder = BodyEncoder::begin(&config(), Zstd, None, false, &counters).unwrap();
    let mut out = Vec::new();
    encoder.push(&json(9_000), &mut out).unwrap();
    encoder.finish(&mut out).unwrap();
    drop(encoder);
    let coding = counters.compression.coding("zstd").unwrap();
    assert_eq!(coding.answers.load(Ordering::Relaxed), 1);
    assert_eq!(coding.bytes_in.load(Ordering::Relaxed), 9_000);
    assert_eq!(coding.bytes_out.load(Ordering::Relaxed), out.len() as u64);
    for algorithm in ALL {
        assert!(counters.compression.coding(algorithm.as_str()).is_some());
    }
}
