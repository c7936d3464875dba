//! What is told about the proxy's work: the access log, metrics, traces, and the process's own log.

pub mod access_log;
pub mod prometheus;
#[cfg_attr(
    not(feature = "otlp"),
    allow(dead_code, reason = "without the exporter nothing is recorded")
)]
pub mod spans;
pub mod tracing;
