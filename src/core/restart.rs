//! Records of restarts: what happened to a backend from the first sign of a restart until it took requests again. The
//! input is the backend's state after each step, the output a record.
//!
//! [`role`] decides which part a request had in a restart, and which requests are lost.

pub mod role;

use super::Time;
use super::drain::{DrainActor, DrainOutcome};
use super::event::ProbeResult;
use super::state::DerivedState;

/// Longest reason that is kept, in bytes, so that records have bounded size.
const LONGEST_REASON: usize = 300;

/// Why a restart began: the first sign decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestartCause {
    /// Its launcher ordered a drain, by its lease.
    Launcher,
    /// An operator ordered a drain: by a command, the API, or a roll.
    Api,
    /// A supervisor's hook or message ordered a drain.
    Supervisor,
    /// It was removed from the configuration, or has another address there.
    Config,
    /// Its discovery source no longer names it, or reports that it ends.
    Discovery,
    /// Its health check answered 503.
    Unavailable,
    /// It closed its connections and refuses new ones; no request was lost.
    Stopped,
    /// Its process was gone while requests were in flight on it.
    Killed,
    /// Its health checks failed.
    ProbeFailed,
    /// Another process was behind it before any other sign was seen.
    Replaced,
}

impl RestartCause {
    /// All causes.
    pub const ALL: [Self; 10] = [
        Self::Launcher,
        Self::Api,
        Self::Supervisor,
        Self::Config,
        Self::Discovery,
        Self::Unavailable,
        Self::Stopped,
        Self::Killed,
        Self::ProbeFailed,
        Self::Replaced,
    ];

    /// Returns the name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Launcher => "launcher",
            Self::Api => "api",
            Self::Supervisor => "supervisor",
            Self::Config => "config",
            Self::Discovery => "discovery",
            Self::Unavailable => "unavailable",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::ProbeFailed => "probe_failed",
            Self::Replaced => "replaced",
        }
    }
}

/// Outcome of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartOutcome {
    /// In progress.
    Open,
    /// Another process takes requests.
    Restarted,
    /// The same process takes requests again, as far as could be seen.
    Resumed,
    /// The backend was removed, and none with its name has come since.
    Left,
    /// The process that watched it has ended, and no other watches its end.
    Unseen,
}

impl RestartOutcome {
    /// All outcomes.
    pub const ALL: [Self; 5] = [
        Self::Open,
        Self::Restarted,
        Self::Resumed,
        Self::Left,
        Self::Unseen,
    ];

    /// Returns the name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Restarted => "restarted",
            Self::Resumed => "resumed",
            Self::Left => "left",
            Self::Unseen => "unseen",
        }
    }
}

/// One restart. Times that were not observed are `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct RestartRecord {
    /// Number, by which log lines refer to it.
    pub number: u64,
    /// ID of the roll that it is part of, if any.
    pub roll: Option<String>,
    /// Cause.
    pub cause: RestartCause,
    /// Cause as text.
    pub reason: String,
    /// Time of the first sign.
    pub began: Time,
    /// Time at which a drain was ordered.
    pub told: Option<Time>,
    /// Time at which nothing was in flight any more and no connection was open.
    pub drained: Option<Time>,
    /// Time at which its process was first seen to be gone.
    pub stopped: Option<Time>,
    /// Time at which another process was first seen.
    pub started: Option<Time>,
    /// Time at which it took requests again.
    pub ready: Option<Time>,
    /// Time at which requests in flight were to be cut.
    pub deadline: Option<Time>,
    /// How the drain ended, for the requests that waited for it.
    pub drain: Option<DrainOutcome>,
    /// Outcome.
    pub outcome: RestartOutcome,
    /// Smallest share of the pool's weight that took requests meanwhile, from 0 to 1.
    pub capacity: f64,
}

/// A drain, as needed for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenDrain {
    /// Who ordered the drain.
    pub actor: DrainActor,
    /// Whether the backend's own lease has ordered it.
    pub by_lease: bool,
    /// ID of the roll, if it belongs to one.
    pub roll: Option<String>,
    /// Reason.
    pub reason: String,
    /// Time at which it began.
    pub since: Time,
    /// Time at which requests in flight are cut.
    pub deadline: Option<Time>,
}

