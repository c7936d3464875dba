//! Pauses before a failed source is asked again: longer each time, and with jitter, so that many proxies do not ask at
//! the same time.

use std::time::Duration;

/// The first pause…
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// …and the longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A pause that grows with each failure.
#[derive(Debug, Default)]
pub(super) struct GrowingPause {
    failures: u32,
}

impl GrowingPause {
    /// Resets the pause after a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next pause, up to a quarter shorter or longer at random (`chance` is from 0 to 1).
    pub(super) fn next(&mut self, chance: f64) -> Duration {
        let doubled = FIRST_PAUSE * (1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        doubled.min(LONGEST_PAUSE).mul_f64(0.75 + chance / 2.0)
    }
}

/// A period that is up to a tenth shorter or longer at random, so that proxies that were started together drift apart.
pub(super) fn jittered_period(period: Duration) -> Duration {
    period.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_begin_anew_after_success() {
        let mut pause = GrowingPause::default();
        let pauses: Vec<_> = (0..8).map(|_| pause.next(0.5).as_millis()).collect();
        assert_eq!(
            pauses,
            [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
        );
        pause.reset();
        assert_eq!(pause.next(0.0), Duration::from_millis(375));
        assert_eq!(pause.next(1.0), Duration::from_millis(1250));
    }
}
