//! The fuzz targets' checks as an ordinary test: on each seed, and on random mutations of the seeds.
//!
//! The seed of the random numbers is printed when a test fails; `LAMEDUCK_FUZZ_SEED=N` runs it again, and
//! `LAMEDUCK_FUZZ_ROUNDS=N` runs more than the default 3000 mutations per check.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

#[path = "../fuzz/checks/mod.rs"]
mod checks;

use std::path::Path;

use checks::{introductions, parsers, requests, responses};

/// Bytes that the grammars give a meaning, so that mutations reach more than the first error.
const WORDS: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"/",
    b"\r\n\r\n",
    b"\r\nContent-Length: 1",
    b"\r\nTransfer-Encoding: chunked",
    b"\r\nHost: b",
    b"\r\nConnection: close, x-a, upgrade",
    b"\r\nUpgrade: websocket",
    b"\r\nTE: trailers",
    b"\r\nX-A: 1",
    b"\r\nX-Forwarded-For: 6.6.6.6",
    b"\r\nExpect: 100-continue",
    b"http://b",
    b"HTTP/1.0",
    b"\xff",
];

fn seeds(kind: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(kind);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

fn mutate(rng: &mut fastrand::Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = rng.choice(seeds).unwrap().clone();
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(0..=bytes.len());
        let to = rng.usize(at..=bytes.len().min(at + 12));
        match rng.u8(0..5) {
            0 => bytes.insert(at, rng.u8(..)),
            1 => drop(bytes.drain(at..to)),
            2 => drop(bytes.splice(at..at, rng.choice(WORDS).unwrap().iter().copied())),
            3 => drop(bytes.splice(at..to, rng.choice(WORDS).unwrap().iter().copied())),
            _ => {
                let other = rng.choice(seeds).unwrap();
                let from = rng.usize(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap())
}

fn run(kind: &str, expected_seeds: usize, body: fn(&[u8])) {
    let seeds = seeds(kind);
    assert_eq!(seeds.len(), expected_seeds, "seeds of {kind}");
    seeds.iter().for_each(|bytes| body(bytes));
    let seed = number("LAMEDUCK_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut rng = fastrand::Rng::with_seed(seed);
    for round in 0..number("LAMEDUCK_FUZZ_ROUNDS").unwrap_or(3000) {
        let bytes = mutate(&mut rng, &seeds);
        let outcome = std::panic::catch_unwind(|| body(&bytes));
        assert!(
            outcome.is_ok(),
            "{kind}: LAMEDUCK_FUZZ_SEED={seed}, round {round}: {}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn request_heads() {
    run("requests", 68, parsers::request_head);
}

#[test]
fn response_heads() {
    run("responses", 36, parsers::response_head);
}

#[test]
fn chunked_bodies() {
    run("chunks", 17, parsers::chunk_decoder);
}

#[test]
fn websocket_frames() {
    run("frames", 4, parsers::frame_tracker);
}

#[test]
fn introductions_by_proxies() {
    run("introductions", 17, introductions::introduction);
}

#[test]
fn requests_read_by_others() {
    run("requests", 68, requests::request_reading);
}

#[test]
fn requests_forwarded() {
    run("requests", 68, requests::request_forwarding);
}

#[test]
fn chunks_read_by_others() {
    run("chunks", 17, requests::chunk_reading);
}

#[test]
fn responses_read_by_others() {
    run("responses", 36, responses::response_reading);
}

#[test]
fn responses_forwarded() {
    run("responses", 36, responses::response_forwarding);
}

proptest::proptest! {
    /// Bytes that look like nothing at all.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..120)) {
        parsers::request_head(&bytes);
        parsers::response_head(&bytes);
        parsers::chunk_decoder(&bytes);
        parsers::frame_tracker(&bytes);
        introductions::introduction(&bytes);
        requests::request_reading(&bytes);
        responses::response_reading(&bytes);
    }
}
