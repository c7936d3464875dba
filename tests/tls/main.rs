//! TLS on public listeners, with a real proxy: what it serves, what it refuses, and what it survives.
//!
//! `LAMEDUCK_PROVE=1` runs the full figures.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is how a test fails")]

mod apps;
mod clients;
mod endings;
mod files;
mod hostile;
mod rig;
mod scan;
mod serving;
mod swap;
mod turns;