/// A backend after one step.
#[derive(Debug, Clone, PartialEq)]
pub struct RestartSight {
    /// State.
    pub state: DerivedState,
    /// Number of the process behind it.
    pub incarnation: u64,
    /// Probe that the step was about.
    pub probe: Option<ProbeResult>,
    /// Whether its processes have ended, if they are watched.
    pub ended: bool,
    /// Whether requests on it were lost since its last sign of life.
    pub broke: bool,
    /// How a drain ended in this step, if one did.
    pub announced: Option<DrainOutcome>,
    /// Open drains.
    pub drains: Vec<SeenDrain>,
    /// Share of the pool's weight that takes requests, from 0 to 1.
    pub capacity: f64,
}

/// Change by a call of [`RestartRecorder::observe_backend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartChange {
    /// No change.
    Nothing,
    /// A restart has begun.
    Begun,
    /// The record of the restart has changed.
    Grown,
    /// The backend takes requests again.
    Over,
}

/// Recorder of one backend's restarts.
#[derive(Debug, Clone)]
pub struct RestartRecorder {
    incarnation: u64,
    joined: Time,
    was_ready: bool,
    /// Boxed, because there are many backends and few restarts.
    open: Option<Box<RestartRecord>>,
}

impl RestartRecorder {
    /// Creates a recorder for a backend that was added at `joined`, and of which `incarnation` processes have been
    /// seen.
    pub fn new(incarnation: u64, joined: Time) -> Self {
        Self {
            incarnation,
            joined,
            was_ready: false,
            open: None,
        }
    }

    /// Continues a restart that another process has watched so far.
    pub fn go_on(&mut self, record: RestartRecord) {
        self.was_ready = true;
        self.open = Some(Box::new(record));
    }

    /// Returns the restart in progress.
    pub fn open(&self) -> Option<&RestartRecord> {
        self.open.as_deref()
    }

    /// Returns when the backend was added.
    pub fn joined(&self) -> Time {
        self.joined
    }

    /// Whether [`Self::observe_backend`] can have a result for a backend in this state.
    pub fn is_concerned(&self, state: DerivedState, incarnation: u64) -> bool {
        self.open.is_some()
            || state != DerivedState::Ready
            || !self.was_ready
            || incarnation != self.incarnation
    }

    /// Takes in the backend's state after a step. `number`: for the restart that may begin with it. Read the returned
    /// record, if there is one, before the next call.
    pub fn observe_backend(
        &mut self,
        sight: &RestartSight,
        number: u64,
        now: Time,
    ) -> (RestartChange, Option<RestartRecord>) {
        let is_another = sight.incarnation > self.incarnation;
        let is_closed = matches!(sight.state, DerivedState::Draining | DerivedState::Drained);
        let fell = self.was_ready && !is_closed && sight.state != DerivedState::Ready;
        let mut change = RestartChange::Grown;
        if self.open.is_none() {
            if !(is_closed || fell || (is_another && self.was_ready)) {
                self.incarnation = sight.incarnation;
                self.was_ready |= sight.state == DerivedState::Ready;
                return (RestartChange::Nothing, None);
            }
            self.open = Some(Box::new(begin_record(sight, number, is_another, now)));
            change = RestartChange::Begun;
        }
        let Some(record) = &mut self.open else {
            return (RestartChange::Nothing, None);
        };
        let before = record.clone();
        update_record(record, sight, is_another, now);
        self.incarnation = sight.incarnation;
        if sight.state == DerivedState::Ready {
            record.ready = Some(now);
            record.outcome = match record.started {
                Some(_) => RestartOutcome::Restarted,
                None => RestartOutcome::Resumed,
            };
            self.was_ready = true;
            return (RestartChange::Over, self.open.take().map(|record| *record));
        }
        if change == RestartChange::Grown && **record == *before {
            return (RestartChange::Nothing, None);
        }
        (change, Some(RestartRecord::clone(record)))
    }

