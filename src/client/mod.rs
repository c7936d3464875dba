//! The admin API from outside.
//!
//! - [`admin_args`]: which proxies a command means (`--admin` and what goes with it); [`names`]: what else people type on
//!   command lines.
//! - [`http`]: the client of commands. [`blocking`]: that of the launcher, which has neither a runtime nor the memory for
//!   one. What both send and read is decided once, in `message`; [`tls`] is for proxies elsewhere.
//!
//! Two more clients stay apart from these: a probe's (`crate::probe::http1`), which judges a backend that may
//! say anything, and the demo's (`crate::tools::demo::client`), which tells to the byte how a request was lost.

pub mod admin_args;
pub mod blocking;
pub mod error;
pub mod http;
mod message;
pub mod names;
pub mod tls;
