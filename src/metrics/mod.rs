//! Counters: plain atomics in structs that a request uses anyway ([a pool](PoolCounters), [a
//! backend](backend::BackendCounters), [the data plane](PlaneCounters)).
//!
//! Names and labels are added when the metrics are scraped, in [`crate::telemetry::prometheus`].

pub mod backend;
mod compression;
mod handshake;
mod histogram;
mod limit;
mod local_answers;
mod mirror;
mod plane;
mod pool;
mod reasons;
pub mod restart_meter;
mod route_refusals;
mod route_requests;
mod split_meter;

pub use compression::{CodingCounters, CompressionCounters, CompressionRefusal};
pub use handshake::HandshakeOutcome;
pub use histogram::Histogram;
pub use limit::ServerLimit;
pub use mirror::{MirrorCounters, MirrorDrop, MirrorLoad};
pub use plane::PlaneCounters;
pub use pool::PoolCounters;
pub use route_refusals::RouteRefusal;
pub use route_requests::RouteRequests;
pub use split_meter::{MeteredRequest, SplitMeter};