    /// Notes that the backend is removed; returns the restart in progress.
    pub fn leave(&mut self, now: Time) -> Option<RestartRecord> {
        let mut record = *self.open.take()?;
        record.stopped.get_or_insert(now);
        record.outcome = RestartOutcome::Left;
        Some(record)
    }
}

impl RestartRecord {
    /// Notes that another backend with its name was added, and the time since which that one is ready.
    pub fn succeed(&mut self, joined: Time, ready: Time) {
        self.started.get_or_insert(joined);
        self.ready.get_or_insert(ready);
        self.outcome = RestartOutcome::Restarted;
    }

    /// Whether the record is complete.
    pub fn is_over(&self) -> bool {
        self.ready.is_some()
    }
}

fn begin_record(sight: &RestartSight, number: u64, is_another: bool, now: Time) -> RestartRecord {
    let first = sight.drains.iter().min_by_key(|drain| drain.since);
    let cause = match first.map(|drain| (drain.actor, drain.by_lease)) {
        Some((DrainActor::Supervisor, true)) => RestartCause::Launcher,
        Some((DrainActor::Supervisor, false)) => RestartCause::Supervisor,
        Some((DrainActor::Operator, _)) => RestartCause::Api,
        Some((DrainActor::Config, _)) => RestartCause::Config,
        Some((DrainActor::Discovery, _)) => RestartCause::Discovery,
        Some((DrainActor::App, _)) if sight.probe == Some(ProbeResult::Unavailable) => {
            RestartCause::Unavailable
        }
        _ if sight.broke => RestartCause::Killed,
        Some((DrainActor::App, _)) => RestartCause::Stopped,
        None if is_another => RestartCause::Replaced,
        None => RestartCause::ProbeFailed,
    };
    let reason = match (first, sight.probe) {
        (Some(drain), _) => shorten(&drain.reason),
        (None, Some(probe)) if !is_another => format!("its health check: {probe}"),
        (None, _) => String::new(),
    };
    RestartRecord {
        number,
        roll: None,
        cause,
        reason,
        began: first.map_or(now, |drain| drain.since.min(now)),
        told: None,
        drained: None,
        stopped: None,
        started: None,
        ready: None,
        deadline: None,
        drain: None,
        outcome: RestartOutcome::Open,
        capacity: sight.capacity,
    }
}

fn update_record(record: &mut RestartRecord, sight: &RestartSight, is_another: bool, now: Time) {
    record.capacity = record.capacity.min(sight.capacity);
    for drain in &sight.drains {
        if drain.actor != DrainActor::App {
            record.told = Some(
                record
                    .told
                    .map_or(drain.since, |told| told.min(drain.since)),
            );
        }
        if drain.roll.is_some() {
            record.roll.clone_from(&drain.roll);
        }
        record.deadline = match (record.deadline, drain.deadline) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
    // Lost requests may be reported after the prober's findings.
    if record.cause == RestartCause::Stopped && sight.broke && record.started.is_none() {
        record.cause = RestartCause::Killed;
    }
    if let Some(outcome) = sight.announced {
        record.drain = Some(outcome);
    }
    let is_gone =
        matches!(sight.probe, Some(ProbeResult::Refused | ProbeResult::Reset)) || sight.ended;
    let died = matches!(sight.announced, Some(DrainOutcome::Died { .. }));
    if (is_gone || died) && record.started.is_none() {
        record.stopped.get_or_insert(now);
    }
    // The time stays, because the step that lifts the drain may be observed, too.
    if sight.state == DerivedState::Drained || sight.announced == Some(DrainOutcome::Drained) {
        record.drained.get_or_insert(now);
    }
    let answers = matches!(
        sight.probe,
        Some(ProbeResult::Pass | ProbeResult::Unavailable | ProbeResult::Status(_))
    );
    if is_another || (answers && record.stopped.is_some()) {
        record.started.get_or_insert(now);
    }
}

fn shorten(text: &str) -> String {
    let mut end = text.len().min(LONGEST_REASON);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests;
