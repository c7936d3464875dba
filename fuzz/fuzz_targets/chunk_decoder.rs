//! Run with `cargo +nightly fuzz run chunk_decoder fuzz/corpus/chunk_decoder fuzz/seeds/chunk_decoder`.
#![no_main]

#[path = "../bodies.rs"]
#[allow(dead_code)] // Each target uses one of the bodies.
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::chunk_decoder(data));
