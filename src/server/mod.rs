//! Threads, listeners and shutdown of the data plane.
//!
//! [`workers`] has one runtime for each data thread, and one thread that accepts for all. [`listener`] binds one public
//! address and runs Pingora's accept loop on it; [`accept`] gives its connections to the data threads. [`listeners`] is
//! the set of them, as configured. [`shutdown`] is the order in which everything ends, and [`quiet`] notices when no
//! new requests arrive any more. [`reaper`] closes idle upstream connections, [`collector`] returns memory after a load
//! peak, and [`capacity`] has the resources of the machine.

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
