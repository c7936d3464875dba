//! Ejections: reason, length, and what ends them.

use std::fmt;

use super::{AttemptError, Time};

/// Reason of an ejection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OutlierReason {
    /// Consecutive errors.
    Errors {
        /// Number of errors.
        row: u32,
        /// The last error.
        last: Option<AttemptError>,
    },
    /// Error rate.
    ErrorRate {
        /// Number of failed attempts.
        failed: u32,
        /// Number of all attempts.
        of: u32,
        /// Length of the window.
        window: Time,
        /// The last error.
        last: Option<AttemptError>,
    },
    /// Responses that begin late.
    Latency {
        /// Median latency of the backend.
        median: Time,
        /// Median latency of the pool's backends.
        pool: Time,
    },
}

impl OutlierReason {
    /// Names for metrics.
    pub const NAMES: [&str; 3] = ["consecutive_errors", "error_rate", "latency"];

    /// Returns the name for metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Errors { .. } => Self::NAMES[0],
            Self::ErrorRate { .. } => Self::NAMES[1],
            Self::Latency { .. } => Self::NAMES[2],
        }
    }
}

impl fmt::Display for OutlierReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = |last: &Option<AttemptError>| match last {
            Some(error) => format!(" (the last: {error})"),
            None => String::new(),
        };
        match self {
            Self::Errors {
                row: 1,
                last: error,
            } => write!(f, "1 error{}", last(error)),
            Self::Errors { row, last: error } => {
                write!(f, "{row} errors in a row{}", last(error))
            }
            Self::ErrorRate {
                failed,
                of,
                window,
                last: error,
            } => write!(
                f,
                "{failed} of {of} requests failed in {} s{}",
                window.as_secs_f64().ceil(),
                last(error)
            ),
            Self::Latency { median, pool } => write!(
                f,
                "its answers take {} ms, where the pool's take {} ms",
                median.as_millis().max(1),
                pool.as_millis().max(1)
            ),
        }
    }
}

/// Standing of a backend in the pool, apart from being an outlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendStanding {
    /// Could take requests.
    Eligible,
    /// Down, starting or drained.
    Away,
}

/// An ejection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ejection {
    /// Time at which it began.
    pub since: Time,
    /// Time at which it ends, if nothing happens before.
    pub until: Time,
    /// Reason.
    pub reason: OutlierReason,
    /// Which ejection of the backend it is, from 1, among those that are not forgotten.
    pub times: u32,
}

/// Why an ejection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnCause {
    /// Its time is over.
    Over,
    /// No other backend is left.
    LastReady,
    /// An operator has resumed the backend.
    Resumed,
    /// Outlier detection was switched off.
    SwitchedOff,
}

impl ReturnCause {
    /// Returns the text for operators.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Over => "its time is over",
            Self::LastReady => "no other backend is ready",
            Self::Resumed => "resumed by operator",
            Self::SwitchedOff => "[pool.outlier] is gone",
        }
    }
}

/// A change that the caller has to apply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OutlierChange<K> {
    /// The backend gets no new requests.
    Ejected(K, Ejection),
    /// The backend gets requests again.
    Returned(K, ReturnCause),
}
