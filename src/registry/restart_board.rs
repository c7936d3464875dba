//! Board of the last restarts: the registry records them, and the API and metrics read them.

mod handed;

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::restart_view::{ProxyIdentity, RestartCounts, RestartLatency, RestartView};
use crate::core::Time;
use crate::core::restart::role::RestartRole;
use crate::core::restart::{RestartOutcome, RestartRecord};
use crate::metrics::restart_meter::RestartMeter;
use crate::rt::clock::{self, ClockReading};

/// Most restarts that are remembered; a new one replaces the oldest. Each takes less than 2 KiB.
pub const MOST_RESTARTS: usize = 512;

/// The last restarts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RestartBoard(Arc<Mutex<BoardState>>);

#[derive(Debug, Default)]
struct BoardState {
    /// From the oldest on.
    entries: VecDeque<BoardEntry>,
    /// Previous processes that have handed over restarts.
    predecessors: Vec<ProxyIdentity>,
}

#[derive(Debug)]
enum BoardEntry {
    /// A restart that this process has seen, or whose end it has seen.
    Own(Box<OwnRestart>),
    /// A restart that only a previous process has seen.
    Handed(Box<RestartView>),
}

#[derive(Debug)]
struct OwnRestart {
    pool: Arc<str>,
    backend: Arc<str>,
    record: RestartRecord,
    meter: Arc<RestartMeter>,
    latency: RestartLatency,
    /// Counts of the previous processes.
    before: RestartCounts,
}

impl RestartBoard {
    /// Records a new restart, or a change of one.
    pub(super) fn note(
        &self,
        pool: &Arc<str>,
        backend: &Arc<str>,
        record: RestartRecord,
        meter: &Arc<RestartMeter>,
    ) {
        let mut board = self.0.lock();
        if let Some(entry) = board.own(record.number) {
            let least = entry.record.capacity.min(record.capacity);
            entry.record = record;
            entry.record.capacity = least;
            return;
        }
        board.make_room();
        board
            .entries
            .push_back(BoardEntry::Own(Box::new(OwnRestart {
                pool: pool.clone(),
                backend: backend.clone(),
                record,
                meter: meter.clone(),
                latency: RestartLatency::default(),
                before: RestartCounts::default(),
            })));
    }

    /// Changes the record of a restart, if it is still remembered.
    pub(super) fn change(
        &self,
        number: u64,
        change: impl FnOnce(&mut RestartRecord, &RestartMeter, &mut RestartLatency),
    ) {
        if let Some(entry) = self.0.lock().own(number) {
            change(&mut entry.record, &entry.meter, &mut entry.latency);
        }
    }

    /// Lowers the recorded capacity of a pool's restarts in progress.
    pub(super) fn lower_capacity(&self, pool: &str, capacity: f64) {
        let mut board = self.0.lock();
        for entry in board
            .own_restarts()
            .filter(|entry| entry.is_under_way(pool))
        {
            entry.record.capacity = entry.record.capacity.min(capacity);
        }
    }

    /// Returns a restart of a pool that is in progress, other than the one with this number.
    pub(super) fn under_way(&self, pool: &str, beside: u64) -> Option<Arc<RestartMeter>> {
        let mut board = self.0.lock();
        let other = board
            .own_restarts()
            .find(|entry| entry.record.number != beside && entry.is_under_way(pool));
        other.map(|entry| entry.meter.clone())
    }

    /// Returns the last restarts, at most `limit`, from the oldest on.
    pub fn list(&self, limit: usize) -> Vec<RestartView> {
        let board = self.0.lock();
        let skipped = board.entries.len().saturating_sub(limit);
        let clock = ClockReading::take();
        let shown = board.entries.iter().skip(skipped);
        shown.map(|entry| entry.view(&clock)).collect()
    }

    /// Returns the restart with this ID.
    pub fn find(&self, id: &str) -> Option<RestartView> {
        let board = self.0.lock();
        let mut known = board.entries.iter().rev();
        known
            .find(|entry| entry.has_id(id))
            .map(|entry| entry.view(&ClockReading::take()))
    }
}

impl BoardState {
    fn own(&mut self, number: u64) -> Option<&mut OwnRestart> {
        self.own_restarts()
            .find(|entry| entry.record.number == number)
    }

    /// Returns the restarts that this process has seen, from the newest on.
    fn own_restarts(&mut self) -> impl Iterator<Item = &mut OwnRestart> {
        let entries = self.entries.iter_mut().rev();
        entries.filter_map(|entry| match entry {
            BoardEntry::Own(own) => Some(&mut **own),
            BoardEntry::Handed(_) => None,
        })
    }

    fn make_room(&mut self) {
        if self.entries.len() >= MOST_RESTARTS {
            self.entries.pop_front();
        }
    }
}

impl BoardEntry {
    fn has_id(&self, id: &str) -> bool {
        match self {
            Self::Own(own) => own.meter.id().to_string() == id,
            Self::Handed(view) => view.id == id,
        }
    }

    fn view(&self, reading: &ClockReading) -> RestartView {
        match self {
            Self::Own(own) => own.view(reading),
            Self::Handed(view) => RestartView::clone(view),
        }
    }
}

impl OwnRestart {
    fn is_under_way(&self, pool: &str) -> bool {
        let has_left = self.record.outcome == RestartOutcome::Left;
        *self.pool == *pool && !self.record.is_over() && !has_left
    }

    /// Returns the view. All times are converted with one reading of the clocks, so that they stay in order.
    fn view(&self, reading: &ClockReading) -> RestartView {
        let record = &self.record;
        let shown = |at: Time| clock::rfc3339(reading.to_wall(at));
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
            requests: self.requests(),
            capacity_percent: (record.capacity * 1000.0).round() / 10.0,
            latency: self.latency.clone(),
        }
    }

    fn requests(&self) -> RestartCounts {
        let of = |role| self.meter.of(role);
        let mut requests = RestartCounts {
            lines: self.meter.lines(),
            served: of(RestartRole::Served),
            closed: of(RestartRole::Closed),
            retried: of(RestartRole::Retried),
            held: of(RestartRole::Held),
            moved: of(RestartRole::Moved),
            cut: of(RestartRole::Cut),
            lost: of(RestartRole::Lost),
        };
        requests.add(&self.before);
        requests
    }
}
