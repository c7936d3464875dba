//! That a backend is left out: why, for how long, and what ends it.

use std::fmt;

use super::{AttemptError, Time};

/// Why one is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OutlierReason {
    /// Errors in a row.
    Errors {
        /// How many.
        row: u32,
        /// The last one.
        last: Option<AttemptError>,
    },
    /// The share of errors.
    ErrorRate {
        /// So many failed…
        failed: u32,
        /// …of so many…
        of: u32,
        /// …in this time.
        window: Time,
        /// The last error.
        last: Option<AttemptError>,
    },
    /// Answers that begin late.
    Latency {
        /// Half of its answers take longer…
        median: Time,
        /// …where half of the pool's backends stay below this.
        pool: Time,
    },
}

impl OutlierReason {
    /// Their names for metrics.
    pub const NAMES: [&str; 3] = ["consecutive_errors", "error_rate", "latency"];

    /// For metrics.
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

/// What a backend is to the pool, apart from being an outlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendStanding {
    /// It could take requests.
    Eligible,
    /// It is down, starting or drained.
    Away,
}

/// The time for which a backend is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ejection {
    /// Since when.
    pub since: Time,
    /// Until when, if nothing happens before.
    pub until: Time,
    /// Why.
    pub reason: OutlierReason,
    /// Which time it is, counted from 1, among those that are not forgotten.
    pub times: u32,
}

/// Why a backend takes requests again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnCause {
    /// Its time is over.
    Over,
    /// No other one is left.
    LastReady,
    /// An operator has resumed it.
    Resumed,
    /// Outlier detection was switched off.
    SwitchedOff,
}

impl ReturnCause {
    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Over => "its time is over",
            Self::LastReady => "no other backend is ready",
            Self::Resumed => "resumed by operator",
            Self::SwitchedOff => "[pool.outlier] is gone",
        }
    }
}

/// What the caller has to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OutlierChange<K> {
    /// It gets no new requests.
    Ejected(K, Ejection),
    /// It gets requests again.
    Returned(K, ReturnCause),
}
