//! What happened to a backend from the first sign of a restart until it took requests again. The input is the
//! backend's state after each step, the output a record.
//!
//! [`role`] says which part a request had in a restart, and which requests are lost.

pub mod role;

use super::Time;
use super::drain::{DrainActor, DrainOutcome};
use super::event::ProbeResult;
use super::state::DerivedState;

/// Longest reason that is kept, in bytes: a record has bounded size.
const LONGEST_REASON: usize = 300;

/// Why a backend left: the first sign decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestartCause {
    /// Its launcher asked for a drain, by its lease.
    Launcher,
    /// An operator asked for a drain: a command, the API, or a roll.
    Api,
    /// A supervisor's hook or word asked for a drain.
    Supervisor,
    /// It is no longer in the configuration, or at another address there.
    Config,
    /// Its source no longer names it, or says that it ends.
    Discovery,
    /// Its health check answered 503.
    Unavailable,
    /// It closed its connections and refuses new ones; no request broke.
    Stopped,
    /// Its process was gone with requests on it.
    Killed,
    /// Its health checks failed.
    ProbeFailed,
    /// Another process was behind it before anything else was seen.
    Replaced,
}

impl RestartCause {
    /// All of them.
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

    /// As the API writes it.
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

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartOutcome {
    /// It is under way.
    Open,
    /// Another process takes requests.
    Restarted,
    /// The same process takes requests again, as far as could be seen.
    Resumed,
    /// The backend was removed, and none of its name has come since.
    Left,
    /// The process that has watched it has ended, and left its end to nobody.
    Unseen,
}

impl RestartOutcome {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Open,
        Self::Restarted,
        Self::Resumed,
        Self::Left,
        Self::Unseen,
    ];

    /// As the API writes it.
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

/// One restart. Instants that were not observed are `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct RestartRecord {
    /// Its number: log lines bear it.
    pub number: u64,
    /// The roll that it is part of.
    pub roll: Option<String>,
    /// Why.
    pub cause: RestartCause,
    /// The same for people.
    pub reason: String,
    /// The first sign.
    pub began: Time,
    /// When a drain was asked for.
    pub told: Option<Time>,
    /// When nothing was in flight any more, and no connection open.
    pub drained: Option<Time>,
    /// When its process was first seen to be gone.
    pub stopped: Option<Time>,
    /// When another process was first seen.
    pub started: Option<Time>,
    /// When it took requests again.
    pub ready: Option<Time>,
    /// When what was in flight was to be cut.
    pub deadline: Option<Time>,
    /// How the drain ended for those who waited for it.
    pub drain: Option<DrainOutcome>,
    /// What came of it.
    pub outcome: RestartOutcome,
    /// The least share of the pool's weight that took requests meanwhile, from 0 to 1.
    pub capacity: f64,
}

/// A drain as a record needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenDrain {
    /// Who asked.
    pub actor: DrainActor,
    /// The lease that the backend is there for has asked.
    pub by_lease: bool,
    /// The roll's id, where it is one's.
    pub roll: Option<String>,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Time,
    /// When what is in flight is cut.
    pub deadline: Option<Time>,
}

/// A backend after one step.
#[derive(Debug, Clone, PartialEq)]
pub struct RestartSight {
    /// Its state.
    pub state: DerivedState,
    /// Counts the processes behind it.
    pub incarnation: u64,
    /// The probe that the step was about.
    pub probe: Option<ProbeResult>,
    /// Its processes have ended, where they are watched.
    pub ended: bool,
    /// Requests broke on it since its last sign of life.
    pub broke: bool,
    /// A drain ended like this in the step.
    pub announced: Option<DrainOutcome>,
    /// Its open drains.
    pub drains: Vec<SeenDrain>,
    /// The share of the pool's weight that takes requests, from 0 to 1.
    pub capacity: f64,
}

/// What a call of [`RestartRecorder::observe_backend`] has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartChange {
    /// Nothing new.
    Nothing,
    /// A restart has begun.
    Begun,
    /// More is known of it.
    Grown,
    /// It takes requests again.
    Over,
}

/// Watches one backend.
#[derive(Debug, Clone)]
pub struct RestartRecorder {
    incarnation: u64,
    joined: Time,
    was_ready: bool,
    /// Boxed: there are many backends, and few restarts.
    open: Option<Box<RestartRecord>>,
}

impl RestartRecorder {
    /// Watches a backend that joined then, and of which so many processes have been seen.
    pub fn new(incarnation: u64, joined: Time) -> Self {
        Self {
            incarnation,
            joined,
            was_ready: false,
            open: None,
        }
    }

    /// Goes on with a restart that another process has watched so far.
    pub fn go_on(&mut self, record: RestartRecord) {
        self.was_ready = true;
        self.open = Some(Box::new(record));
    }

    /// The restart under way.
    pub fn open(&self) -> Option<&RestartRecord> {
        self.open.as_deref()
    }

    /// When the backend joined.
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

    /// The backend is removed: what is known of a restart under way.
    pub fn leave(&mut self, now: Time) -> Option<RestartRecord> {
        let mut record = *self.open.take()?;
        record.stopped.get_or_insert(now);
        record.outcome = RestartOutcome::Left;
        Some(record)
    }
}

impl RestartRecord {
    /// Another backend has its name: it joined then, and is ready since.
    pub fn succeed(&mut self, joined: Time, ready: Time) {
        self.started.get_or_insert(joined);
        self.ready.get_or_insert(ready);
        self.outcome = RestartOutcome::Restarted;
    }

    /// Whether nothing is expected of it any more.
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
    // Broken requests may be reported after the prober's findings.
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
    // What was drained stays so: a look may meet the step that lifts the drain, too.
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
