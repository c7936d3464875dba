//! The admin API and the commands that use it, against a real server on a unix socket and on TCP.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod apps;
mod commands;
mod described;
mod doors;
mod flood;
mod http;
mod leases;
mod limits;
mod mistakes;
mod plans;
mod server;
mod works;
