//! HTTP/2 from clients: the `h2` crate, or raw frames, in front of a real proxy with scripted HTTP/1.1 backends.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod bodies;
mod client;
mod ends;
mod floods;
mod heads;
mod load;
mod restarts;
#[allow(dead_code, reason = "shared with tests/plane")]
#[path = "../plane/rig.rs"]
mod rig;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../shared/setting.rs"]
mod setting;
mod shutdown;
mod tools;
mod upgrade;
mod websocket;
#[allow(dead_code, reason = "shared with tests/plane")]
#[path = "../plane/wire.rs"]
mod wire;
