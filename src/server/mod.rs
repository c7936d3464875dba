//! Pingora embedded, not in charge: its listeners, acceptors and streams; our own sockets, signals and shutdown.
//!
//! [`listener`] binds and runs one public address; [`listeners`] is the set of them, as the configuration has
//! it; [`shutdown`] is the order in which everything ends; [`reaper`] closes idle upstream connections.

pub mod descriptors;
pub mod listener;
pub mod listeners;
pub mod reaper;
pub mod shutdown;
