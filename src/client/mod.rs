//! Clients of the admin API.
//!
//! - [`admin_args`]: which proxies a command is for (`--admin` and its companions); [`names`]: the other arguments of
//!   command lines.
//! - [`http`]: the client of commands. [`blocking`]: that of the launcher, which has neither a runtime nor the memory
//!   for one. What both send and read is in `message`; [`error`] has their failures, [`tls`] is for proxies on other
//!   hosts.
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
