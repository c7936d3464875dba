//! Sockets, threads and the end of it all.
//!
//! [`threads`] is what the data plane runs on; [`listener`] binds and runs one public address, [`accept`] is its loop; [`listeners`] is the set of them, as the configuration has
//! it; [`shutdown`] is the order in which everything ends; [`reaper`] closes idle upstream connections.

pub mod accept;
pub mod descriptors;
pub mod listener;
pub mod listeners;
pub mod reaper;
pub mod shutdown;
pub mod threads;
