//! The admin API from outside: [`http`] for commands, [`blocking`] for the launcher, which has neither a runtime nor the
//! memory for one, [`fleet`], which
//! proxies are meant, [`tls`] for those elsewhere, and [`names`], what people type on command lines. What both clients send and read is decided once, in
//! `message`. Two more clients stay apart from these: a probe's (`crate::probe::http1`), which judges a backend that may
//! say anything, and the demo's (`crate::tools::demo::client`), which tells to the byte how a request was lost.

pub mod blocking;
pub mod error;
pub mod fleet;
pub mod http;
mod message;
pub mod names;
pub mod tls;
