//! Form of the lines, and which requests get one: the configuration, prepared once.

use std::time::Duration;

use super::record::AccessRecord;
use crate::config::{AccessLogConfig, LogField, LogFormat, LogSink};
use crate::core::trace_context::SampleShare;

/// Prepared configuration of lines.
#[derive(Debug, Clone)]
pub(super) struct LineLayout {
    /// Form of a line.
    pub(super) format: LogFormat,
    /// Chosen fields in their order; `None`: all fields, which is the fastest way.
    pub(super) fields: Option<Box<[LogField]>>,
    /// Duration from which a request counts as slow.
    pub(super) slow: Duration,
    /// Share of plain successes that is logged.
    share: SampleShare,
    /// The share as it is written in a line; empty: all are logged.
    pub(super) sample: Box<str>,
    /// Text before each line.
    pub(super) prefix: LinePrefix,
}

/// Text before each line, which depends on the destination.
#[derive(Debug, Clone)]
pub(super) enum LinePrefix {
    /// Nothing.
    None,
    /// Severity as one digit; the sink removes it.
    Severity,
    /// The header of syslog (RFC 5424, section 6.2).
    Syslog {
        /// Facility code; times eight, plus the severity, it is the first number (PRI).
        facility: u8,
        /// From the host name to the space before the message.
        rest: Box<str>,
    },
}

impl LineLayout {
    /// Prepares this configuration.
    pub(super) fn new(config: &AccessLogConfig) -> Self {
        let share = SampleShare::new(config.sample);
        let is_chosen = !config.fields.is_empty();
        let is_journal = matches!(config.sink, LogSink::Journald(_));
        Self {
            // The journal needs JSON, because its fields are made from it.
            format: if is_journal {
                LogFormat::Json
            } else {
                config.format
            },
            fields: is_chosen.then(|| config.fields.clone().into()),
            slow: config.slow.unwrap_or(Duration::MAX),
            share,
            sample: match share.is_all() {
                true => "".into(),
                false => format!("{:?}", config.sample).into(),
            },
            prefix: match &config.sink {
                LogSink::Syslog(_) => LinePrefix::Syslog {
                    facility: config.facility.code(),
                    rest: format!(" {} lameduck {} access - ", host_name(), std::process::id())
                        .into(),
                },
                LogSink::Journald(_) => LinePrefix::Severity,
                LogSink::Off | LogSink::Stdout | LogSink::File(_) => LinePrefix::None,
            },
        }
    }

    /// Whether some requests get no line.
    pub(super) fn is_sampling(&self) -> bool {
        !self.sample.is_empty()
    }

    /// Whether this request gets a line.
    pub(super) fn takes(&self, record: &AccessRecord<'_>) -> bool {
        !self.is_plain(record) || self.share.takes(fastrand::u64(..))
    }

    /// Whether a request was a plain success: answered at the first attempt, without a wait, and in time.
    pub(super) fn is_plain(&self, record: &AccessRecord<'_>) -> bool {
        (100..400).contains(&record.status)
            && matches!(record.end, "" | "closed_orderly")
            && record.retry_reason.is_empty()
            && record.held.is_zero()
            && record.restarts.is_empty()
            && !self.is_slow(record)
    }

    /// Whether a request took too long.
    pub(super) fn is_slow(&self, record: &AccessRecord<'_>) -> bool {
        record.duration >= self.slow
    }

    /// Severity of a request, as syslog counts (RFC 5424, section 6.2.1): 3 error, 4 warning, 5 notice, 6
    /// informational.
    pub(super) fn severity(&self, record: &AccessRecord<'_>) -> u8 {
        match record.status {
            500.. => 3,
            _ if record.end == "cut" => 4,
            _ if self.is_slow(record) || !record.retry_reason.is_empty() => 5,
            _ => 6,
        }
    }
}

/// Host name as RFC 5424, section 6.2.4, demands: without spaces, and `-` if it is unknown.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "-".to_owned(),
        name => name.replace(|c: char| !c.is_ascii_graphic(), "_"),
    }
}
