//! Figures of attempts on one backend: how many succeeded, how many failed, and how long their responses took to
//! begin.

use std::fmt;
use std::time::Duration;

use crate::core::Time;

/// Error of an attempt that counts against the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptError {
    /// The response had this status code.
    Status(u16),
    /// The response to a gRPC call had this status.
    CallStatus(u8),
    /// No connection could be made.
    Connect,
    /// The connection was closed or reset without a response.
    Reset,
    /// There was no response in time.
    Timeout,
    /// The response was not valid.
    BadResponse,
    /// The response was cut off.
    Broken,
}

impl AttemptError {
    /// Returns the error of a status code, if it shows that the backend's process failed or can't serve. The other
    /// 5xx are about the request (501, 505) or its sender (511).
    pub const fn of_status(status: u16) -> Option<Self> {
        match status {
            500 | 502 | 503 | 504 => Some(Self::Status(status)),
            _ => None,
        }
    }

    /// Returns the error as a number, for an atomic.
    pub const fn number(self) -> u32 {
        match self {
            Self::Connect => 1,
            Self::Reset => 2,
            Self::Timeout => 3,
            Self::BadResponse => 4,
            Self::Broken => 5,
            Self::Status(status) => 0x1_0000 | status as u32,
            Self::CallStatus(status) => 0x2_0000 | status as u32,
        }
    }

    /// Returns the error with this number; `None`: there was no error.
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => None,
            1 => Some(Self::Connect),
            2 => Some(Self::Reset),
            3 => Some(Self::Timeout),
            4 => Some(Self::BadResponse),
            5 => Some(Self::Broken),
            _ if number & 0x2_0000 != 0 => Some(Self::CallStatus(number as u8)),
            _ => Some(Self::Status(number as u16)),
        }
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::CallStatus(status) => write!(f, "grpc-status {status}"),
            Self::Connect => f.write_str("no connection"),
            Self::Reset => f.write_str("connection closed without an answer"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::BadResponse => f.write_str("an answer that is none"),
            Self::Broken => f.write_str("an answer that broke off"),
        }
    }
}

/// Number of histogram steps. The first holds times up to a millisecond, each further one a fourth of a doubling, and
/// the last one all times from a minute on.
pub const LATENCY_STEPS: usize = 65;

/// Steps per doubling.
const FINENESS: f64 = 4.0;

/// Returns the step for a time.
pub fn latency_step(took: Duration) -> usize {
    let milliseconds = took.as_secs_f64() * 1000.0;
    if milliseconds <= 1.0 {
        return 0;
    }
    // Above 1 ms the logarithm is positive, and the cast rounds it down.
    ((milliseconds.log2() * FINENESS) as usize + 1).min(LATENCY_STEPS - 1)
}

/// Returns the longest time of a step; for the last step, the shortest.
fn time_of_step(step: usize) -> Time {
    Time::from_secs_f64((step as f64 / FINENESS).exp2() / 1000.0)
}

/// Counts of attempts on one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// Attempts that succeeded.
    pub well: u32,
    /// Attempts that failed through the backend's fault.
    pub failed: u32,
    /// Number of consecutive failures up to the last attempt.
    pub streak: u32,
    /// The last failure.
    pub last: Option<AttemptError>,
    /// Times until the response began, by [`latency_step`].
    pub latencies: [u32; LATENCY_STEPS],
}

impl Default for OutcomeCounts {
    fn default() -> Self {
        Self {
            well: 0,
            failed: 0,
            streak: 0,
            last: None,
            latencies: [0; LATENCY_STEPS],
        }
    }
}

impl OutcomeCounts {
    /// Adds later counts.
    pub fn add(&mut self, later: &Self) {
        self.well = self.well.saturating_add(later.well);
        self.failed = self.failed.saturating_add(later.failed);
        self.streak = later.streak;
        self.last = later.last.or(self.last);
        for (sum, count) in self.latencies.iter_mut().zip(&later.latencies) {
            *sum = sum.saturating_add(*count);
        }
    }

    /// Returns the number of attempts.
    pub fn total(&self) -> u32 {
        self.well.saturating_add(self.failed)
    }

    /// Returns the share of failed attempts; 0 if there were none.
    pub fn error_share(&self) -> f64 {
        match self.total() {
            0 => 0.0,
            total => f64::from(self.failed) / f64::from(total),
        }
    }

    /// Returns the number of attempts with a time.
    pub fn timed(&self) -> u32 {
        let counts = self.latencies.iter();
        counts.fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns the median time, rounded up to a step; `None`: there are no times.
    pub fn median_latency(&self) -> Option<Time> {
        let half = self.timed().div_ceil(2);
        let mut seen = 0_u32;
        for (step, count) in self.latencies.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if half > 0 && seen >= half {
                return Some(time_of_step(step));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_becomes_a_number_and_comes_back_the_same() {
        use AttemptError::*;
        for error in [
            Connect,
            Reset,
            Timeout,
            BadResponse,
            Broken,
            Status(503),
            CallStatus(14),
        ] {
            assert_eq!(AttemptError::from_number(error.number()), Some(error));
        }
        assert_eq!(AttemptError::from_number(0), None);
    }

    #[test]
    fn status_speaks_against_the_backend_only_where_its_process_failed() {
        let against = |status| AttemptError::of_status(status).is_some();
        let statuses: Vec<u16> = (100..600).filter(|status| against(*status)).collect();
        assert_eq!(statuses, [500, 502, 503, 504]);
    }

    #[test]
    fn median_is_off_by_a_fifth_at_most() {
        for milliseconds in [1_u64, 2, 3, 7, 10, 50, 99, 100, 1000, 9999, 60_000] {
            let took = Duration::from_millis(milliseconds);
            let mut counts = OutcomeCounts::default();
            counts.latencies[latency_step(took)] += 3;
            counts.latencies[latency_step(took * 40)] += 2;
            let median = counts.median_latency().unwrap();
            let off = median.as_secs_f64() / took.as_secs_f64();
            assert!((1.0..1.2).contains(&off), "{milliseconds} ms: {median:?}");
        }
        assert_eq!(latency_step(Duration::from_secs(86_400)), LATENCY_STEPS - 1);
        assert_eq!(OutcomeCounts::default().median_latency(), None);
    }
}
