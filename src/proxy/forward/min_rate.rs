//! A minimum data rate, as a limit on the time that a client may keep the proxy waiting.
//!
//! Only time spent waiting for the client counts, not for a backend that is slow to receive or send a body. The
//! client may keep the proxy waiting for the grace period, plus one second for each `rate` bytes transferred.

use std::time::Duration;

use crate::core::Time;

/// The minimum rate in one direction of an exchange.
#[derive(Debug, Default)]
pub struct MinRatePace {
    /// Bytes per second; 0: no limit.
    rate: u64,
    grace: Duration,
    /// Total time spent waiting for the client, up to the last transfer.
    waited: Duration,
    /// Start of the current wait for the client.
    since: Option<Time>,
}

impl MinRatePace {
    /// Creates the limit from a minimum rate in bytes per second (0: none), and a grace period.
    pub fn new((rate, grace): (u64, Duration)) -> Self {
        Self {
            rate,
            grace,
            waited: Duration::ZERO,
            since: None,
        }
    }

    /// Returns whether the caller has to call [`MinRatePace::wait`]. Without a rate it need not, and reads no clock.
    pub fn wants_to_know(&self) -> bool {
        self.rate > 0 && self.since.is_none()
    }

    /// Starts to wait for the client.
    pub fn wait(&mut self, now: Time) {
        self.since.get_or_insert(now);
    }

    /// Returns whether the client is being waited for, and a limit applies.
    pub fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Ends the wait: the client has transferred bytes.
    pub fn moved(&mut self, now: Time) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_sub(since);
        }
    }

    /// Returns the deadline for a client that has transferred `bytes` bytes; `None` while the proxy doesn't wait for
    /// it.
    pub fn deadline(&self, bytes: u64) -> Option<Time> {
        let since = self.since?;
        let earned = u128::from(bytes) * 1000 / u128::from(self.rate.max(1));
        let earned = Duration::from_millis(u64::try_from(earned).unwrap_or(u64::MAX));
        let left = self
            .grace
            .saturating_add(earned)
            .saturating_sub(self.waited);
        Some(since.saturating_add(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_secs(100);

    fn at(seconds: u64) -> Time {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn limit_that_is_off_never_reads_the_clock() {
        let pace = MinRatePace::new((0, Duration::from_secs(5)));
        assert!(!pace.wants_to_know() && !pace.is_waiting());
        assert_eq!(pace.deadline(0), None);
    }

    #[test]
    fn silence_uses_up_the_grace_and_bytes_earn_time() {
        let mut pace = MinRatePace::new((100, Duration::from_secs(5)));
        assert!(pace.wants_to_know());
        pace.wait(at(0));
        assert_eq!(pace.deadline(0), Some(at(5)));
        assert_eq!(pace.deadline(250), Some(at(7) + Duration::from_millis(500)));
        pace.moved(at(4));
        pace.wait(at(4));
        pace.wait(at(6));
        assert_eq!(
            pace.deadline(100),
            Some(at(6)),
            "4 of 6 seconds are used up"
        );
        pace.moved(at(10));
        pace.wait(at(20));
        assert_eq!(pace.deadline(100), Some(at(20)), "nothing is left");
    }

    #[test]
    fn waiting_for_the_backend_does_not_count() {
        let mut pace = MinRatePace::new((100, Duration::from_secs(5)));
        pace.wait(at(0));
        pace.moved(at(1));
        assert_eq!(pace.deadline(0), None);
        pace.wait(at(1000));
        assert_eq!(pace.deadline(0), Some(at(1004)));
    }

    #[test]
    fn extreme_values_do_not_overflow() {
        let mut pace = MinRatePace::new((1, Duration::MAX));
        pace.wait(at(0));
        assert_eq!(pace.deadline(u64::MAX), Some(Time::MAX));
    }
}
