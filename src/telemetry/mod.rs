//! Reports about the proxy's work: the access log, metrics, traces, and the process's own log.
//!
//! They only format what other code has recorded: an access-log field comes from `proxy/transaction/record.rs`, a
//! metric from [`metrics`](crate::metrics). [`access_log`] writes lines, [`prometheus`] answers scrapes, [`spans`]
//! makes traces and sends them to a collector, and [`mod@tracing`] is lameduck's own log.

pub mod access_log;
pub mod prometheus;
#[cfg_attr(
    not(feature = "otlp"),
    allow(dead_code, reason = "without the exporter nothing is recorded")
)]
pub mod spans;
pub mod tracing;
