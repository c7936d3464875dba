//! Average response time of a backend: from the start of an attempt to the head of its response.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::outcomes::AttemptOutcome;
use crate::core::Time;
use crate::core::balance::LatencyFigure;

/// A moving average, updated only if the pool balances by latency.
#[derive(Debug, Default)]
pub struct LatencyAverage {
    /// Bits of a [`LatencyFigure`].
    figure: AtomicU64,
    is_kept: AtomicBool,
}

impl LatencyAverage {
    /// Sets whether the average is updated from now on.
    pub fn keep(&self, wanted: bool) {
        self.is_kept.store(wanted, Ordering::Relaxed);
        if !wanted {
            self.forget();
        }
    }

    /// Forgets the average, because another process is behind the backend.
    pub fn forget(&self) {
        self.figure.store(0, Ordering::Relaxed);
    }

    /// Returns the response time to expect at `now`; `None`: nothing is known.
    pub fn expected(&self, now: Time) -> Option<Duration> {
        LatencyFigure(self.figure.load(Ordering::Relaxed)).expected(now)
    }

    /// Updates the average with the outcome of an attempt. `took`: as in [`Endpoint::note_outcome`](super::Endpoint).
    ///
    /// If two updates coincide, one may be lost: the next update makes up for it.
    pub(super) fn note(&self, outcome: AttemptOutcome, took: Option<Duration>, now: Time) {
        if !self.is_kept.load(Ordering::Relaxed) {
            return;
        }
        let figure = LatencyFigure(self.figure.load(Ordering::Relaxed));
        let figure = match (outcome, took) {
            (AttemptOutcome::Head { error: None }, Some(took)) => figure.with(took, now),
            (AttemptOutcome::Head { error: Some(_) } | AttemptOutcome::Failed(_), took) => {
                figure.with_failure(took.unwrap_or_default(), now)
            }
            // The attempt would have taken at least this long, which says nothing if it is less than the average.
            (AttemptOutcome::Abandoned, Some(took))
                if figure.expected(now).is_some_and(|known| known < took) =>
            {
                figure.with(took, now)
            }
            _ => return,
        };
        self.figure.store(figure.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::outlier::AttemptError;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn latency_is_kept_only_where_it_is_wanted() {
        let (latency, now) = (LatencyAverage::default(), Time::from_secs(5));
        let head = AttemptOutcome::Head { error: None };
        latency.note(head, Some(9 * MS), now);
        assert_eq!(latency.expected(now), None);
        latency.keep(true);
        latency.note(AttemptOutcome::Abandoned, Some(MS), now);
        latency.note(AttemptOutcome::Whole, Some(MS), now);
        latency.note(head, None, now);
        assert_eq!(latency.expected(now), None, "nothing was learned");
        latency.note(head, Some(9 * MS), now);
        assert_eq!(latency.expected(now), Some(9 * MS));
        latency.note(AttemptOutcome::Abandoned, Some(MS), now);
        assert_eq!(latency.expected(now), Some(9 * MS));
        latency.note(AttemptOutcome::Abandoned, Some(20 * MS), now);
        assert_eq!(latency.expected(now), Some(20 * MS));
        latency.note(AttemptOutcome::Failed(AttemptError::Connect), None, now);
        assert_eq!(latency.expected(now), Some(200 * MS));
        latency.keep(false);
        assert_eq!(latency.expected(now), None);
    }
}
