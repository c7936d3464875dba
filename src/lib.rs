//! lameduck: a reverse proxy whose rolling restarts cost no request.
//!
//! Read in this order:
//! 1. [`core`]: what a backend is, when it may take a request, what a drain is. Pure: no socket, no clock.
//! 2. [`gate`]: the one atomic word that makes "still open?" and "one more in flight" a single step.
//! 3. [`registry`]: the one writer. Events go in; a new snapshot, gate moves and announcements come out.
//! 4. [`proxy`]: the data plane: route, pick, permit, connection, forward, retry, log. HTTP/1 is its inner language;
//!    HTTP/2 (the `h2` crate) is dressed as it. [`tls`] (rustls) is for clients and backends.
//!    [`server`] is the threads and listeners below; Pingora accepts and connects, no more.
//!    `turn` keeps one connection from holding up the others of its thread.
//! 5. [`app`]: the composition root, where all of it is wired on one screen.
//! 6. [`supervisor`]: beside the proxy: the launcher (`lameduck exec`), the roll, and what supervisors are told.
//!    [`doctor`] reads their configurations.
//!
//! Dependency rule: [`core`] imports `std` alone. [`probe`], [`proxy`], [`admin`] and [`supervisor`] know `core`'s types
//! and the registry's handle, and not each other. Only [`app`] sees everything.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod activation;
pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connect_fault;
pub mod core;
pub mod demo;
pub mod doctor;
pub mod files;
pub mod gate;
pub mod idle;
pub mod interrupt;
pub mod keepalive;
pub mod lane;
pub mod output;
pub mod panics;
pub mod probe;
pub mod proxy;
pub mod proxy_header;
pub mod registry;
pub mod room;
pub mod server;
pub mod sockets;
mod stream;
pub mod supervisor;
pub mod sys;
pub mod telemetry;
pub mod tls;
mod turn;
pub mod typed;
pub mod vitals;
