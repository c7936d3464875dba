//! Run with `cargo +nightly fuzz run response_head fuzz/corpus/response_head fuzz/seeds/response_head`.
#![no_main]

#[path = "../bodies.rs"]
#[allow(dead_code)] // Each target uses one of the bodies.
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::response_head(data));
