//! The launcher, for real: processes, signals, load and the oracle.
//!
//! Tests under load take turns (`rig::turn`): they count what is lost, and a few at once leave the machine idle enough.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is how a test fails")]

mod above;
mod apps;
mod deaths;
mod endings;
mod ends;
mod proxy;
mod rig;
mod rolling;
mod several;
mod streams;
mod upgraded;
mod users;
mod wrappers;
