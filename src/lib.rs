//! lameduck: a reverse proxy whose rolling restarts cost no request.
//!
//! The folders stand in rows; each imports from the rows above it, never the other way round (`tests/architecture.rs`
//! keeps it so). To read the code, read them in this order:
//!
//! **Decide**
//! 1. [`core`]: what a backend is, when it may take a request, what a drain is. Pure: no socket, no clock.
//! 2. [`config`]: the file as data, what is wrong with it, and what a reload changes.
//!
//! **Foundations**
//! 3. [`rt`]: what threads and tasks lean on: the clock, workers, the shutdown signal, panics, output.
//! 4. [`net`]: sockets and streams. [`tls`]: certificates, and TLS on both sides (rustls). [`auth`]: passwords.
//!    [`metrics`]: what is counted.
//!
//! **State**
//! 5. [`registry`]: the one writer: events in; snapshots, gates and announcements out. Its heart is
//!    [`registry::endpoint::gate`], which makes "still open?" and "one more in flight" a single step.
//!
//! **The proxy**
//! 6. [`probe`]: how backends are. [`discovery`]: which there are. [`supervisor`]: what supervisors say of them.
//!    [`acme`]: certificates from authorities. [`telemetry`]: the access log, what Prometheus scrapes, traces,
//!    lameduck's own log.
//! 7. [`proxy`]: a request's way, from accept to the last byte; its folders are the stations.
//! 8. [`server`]: threads, listeners, shutdown. [`admin`]: the admin API. [`upgrade`]: the hand-over to
//!    another lameduck.
//!
//! **Wiring**
//! 9. [`app`]: the composition root, where all of it is put together on one screen.
//!
//! **Beside it**
//! 10. [`client`]: the admin API from outside. [`tools`]: the launcher, the roll, the doctor, the demo.
//!     [`cli`]: the command line, one file per command.
#![warn(clippy::print_stdout, clippy::print_stderr, unreachable_pub)]

#[cfg(feature = "acme")]
pub mod acme;
pub mod admin;
pub mod app;
pub mod auth;
pub mod cli;
pub mod client;
pub mod config;
pub mod core;
pub mod discovery;
pub mod metrics;
pub mod net;
pub mod probe;
pub mod proxy;
pub mod registry;
pub mod rt;
pub mod server;
pub mod supervisor;
pub mod telemetry;
pub mod tls;
pub mod tools;
pub mod upgrade;
