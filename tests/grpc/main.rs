//! HTTP/2 to backends, and gRPC end to end: scripted backends frame by frame, and real apps that are restarted.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod apps;
mod changes;
mod early_ends;
mod ends;
mod fake;
mod faults;
mod floods;
mod handovers;
mod interim;
mod malformed;
mod programs;
mod sticky;
mod targets;
mod windows;

use lameduck_rig::setting::proving;
