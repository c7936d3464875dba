//! The moving average of a backend's latency, for [`peak_ewma`](super::BalanceAlgorithm::PeakEwma).

use std::time::Duration;

use crate::core::Time;

/// Time constant of the decay: after this time, an observation counts for 37 %.
const DECAY: Duration = Duration::from_secs(10);

/// A failure counts as this many times the expected latency, and at least as [`FAILURE_FLOOR`]: failing at once must
/// not look fast.
const FAILURE_FACTOR: u32 = 10;
const FAILURE_FLOOR: Duration = Duration::from_millis(100);

/// Largest latency that is recorded.
const WORST: Duration = Duration::from_secs(60);

/// Unit of the average, in nanoseconds: 32 bits of it exceed [`WORST`].
const UNIT: u64 = 125;

/// A moving average and the time of its last change in one number, so that it fits into an atomic. 0: no observation
/// yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LatencyFigure(pub u64);

impl LatencyFigure {
    /// Returns the average with another latency, observed at `now`: a higher one counts at once, a lower one
    /// gradually.
    pub fn with(self, seen: Duration, now: Time) -> Self {
        let seen = seen.min(WORST).as_secs_f64();
        let average = match self.parts(now) {
            Some((average, kept)) if seen < average => average * kept + seen * (1.0 - kept),
            _ => seen,
        };
        let units = (average * 1e9 / UNIT as f64) as u64;
        let units = units.clamp(1, u64::from(u32::MAX));
        Self(units << 32 | u64::from(now.as_millis() as u32))
    }

    /// Returns the average with a failure after `took`.
    pub fn with_failure(self, took: Duration, now: Time) -> Self {
        let expected = self.expected(now).unwrap_or_default();
        let slow = expected.saturating_mul(FAILURE_FACTOR).max(FAILURE_FLOOR);
        self.with(took.max(slow), now)
    }

    /// Returns the expected latency now; `None`: nothing is known. It decreases while there are no observations, so
    /// that a backend that was slow is tried again.
    pub fn expected(self, now: Time) -> Option<Duration> {
        let (average, kept) = self.parts(now)?;
        Some(Duration::from_secs_f64(average * kept))
    }

    /// Returns the average in seconds, and the fraction of it that counts at `now`.
    fn parts(self, now: Time) -> Option<(f64, f64)> {
        let units = self.0 >> 32;
        if units == 0 {
            return None;
        }
        // Modulo 2^32 milliseconds, which are 49 days.
        let age = (now.as_millis() as u32).wrapping_sub(self.0 as u32);
        // If two threads write at the same time, the later one may have read the clock first.
        let age = if age > u32::MAX / 2 { 0 } else { age };
        let kept = (-f64::from(age) / DECAY.as_millis() as f64).exp();
        Some(((units * UNIT) as f64 / 1e9, kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    fn about(figure: LatencyFigure, now: Time, expected: Duration) -> bool {
        let got = figure.expected(now).unwrap();
        got.abs_diff(expected) < expected / 50
    }

    #[test]
    fn slower_counts_at_once_and_faster_by_and_by() {
        let figure = LatencyFigure::default().with(10 * MS, at(1000));
        assert!(about(figure, at(1000), 10 * MS));
        let figure = figure.with(50 * MS, at(1000));
        assert!(about(figure, at(1000), 50 * MS));
        let figure = figure.with(10 * MS, at(1000));
        assert!(about(figure, at(1000), 50 * MS), "no time has passed");
        let figure = figure.with(10 * MS, at(11_000));
        assert!(about(figure, at(11_000), Duration::from_micros(24_715)));
    }

    #[test]
    fn latency_without_new_observations_is_forgotten() {
        let figure = LatencyFigure::default().with(400 * MS, at(0));
        assert!(about(figure, at(10_000), Duration::from_micros(147_152)));
        assert!(figure.expected(at(300_000)).unwrap() < MS);
        assert_eq!(LatencyFigure::default().expected(at(5)), None);
    }

    #[test]
    fn failure_counts_as_slow_however_fast_it_is() {
        let figure = LatencyFigure::default().with(20 * MS, at(0));
        assert!(about(figure.with_failure(MS, at(0)), at(0), 200 * MS));
        assert!(about(figure.with_failure(900 * MS, at(0)), at(0), 900 * MS));
        let first = LatencyFigure::default().with_failure(MS, at(0));
        assert!(about(first, at(0), FAILURE_FLOOR));
        let often = (0..50).fold(figure, |figure, _| figure.with_failure(MS, at(0)));
        assert!(about(often, at(0), WORST));
    }

    #[test]
    fn clock_of_49_days_goes_around() {
        let late = at(u64::from(u32::MAX) - 100);
        let figure = LatencyFigure::default().with(10 * MS, late);
        assert!(about(figure, late + 200 * MS, Duration::from_micros(9802)));
        // Another thread has read the clock a moment earlier.
        assert!(about(figure, late - MS, 10 * MS));
    }
}
