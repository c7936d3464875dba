//! HTTP/2 from clients: the `h2` crate, or raw frames, in front of a real proxy with scripted HTTP/1.1 backends.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod bodies;
mod changes;
mod compression;
mod counts;
mod ends;
mod floods;
mod front_door;
mod heads;
mod load;
mod restarts;
mod shutdown;
mod sticky;
mod tools;
mod unread;
mod upgrade;
mod websocket;
