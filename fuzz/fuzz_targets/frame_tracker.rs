//! Run with `cargo +nightly fuzz run frame_tracker fuzz/corpus/frame_tracker fuzz/seeds/frame_tracker`.
#![no_main]

#[path = "../bodies.rs"]
#[allow(dead_code)] // Each target uses one of the bodies.
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::frame_tracker(data));
