//! Sockets, threads and the end of it all.
//!
//! [`workers`]: one runtime for each data thread, and one thread that accepts for all. [`listener`] binds and runs
//! one public address on Pingora's accept loop; [`accept`] gives its connections to the data threads. [`listeners`]
//! is the set of them, as the configuration has it; [`shutdown`] is the order in which everything ends, and [`quiet`]
//! notices when no new requests come any more; [`reaper`] closes idle upstream connections, [`collector`] gives
//! memory back behind a rush, [`capacity`] is what there is to be used.

pub mod accept;
pub mod capacity;
pub mod collector;
pub mod listener;
pub mod listeners;
mod overlap;
pub mod quiet;
pub mod reaper;
pub mod rlimit;
pub mod shutdown;
pub mod workers;
