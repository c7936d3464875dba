//! Telemetry: what the proxy tells of itself, without ever making a request wait for it.

pub mod access_log;
pub mod metrics;
pub mod tracing;
