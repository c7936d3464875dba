//! The admin API from outside: [`http`] for commands, [`blocking`] for the launcher, which has neither a runtime nor the
//! memory for one, and [`names`], what people type on command lines.

pub mod blocking;
pub mod error;
pub mod http;
pub mod names;
