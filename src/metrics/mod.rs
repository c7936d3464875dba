//! What is counted: plain atomics that hang where the request already is (a pool, a backend, the plane).
//!
//! Their names and labels are put to them when somebody scrapes, in [`crate::telemetry::prometheus`].

pub mod backend;
pub(crate) mod handshake;
pub(crate) mod histogram;
pub(crate) mod limit;
pub(crate) mod reasons;
