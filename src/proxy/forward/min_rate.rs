//! A minimum rate, as a bound on the time that a client may keep the proxy waiting.
//!
//! Only time spent waiting for the client counts, and not for a backend that is slow to take or send a body. The
//! client may keep the proxy waiting for the grace, and one second more for each `rate` bytes that it has moved.

use std::time::Duration;

use crate::core::Time;

/// One direction of one exchange.
#[derive(Debug, Default)]
pub struct MinRatePace {
    /// Bytes a second; 0: no limit.
    rate: u64,
    grace: Duration,
    /// How long the client was waited for, up to the last time that it moved bytes.
    waited: Duration,
    /// Since when the client is waited for now.
    since: Option<Time>,
}

impl MinRatePace {
    /// A minimum rate in bytes a second (0: none), and the grace before it counts.
    pub fn new((rate, grace): (u64, Duration)) -> Self {
        Self {
            rate,
            grace,
            waited: Duration::ZERO,
            since: None,
        }
    }

    /// Whether the caller has to call [`MinRatePace::wait`]. Without a rate it need not, and reads no clock.
    pub fn wants_to_know(&self) -> bool {
        self.rate > 0 && self.since.is_none()
    }

    /// The client is waited for from now on.
    pub fn wait(&mut self, now: Time) {
        self.since.get_or_insert(now);
    }

    /// Whether the client is being waited for, and that counts.
    pub fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// The client has moved bytes, and is not waited for any more.
    pub fn moved(&mut self, now: Time) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_sub(since);
        }
    }

    /// Until when a client that has moved `bytes` bytes may keep the proxy waiting; `None` while it isn't waited for.
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
    fn off_it_never_asks_for_the_time() {
        let pace = MinRatePace::new((0, Duration::from_secs(5)));
        assert!(!pace.wants_to_know() && !pace.is_waiting());
        assert_eq!(pace.deadline(0), None);
    }

    #[test]
    fn silence_costs_the_grace_and_bytes_earn_time() {
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
    fn waiting_for_somebody_else_costs_nothing() {
        let mut pace = MinRatePace::new((100, Duration::from_secs(5)));
        pace.wait(at(0));
        pace.moved(at(1));
        assert_eq!(pace.deadline(0), None);
        pace.wait(at(1000));
        assert_eq!(pace.deadline(0), Some(at(1004)));
    }

    #[test]
    fn no_number_is_too_large() {
        let mut pace = MinRatePace::new((1, Duration::MAX));
        pace.wait(at(0));
        assert_eq!(pace.deadline(u64::MAX), Some(Time::MAX));
    }
}
