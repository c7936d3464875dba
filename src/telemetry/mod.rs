//! What is told about the proxy's work: the access log, metrics, traces, and the process's own log.

pub mod access_log;
pub mod prometheus;
pub mod spans;
pub mod tracing;
