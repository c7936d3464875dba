//! Hand-over of restarts to another process, and restarts that came from one. Finished restarts are handed over as
//! views; a restart in progress continues under its ID.

use std::sync::Arc;
use std::time::Duration;

use super::{BoardEntry, MOST_RESTARTS, OwnRestart, RestartBoard};
use crate::core::Time;
use crate::core::drain::DrainOutcome;
use crate::core::restart::{RestartCause, RestartOutcome, RestartRecord};
use crate::metrics::restart_meter::RestartMeter;
use crate::registry::restart_view::{ProxyIdentity, RestartLatency, RestartView};
use crate::rt::clock::ClockReading;

/// Most bytes of restarts that are handed over; the newest are preferred.
const MOST_HANDED: usize = 1 << 20;

/// Added to a time that is read: so another reading of the clocks shows the same milliseconds.
const HALF: Duration = Duration::from_micros(500);

impl RestartBoard {
    /// Returns the restarts for another process: the newest within the limit, from the oldest on.
    pub fn hand(&self) -> Vec<RestartView> {
        let mut all = self.list(MOST_RESTARTS);
        let mut room = MOST_HANDED;
        let mut first = all.len();
        for (place, one) in all.iter().enumerate().rev() {
            let size = serde_json::to_vec(one).map_or(usize::MAX, |text| text.len());
            match room.checked_sub(size) {
                Some(left) => room = left,
                None => break,
            }
            first = place;
        }
        all.drain(..first);
        all
    }

    /// Returns those of these restarts that lines of the access log name. Their counts are sent again while this
    /// process finishes.
    pub fn hand_counted(&self) -> Vec<RestartView> {
        let mut counted = self.hand();
        counted.retain(|one| one.requests.lines > 0);
        counted
    }

    /// Returns the previous processes to which the restarts in a list belong.
    pub fn predecessors(&self, of: &[RestartView]) -> Vec<ProxyIdentity> {
        let board = self.0.lock();
        let known = board.predecessors.iter();
        let is_named = |process: &&ProxyIdentity| of.iter().any(|one| process.has_seen(one));
        known.filter(is_named).cloned().collect()
    }

    /// Takes restarts that another process has given, before any of this process's own.
    pub(in crate::registry) fn take(
        &self,
        mut restarts: Vec<RestartView>,
        predecessors: Vec<ProxyIdentity>,
    ) {
        let over = restarts.len().saturating_sub(MOST_RESTARTS);
        restarts.drain(..over);
        let mut board = self.0.lock();
        board.predecessors = predecessors;
        let entries = restarts.into_iter();
        board.entries = entries
            .map(|one| BoardEntry::Handed(Box::new(one)))
            .collect();
    }

    /// Continues a restart that is in progress.
    pub(in crate::registry) fn go_on(
        &self,
        id: &str,
        pool: &Arc<str>,
        backend: &Arc<str>,
    ) -> Option<(RestartRecord, Arc<RestartMeter>)> {
        let mut board = self.0.lock();
        let entry = board.entries.iter_mut().find(|entry| entry.has_id(id))?;
        let BoardEntry::Handed(view) = entry else {
            return None;
        };
        let meter = Arc::new(RestartMeter::of_predecessor(id));
        let record = record_of(view, meter.number())?;
        meter.begin(record.began);
        *entry = BoardEntry::Own(Box::new(OwnRestart {
            pool: pool.clone(),
            backend: backend.clone(),
            record: record.clone(),
            meter: meter.clone(),
            latency: RestartLatency {
                before: view.latency.before.clone(),
                // No process has measured the whole restart.
                ..RestartLatency::default()
            },
            before: view.requests,
        }));
        Some((record, meter))
    }

    /// Ends restarts of earlier processes that no process follows any more, with this outcome.
    pub(in crate::registry) fn end_handed(&self, outcome: RestartOutcome) {
        for entry in &mut self.0.lock().entries {
            if let BoardEntry::Handed(view) = entry
                && view.outcome == RestartOutcome::Open.as_str()
            {
                outcome.as_str().clone_into(&mut view.outcome);
            }
        }
    }

    /// Replaces the counts of the previous process with newer ones.
    pub fn recount(&self, restarts: Vec<RestartView>) {
        let mut board = self.0.lock();
        for told in restarts {
            let known = board.entries.iter_mut().find(|one| one.has_id(&told.id));
            match known {
                Some(BoardEntry::Own(own)) => own.before = told.requests,
                Some(BoardEntry::Handed(view)) if view.outcome == RestartOutcome::Open.as_str() => {
                    **view = told;
                }
                Some(BoardEntry::Handed(view)) => view.requests = told.requests,
                // The restart began while that process was finishing.
                None => {
                    let reading = ClockReading::take();
                    let mut entries = board.entries.iter();
                    let later = entries.position(|one| one.view(&reading).began > told.began);
                    let place = later.unwrap_or(board.entries.len());
                    // Older than all restarts that there is room for.
                    if place == 0 && board.entries.len() >= MOST_RESTARTS {
                        continue;
                    }
                    board
                        .entries
                        .insert(place, BoardEntry::Handed(Box::new(told)));
                    if board.entries.len() > MOST_RESTARTS {
                        board.entries.pop_front();
                    }
                }
            }
        }
    }
}

