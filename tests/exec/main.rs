//! The launcher, for real: processes, signals, load and the oracle.
//!
//! Tests under load take turns: two at once would measure each other.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is how a test fails")]

mod above;
mod apps;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../shared/broken_streams.rs"]
mod broken_streams;
mod deaths;
mod endings;
mod proxy;
mod rig;
mod rolling;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../shared/setting.rs"]
mod setting;
mod streams;
mod users;
mod wrappers;
