#![allow(clippy::unwrap_used, reason = "it is how a test fails")]
//! A real proxy whose backends come from sources outside, under load.

mod by_dns;
mod by_file;
mod crowd;
mod dns_server;
mod kept;
mod rig;
