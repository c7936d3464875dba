//! Certificates by ACME, with a real proxy: from a real authority (pebble), and from one of the test's own that makes every
//! mistake an authority can make.
#![cfg(feature = "acme")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is how a test fails")]

mod authority;
mod faults;
mod fleet;
mod pebble;
mod real;
mod renewal;
mod rig;
mod survival;