/// Returns the record with which the backend's recorder continues a restart; `None`: the restart has values of
/// another release that this one does not know.
fn record_of(view: &RestartView, number: u64) -> Option<RestartRecord> {
    let reading = ClockReading::take();
    let read = |text: &str| {
        let at = humantime::parse_rfc3339(text).ok()?;
        Some(reading.from_wall(at + HALF))
    };
    let instant = |text: &Option<String>| -> Option<Time> { read(text.as_deref()?) };
    let causes = RestartCause::ALL.into_iter();
    // The counts are not reported again.
    let drains = [
        DrainOutcome::Drained,
        DrainOutcome::TimedOut { cut: 0 },
        DrainOutcome::Died { lost: 0 },
        DrainOutcome::Resumed,
    ];
    Some(RestartRecord {
        number,
        roll: view.roll.clone(),
        cause: causes
            .into_iter()
            .find(|cause| cause.as_str() == view.cause)?,
        reason: view.reason.clone(),
        began: read(&view.began)?,
        told: instant(&view.told),
        drained: instant(&view.drained),
        stopped: instant(&view.stopped),
        started: instant(&view.started),
        ready: instant(&view.ready),
        deadline: instant(&view.deadline),
        drain: drains
            .into_iter()
            .find(|outcome| Some(outcome.as_str()) == view.drain.as_deref()),
        outcome: RestartOutcome::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == view.outcome)?,
        capacity: view.capacity_percent / 100.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::restart::role::{RestartRole, RestartRoles};
    use crate::registry::restart_view::RestartCounts;

    /// Times are in the future: earlier ones lie before this process's clock begins.
    fn view(n: u64, outcome: &str) -> RestartView {
        RestartView {
            id: format!("1.1-{n}"),
            pool: "app".to_owned(),
            backend: format!("app-{n}"),
            cause: "api".to_owned(),
            outcome: outcome.to_owned(),
            drain: Some("timed_out".to_owned()),
            began: format!("2126-01-01T00:00:{n:02}.123Z"),
            told: Some(format!("2126-01-01T00:00:{n:02}.999Z")),
            capacity_percent: 66.7,
            requests: RestartCounts {
                lines: 2,
                lost: 1,
                ..RestartCounts::default()
            },
            ..RestartView::default()
        }
    }

    #[test]
    fn restart_under_way_goes_on_under_its_id_and_adds_up_both_counts() {
        let board = RestartBoard::default();
        board.take(vec![view(1, "restarted"), view(2, "open")], Vec::new());
        let (pool, backend) = ("app".into(), "app-2".into());
        let (record, meter) = board.go_on("1.1-2", &pool, &backend).unwrap();
        assert_eq!(meter.id().to_string(), "1.1-2");
        let mut roles = RestartRoles::default();
        roles.add(RestartRole::Lost);
        meter.count(roles, Time::ZERO);
        board.note(&pool, &backend, record, &meter);
        let mut told = view(2, "restarted");
        told.requests.lines = 5;
        board.recount(vec![told]);
        let mut expected = view(2, "open");
        (expected.requests.lines, expected.requests.lost) = (6, 2);
        assert_eq!(board.list(9), [view(1, "restarted"), expected]);
        assert!(board.go_on("1.1-2", &pool, &backend).is_none(), "once only");
    }

    #[test]
    fn open_restart_without_a_backend_has_left() {
        let board = RestartBoard::default();
        board.take(vec![view(1, "open"), view(2, "resumed")], Vec::new());
        board.end_handed(RestartOutcome::Left);
        assert_eq!(board.list(9), [view(1, "left"), view(2, "resumed")]);
    }

    #[test]
    fn later_restart_is_inserted_in_order_and_the_list_stays_bounded() {
        let board = RestartBoard::default();
        board.take(vec![view(1, "restarted"), view(3, "restarted")], Vec::new());
        board.recount(vec![view(2, "left")]);
        let ids: Vec<_> = board.list(9).into_iter().map(|one| one.id).collect();
        assert_eq!(ids, ["1.1-1", "1.1-2", "1.1-3"]);
        let many = |n| RestartView {
            reason: "x".repeat(4096),
            ..view(n, "restarted")
        };
        board.take((0..600).map(many).collect(), Vec::new());
        assert_eq!(board.list(9999).len(), MOST_RESTARTS);
        let handed = board.hand();
        let bytes = serde_json::to_vec(&handed).unwrap().len();
        assert!((200..300).contains(&handed.len()), "{}", handed.len());
        assert!(bytes <= MOST_HANDED + handed.len(), "{bytes}");
        assert_eq!(handed.last().unwrap().id, "1.1-599");
    }
}
