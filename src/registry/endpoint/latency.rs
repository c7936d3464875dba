//! How long a backend's answers take: from the begin of an attempt to the head of its answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::outcomes::AttemptOutcome;
use crate::core::Time;
use crate::core::balance::LatencyFigure;

/// A moving average, kept only where the pool balances by it.
#[derive(Debug, Default)]
pub struct LatencyAverage {
    /// A [`LatencyFigure`].
    figure: AtomicU64,
    is_kept: AtomicBool,
}

impl LatencyAverage {
    /// Whether it is kept from now on.
    pub fn keep(&self, wanted: bool) {
        self.is_kept.store(wanted, Ordering::Relaxed);
        if !wanted {
            self.forget();
        }
    }

    /// Another process is behind the backend: nothing is known of it.
    pub fn forget(&self) {
        self.figure.store(0, Ordering::Relaxed);
    }

    /// What is to be expected of it at `now`; `None`: nothing is known.
    pub fn expected(&self, now: Time) -> Option<Duration> {
        LatencyFigure(self.figure.load(Ordering::Relaxed)).expected(now)
    }

    /// Takes note of how an attempt went. `took`: as of [`Endpoint::note_outcome`](super::Endpoint).
    ///
    /// Of two at once, one may be lost: the next one makes up for it.
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
            // At least so long; it says nothing where it is less than what is known.
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
