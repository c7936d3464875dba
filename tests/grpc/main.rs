//! HTTP/2 to backends, and gRPC end to end: scripted backends frame by frame, and real apps that are restarted.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod apps;
#[allow(dead_code, reason = "shared with tests/h2")]
#[path = "../h2/client.rs"]
mod client;
mod early_ends;
mod ends;
mod fake;
mod faults;
mod handovers;
mod interim;
mod malformed;
mod programs;
mod targets;
mod windows;

use lameduck_rig::setting::proving;
