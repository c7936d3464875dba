//! The decisions, pure: `std` only, no async, no socket, no clock. Time and randomness are arguments.
//!
//! [`backend`] is the heart: one backend's health × drains and the single function that derives its state.
//! [`pool`] holds the backends of one app and their deadlines. [`balance`] picks; [`retry`] and [`hold`]
//! judge what becomes of a request that found no backend or lost one.

pub mod backend;
pub mod balance;
pub mod budget;
mod closing;
pub mod drain;
pub mod event;
mod health;
pub mod hold;
pub mod pool;
pub mod retry;

/// A point in time: what has passed since an origin of the caller's choosing (the process's start).
///
/// The core never reads a clock; whoever calls it says what time it is.
pub type Time = std::time::Duration;
