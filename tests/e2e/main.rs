//! End to end: real apps, real proxies, real signals, and the oracle.
//!
//! `cargo test --test e2e` runs everything shortened; `make prove` (LAMEDUCK_PROVE=1) runs the full figures
//! and writes them to `target/prove/`. Tests under load take turns
//! (`harness::turn`): three that only count losses run side by side, one that judges milliseconds runs alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "it is how a test fails")]

mod alone;
mod app;
mod balances;
mod broken;
mod cli;
mod coordinated;
mod cut_over;
mod demo;
mod detects;
mod encrypted;
mod front_door;
mod harness;
mod hooks;
mod hostile;
mod keepalive;
mod kept_socket;
mod local_ports;
mod monitoring;
mod moves;
mod outage;
mod reload;
mod reports;
mod restarts;
mod roll;
mod service;
mod shutdown;
mod soak;
mod sticky;
mod stuck;
mod supervisors;
mod survives;
mod top;
mod unix_listener;
mod upgrade;
mod yardstick;
