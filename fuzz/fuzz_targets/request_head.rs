//! Run with `cargo +nightly fuzz run request_head fuzz/corpus/request_head fuzz/seeds/request_head`.
#![no_main]

#[path = "../bodies.rs"]
#[allow(dead_code)] // Each target uses one of the bodies.
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::request_head(data));
