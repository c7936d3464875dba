//! Clients of the admin API.
//!
//!
//! Two more clients stay apart from these: that of probes (`crate::probe::http1`), which judges backends that may
//! answer anything, and that of the demo (`crate::tools::demo::client`), which finds out exactly how a request was
//! lost.

pub mod admin_args;
pub mod blocking;
pub mod error;
pub mod http;
mod message;
pub mod names;
pub mod tls;
