//! Figures that can be read without asking the registry's task: discovery sources, and recent changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::view::{ChangeView, DiscoveryView};
use crate::config::Address;
use crate::core::Time;
use crate::core::discovery::{AnswerDoubt, DiscoveredSet};
use crate::rt::clock::{self, ClockReading};

/// Most changes that are remembered; a new change replaces the oldest.
pub const MOST_CHANGES: usize = 256;
/// Most lines that are remembered of each list of a change (added, removed, changed).
pub const MOST_LINES: usize = 100;
/// Most refused names of a source that are shown.
const SHOWN_REFUSALS: usize = 10;

/// Numbers of a source's answers, by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AnswerCounts {
    /// Answers that were applied in full.
    pub taken: u64,
    /// Answers that were doubted: backends that they lacked were kept.
    pub doubted: u64,
    /// Queries without an answer.
    pub failed: u64,
}

/// The set of a source from an earlier run of the proxy.
#[derive(Debug, Clone)]
pub struct RememberedAnswer {
    /// Time of its last answer.
    pub answered: SystemTime,
    /// The set that was in force.
    pub set: Arc<DiscoveredSet<Address>>,
}

/// Status of a source.
#[derive(Debug, Clone, Default)]
pub struct SourceStatus {
    /// Number of its backends that are in force.
    pub backends: usize,
    /// Time of the last answer.
    pub answered: Option<Time>,
    /// The set of an earlier run, until the source answers.
    pub remembered: Option<RememberedAnswer>,
    /// Time since which queries fail, and the last error.
    pub failing: Option<(Time, String)>,
    /// Why the last answer was not applied in full.
    pub doubt: Option<AnswerDoubt>,
    /// Names that the source can't use, each with the reason.
    pub refused: Vec<(String, String)>,
    /// Numbers of answers, by result.
    pub counts: AnswerCounts,
}

/// Status of sources by pool and label, and the last changes.
#[derive(Debug, Clone, Default)]
pub struct LiveFigures(Arc<Figures>);

#[derive(Debug, Default)]
struct Figures {
    sources: Mutex<BTreeMap<(String, Arc<str>), SourceStatus>>,
    changes: Mutex<ChangeRing>,
}

#[derive(Debug, Default)]
struct ChangeRing {
    next: u64,
    kept: VecDeque<ChangeView>,
}

impl LiveFigures {
    /// Changes the status of a source, which may be new.
    pub fn note_source(&self, pool: &str, source: &Arc<str>, note: impl FnOnce(&mut SourceStatus)) {
        let mut sources = self.0.sources.lock();
        note(
            sources
                .entry((pool.to_owned(), source.clone()))
                .or_default(),
        );
    }

    /// Returns when a source's last answer came, in this run or the one before.
    pub(super) fn last_answer(
        &self,
        pool: &str,
        source: &str,
        clock: &ClockReading,
    ) -> Option<SystemTime> {
        let key: (String, Arc<str>) = (pool.to_owned(), source.into());
        let sources = self.0.sources.lock();
        let status = sources.get(&key)?;
        let answered = status.answered.map(|at| clock.to_wall(at));
        answered.or(status.remembered.as_ref().map(|one| one.answered))
    }

    /// Removes a source that is no longer followed.
    pub fn forget_source(&self, pool: &str, source: &Arc<str>) {
        let key = (pool.to_owned(), source.clone());
        self.0.sources.lock().remove(&key);
    }

    /// Returns all sources, with pool and label.
    pub fn sources(&self) -> Vec<(String, Arc<str>, SourceStatus)> {
        let sources = self.0.sources.lock();
        let all = sources.iter();
        all.map(|((pool, source), status)| (pool.clone(), source.clone(), status.clone()))
            .collect()
    }

    /// Returns the views of a pool's sources.
    pub fn of_pool(&self, pool: &str) -> Vec<DiscoveryView> {
        let sources = self.0.sources.lock();
        let own = sources.iter().filter(|((of, _), _)| of == pool);
        own.map(|((_, source), status)| status.view(source))
            .collect()
    }

