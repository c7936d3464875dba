//! The last restarts, for whoever asks: the registry writes them down, everybody reads them.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::restart_view::{RestartCounts, RestartLatency, RestartView};
use crate::core::Time;
use crate::core::restart::role::RestartRole;
use crate::core::restart::{RestartOutcome, RestartRecord};
use crate::metrics::restart_meter::RestartMeter;
use crate::rt::clock::{self, Reading};

/// Restarts that are remembered; the oldest makes room. Each is below 2 KiB.
pub const MOST_RESTARTS: usize = 512;

/// The last restarts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RestartBoard(Arc<Mutex<VecDeque<BoardEntry>>>);

#[derive(Debug)]
struct BoardEntry {
    pool: Arc<str>,
    backend: Arc<str>,
    record: RestartRecord,
    meter: Arc<RestartMeter>,
    latency: RestartLatency,
}

impl RestartBoard {
    /// Writes a restart down, or what has become of it.
    pub(super) fn note(
        &self,
        pool: &Arc<str>,
        backend: &Arc<str>,
        record: RestartRecord,
        meter: &Arc<RestartMeter>,
    ) {
        let mut entries = self.0.lock();
        let known = entries
            .iter_mut()
            .rev()
            .find(|entry| entry.record.number == record.number);
        if let Some(entry) = known {
            let least = entry.record.capacity.min(record.capacity);
            entry.record = record;
            entry.record.capacity = least;
            return;
        }
        if entries.len() >= MOST_RESTARTS {
            entries.pop_front();
        }
        entries.push_back(BoardEntry {
            pool: pool.clone(),
            backend: backend.clone(),
            record,
            meter: meter.clone(),
            latency: RestartLatency::default(),
        });
    }

    /// Changes what is known of a restart, if it is still remembered.
    pub(super) fn change(
        &self,
        number: u64,
        change: impl FnOnce(&mut RestartRecord, &RestartMeter, &mut RestartLatency),
    ) {
        let mut entries = self.0.lock();
        let known = entries
            .iter_mut()
            .rev()
            .find(|entry| entry.record.number == number);
        if let Some(entry) = known {
            change(&mut entry.record, &entry.meter, &mut entry.latency);
        }
    }

    /// The restarts of a pool that are under way have seen this little, too.
    pub(super) fn lower_capacity(&self, pool: &str, capacity: f64) {
        let mut entries = self.0.lock();
        for entry in entries.iter_mut().filter(|entry| entry.is_under_way(pool)) {
            entry.record.capacity = entry.record.capacity.min(capacity);
        }
    }

    /// A restart of a pool that is under way, beside the one with this number.
    pub(super) fn under_way(&self, pool: &str, beside: u64) -> Option<Arc<RestartMeter>> {
        let entries = self.0.lock();
        let mut others = entries.iter().rev();
        let other = others.find(|entry| entry.record.number != beside && entry.is_under_way(pool));
        other.map(|entry| entry.meter.clone())
    }

    /// The last restarts, so many at most, the oldest first.
    pub fn list(&self, limit: usize) -> Vec<RestartView> {
        let entries = self.0.lock();
        let skipped = entries.len().saturating_sub(limit);
        let clock = Reading::take();
        let shown = entries.iter().skip(skipped);
        shown.map(|entry| entry.view(&clock)).collect()
    }

    /// The restart with this id.
    pub fn find(&self, id: &str) -> Option<RestartView> {
        let entries = self.0.lock();
        let mut known = entries.iter().rev();
        known
            .find(|entry| entry.meter.id().to_string() == id)
            .map(|entry| entry.view(&Reading::take()))
    }
}

impl BoardEntry {
    fn is_under_way(&self, pool: &str) -> bool {
        let has_left = self.record.outcome == RestartOutcome::Left;
        *self.pool == *pool && !self.record.is_over() && !has_left
    }

    /// All instants by one reading of the clocks, so that they stay in order.
    fn view(&self, reading: &Reading) -> RestartView {
        let record = &self.record;
        let shown = |at: Time| clock::rfc3339(reading.to_wall(at));
        let of = |role| self.meter.of(role);
        RestartView {
            id: self.meter.id().to_string(),
            pool: self.pool.to_string(),
            backend: self.backend.to_string(),
            roll: record.roll.clone(),
            cause: record.cause.as_str().to_owned(),
            reason: record.reason.clone(),
            outcome: record.outcome.as_str().to_owned(),
            drain: record.drain.map(|outcome| outcome.as_str().to_owned()),
            began: shown(record.began),
            told: record.told.map(shown),
            drained: record.drained.map(shown),
            stopped: record.stopped.map(shown),
            started: record.started.map(shown),
            ready: record.ready.map(shown),
            deadline: record.deadline.map(shown),
            requests: RestartCounts {
                lines: self.meter.lines(),
                served: of(RestartRole::Served),
                closed: of(RestartRole::Closed),
                retried: of(RestartRole::Retried),
                held: of(RestartRole::Held),
                moved: of(RestartRole::Moved),
                cut: of(RestartRole::Cut),
                lost: of(RestartRole::Lost),
            },
            capacity_percent: (record.capacity * 1000.0).round() / 10.0,
            latency: self.latency.clone(),
        }
    }
}
