//! The configuration, from outside: messages for broken files, example files, the reference, the way back to
//! TOML, and reloads.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod diff;
mod features;
mod include;
mod large;
mod messages;
mod reference;
mod round_trip;