    /// Returns the labels of the pool's sources that have answered or failed.
    pub fn heard_of_pool(&self, pool: &str) -> Vec<String> {
        let sources = self.0.sources.lock();
        let own = sources.iter().filter(|((of, _), _)| of == pool);
        own.filter(|(_, status)| status.answered.is_some() || status.failing.is_some())
            .map(|((_, source), _)| source.to_string())
            .collect()
    }

    /// Records a change; returns its number.
    pub fn note_change(&self, mut change: ChangeView) -> u64 {
        for list in [&mut change.added, &mut change.removed] {
            change.more += list.len().saturating_sub(MOST_LINES);
            list.truncate(MOST_LINES);
        }
        change.more += change.changed.len().saturating_sub(MOST_LINES);
        change.changed.truncate(MOST_LINES);
        let mut ring = self.0.changes.lock();
        ring.next += 1;
        change.id = ring.next;
        if ring.kept.len() >= MOST_CHANGES {
            ring.kept.pop_front();
        }
        ring.kept.push_back(change);
        ring.next
    }

    /// Returns the last changes, at most `last`, from the oldest on.
    pub fn changes(&self, last: usize) -> Vec<ChangeView> {
        let ring = self.0.changes.lock();
        let skipped = ring.kept.len().saturating_sub(last);
        ring.kept.iter().skip(skipped).cloned().collect()
    }
}

impl SourceStatus {
    /// Returns `ok`, `waiting` for the first answer, `doubted` or `failing`.
    pub fn state(&self) -> &'static str {
        match (&self.failing, &self.doubt, self.answered) {
            (Some(_), _, _) => "failing",
            (None, Some(_), _) => "doubted",
            (None, None, None) => "waiting",
            (None, None, Some(_)) => "ok",
        }
    }

    /// Returns the age of the last answer, by this run's monotonic clock, or by the wall clock if the answer came in
    /// an earlier run.
    pub fn answer_age(&self, now: Time) -> Option<Duration> {
        let own = self.answered.map(|at| now.saturating_sub(at));
        own.or_else(|| {
            let earlier = self.remembered.as_ref()?.answered;
            let age = clock::wall(now).duration_since(earlier);
            Some(age.unwrap_or_default())
        })
    }

    fn view(&self, source: &str) -> DiscoveryView {
        let now = clock::now();
        let shown = |at| clock::rfc3339(clock::wall(at));
        let earlier = self.remembered.as_ref().map(|one| one.answered);
        let earlier = earlier.filter(|_| self.answered.is_none());
        DiscoveryView {
            source: source.to_owned(),
            state: self.state().to_owned(),
            backends: self.backends,
            answered: self.answered.map(shown).or(earlier.map(clock::rfc3339)),
            answer_age_ms: self.answer_age(now).map(|age| age.as_millis() as u64),
            of_earlier_run: earlier.is_some(),
            failing_since: self.failing.as_ref().map(|(since, _)| shown(*since)),
            failure: self.failing.as_ref().map(|(_, why)| why.clone()),
            doubt: self.doubt.as_ref().map(|doubt| doubt.to_string()),
            kept: self.doubt.as_ref().map_or(0, |doubt| doubt.kept),
            kept_until: self.doubt.as_ref().and_then(|doubt| doubt.until).map(shown),
            refused: self.refused.len(),
            refusals: self
                .refused
                .iter()
                .take(SHOWN_REFUSALS)
                .map(|(name, why)| format!("{name}: {why}"))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_changes_are_bounded_in_number_and_length() {
        let figures = LiveFigures::default();
        for _ in 0..MOST_CHANGES + 10 {
            figures.note_change(ChangeView {
                added: vec!["app/a".to_owned(); MOST_LINES + 5],
                ..ChangeView::default()
            });
        }
        let all = figures.changes(usize::MAX);
        assert_eq!(all.len(), MOST_CHANGES);
        assert_eq!((all[0].id, all[0].more), (11, 5));
        assert_eq!(all[0].added.len(), MOST_LINES);
        let last = figures.changes(1);
        assert_eq!(last[0].id, MOST_CHANGES as u64 + 10);
    }
}
