//! The configuration, from outside: messages for broken files, example files, the reference, the way back to
//! TOML, and reloads.
#![allow(clippy::unwrap_used)]

mod diff;
mod large;
mod messages;
mod reference;
mod round_trip;
