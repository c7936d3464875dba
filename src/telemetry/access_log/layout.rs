//! What a line looks like, and which requests get one: the configuration, made ready once.

use std::time::Duration;

use super::record::AccessRecord;
use crate::config::{AccessLogConfig, LogField, LogFormat, LogSink};
use crate::core::trace_context::SampleShare;

/// How lines are made.
#[derive(Debug, Clone)]
pub(super) struct LineLayout {
    /// The form of a line.
    pub(super) format: LogFormat,
    /// The fields, in their order; `None`: all, which is the way that costs least.
    pub(super) fields: Option<Box<[LogField]>>,
    /// A request that takes at least this long is slow.
    pub(super) slow: Duration,
    /// The share of plain successes that is logged.
    share: SampleShare,
    /// The same as it stands in a line; empty: all are.
    pub(super) sample: Box<str>,
    /// What stands before a line.
    pub(super) prefix: LinePrefix,
}

/// What stands before a line, depending on its destination.
#[derive(Debug, Clone)]
pub(super) enum LinePrefix {
    /// Nothing.
    None,
    /// How much it matters, as one digit, which goes no further than the sink.
    Severity,
    /// The header of syslog (RFC 5424, section 6.2).
    Syslog {
        /// Times eight, with the severity added, it is the first number.
        facility: u8,
        /// From the host's name to the space before the message.
        rest: Box<str>,
    },
}

impl LineLayout {
    /// By the configuration.
    pub(super) fn new(config: &AccessLogConfig) -> Self {
        let share = SampleShare::new(config.sample);
        let is_chosen = !config.fields.is_empty();
        let is_journal = matches!(config.sink, LogSink::Journald(_));
        Self {
            // The journal has fields of its own, which are made of these.
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

    /// Whether this request gets one.
    pub(super) fn takes(&self, record: &AccessRecord<'_>) -> bool {
        !self.is_plain(record) || self.share.takes(fastrand::u64(..))
    }

    /// Whether nothing about it is of note: answered well at the first attempt, at once and in time.
    pub(super) fn is_plain(&self, record: &AccessRecord<'_>) -> bool {
        (100..400).contains(&record.status)
            && matches!(record.end, "" | "closed_orderly")
            && record.retry_reason.is_empty()
            && record.held.is_zero()
            && record.restarts.is_empty()
            && !self.is_slow(record)
    }

    /// Whether it has taken too long.
    pub(super) fn is_slow(&self, record: &AccessRecord<'_>) -> bool {
        record.duration >= self.slow
    }

    /// How much it matters, as syslog counts (RFC 5424, section 6.2.1): 3 error, 4 warning, 5 notice, 6 information.
    pub(super) fn severity(&self, record: &AccessRecord<'_>) -> u8 {
        match record.status {
            500.. => 3,
            _ if record.end == "cut" => 4,
            _ if self.is_slow(record) || !record.retry_reason.is_empty() => 5,
            _ => 6,
        }
    }
}

/// As RFC 5424, section 6.2.4 has it: no blanks, and `-` where it is unknown.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "-".to_owned(),
        name => name.replace(|c: char| !c.is_ascii_graphic(), "_"),
    }
}
