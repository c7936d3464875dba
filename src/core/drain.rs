//! Drains: orders to stop sending requests to a backend. Kept as a set, keyed by actor and id; a backend is open when
//! the set is empty.

mod restart;

use std::collections::BTreeMap;

use super::Time;
pub(super) use restart::Probed;
pub use restart::{RestartSign, UNSEEN_AFTER};

/// Who asked for a drain. Each actor lifts its own drains and nobody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DrainActor {
    /// The app itself: its probe answered 503, or it closed its listener. Lifted by `rise` passes.
    App,
    /// A supervisor or launcher, through a lease or a hook.
    Supervisor,
    /// A person, through the CLI or the API.
    Operator,
    /// The configuration: the backend is no longer in the file.
    Config,
    /// A source of backends: it no longer names this one.
    Discovery,
}

/// What ends a drain by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DrainUntil {
    /// Only `resume` (or its expiry) ends it.
    #[default]
    Resumed,
    /// It ends when a new incarnation has passed its probes. The sign is what shows a new one, besides what always
    /// does ([`RestartSign::NewProcess`]).
    Restarted(RestartSign),
}

/// A request to drain, as the core takes it. Times are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainSpec {
    /// Who asks.
    pub actor: DrainActor,
    /// Tells this actor's drains apart (a lease's id, `"operator"`, a deploy's id). A second order with the
    /// same actor and id replaces the first's deadline, reason, end and expiry.
    pub id: String,
    /// For people: shown in status and logs.
    pub reason: String,
    /// When what is still in flight is cut. `None`: never.
    pub deadline: Option<Time>,
    /// What ends it by itself.
    pub until: DrainUntil,
    /// When it ends by itself in any case; the backend then opens only after `rise` fresh passes.
    pub expires: Option<Time>,
}

/// How a drain ended for those who wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Nothing in flight, and no connection of ours is open.
    Drained,
    /// The deadline passed and `cut` requests and streams were cut.
    TimedOut {
        /// How many were still in flight at the deadline.
        cut: u32,
    },
    /// The backend's process died while requests were in flight on it.
    Died {
        /// How many requests it took along.
        lost: u32,
    },
    /// The drain was lifted before it was complete.
    Resumed,
}

impl DrainActor {
    /// As the API and the metrics write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Supervisor => "supervisor",
            Self::Operator => "operator",
            Self::Config => "config",
            Self::Discovery => "discovery",
        }
    }
}

impl DrainSpec {
    /// The drain that it opens, or has opened at an earlier time.
    pub fn opened(self, since: Time) -> OpenDrain {
        OpenDrain {
            actor: self.actor,
            id: self.id,
            reason: self.reason,
            deadline: self.deadline,
            until: self.until,
            expires: self.expires,
            since,
            unseen: false,
        }
    }
}

impl DrainUntil {
    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resumed => "resumed",
            Self::Restarted(_) => "restarted",
        }
    }

    /// What shows the restart that ends it; `None`: no restart does.
    pub const fn sign(self) -> Option<RestartSign> {
        match self {
            Self::Resumed => None,
            Self::Restarted(sign) => Some(sign),
        }
    }
}

impl DrainOutcome {
    /// As the API and the metrics write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::TimedOut { .. } => "timed_out",
            Self::Died { .. } => "died",
            Self::Resumed => "resumed",
        }
    }
}

/// One open drain: the order, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDrain {
    /// See [`DrainSpec::actor`].
    pub actor: DrainActor,
    /// See [`DrainSpec::id`].
    pub id: String,
    /// See [`DrainSpec::reason`].
    pub reason: String,
    /// See [`DrainSpec::deadline`].
    pub deadline: Option<Time>,
    /// See [`DrainSpec::until`].
    pub until: DrainUntil,
    /// See [`DrainSpec::expires`].
    pub expires: Option<Time>,
    /// When the first order with this actor and id came.
    pub since: Time,
    /// It waits for a restart, and for some time none has been seen: the same process goes on passing its probes.
    pub unseen: bool,
}

/// A drain and what is remembered of it.
#[derive(Debug, Clone)]
struct DrainEntry {
    drain: OpenDrain,
    /// The incarnation that it was asked for; `restarted` means a later one.
    incarnation: u64,
    /// When the last order with this actor and id came.
    asked: Time,
    /// When every process that it was asked for had ended, where these can be watched.
    ended: Option<Time>,
    /// Its expiry has passed: fresh passes lift it.
    expired: bool,
    /// Its deadline has been dealt with.
    spent: bool,
}

/// The set of open drains of one backend. Empty means open.
#[derive(Debug, Clone, Default)]
pub struct DrainSet(BTreeMap<(DrainActor, String), DrainEntry>);

impl DrainSet {
    /// Nothing is closed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every drain, by actor and id.
    pub fn iter(&self) -> impl Iterator<Item = (&(DrainActor, String), &OpenDrain)> {
        self.0.iter().map(|(key, entry)| (key, &entry.drain))
    }

    /// Whether this actor has one open.
    pub fn has(&self, actor: DrainActor) -> bool {
        self.0.keys().any(|key| key.0 == actor)
    }

    /// Whether nobody but the app has one open (true where there is none).
    pub fn only_app(&self) -> bool {
        self.0.keys().all(|key| key.0 == DrainActor::App)
    }

    /// Whether one of them ends with a restart.
    pub fn restarting(&self) -> bool {
        self.0
            .values()
            .any(|entry| entry.drain.until.sign().is_some())
    }

    /// Whether one of them has passed its expiry and waits for fresh passes.
    pub fn any_expired(&self) -> bool {
        self.0.values().any(|entry| entry.expired)
    }

    /// Puts a drain in its place. It is meant for the process that is there now: `restarted` counts from
    /// `incarnation`, also where it replaces an earlier order.
    pub(super) fn put(&mut self, order: DrainSpec, incarnation: u64, now: Time) {
        let key = (order.actor, order.id.clone());
        let since = self.0.get(&key).map_or(now, |entry| entry.drain.since);
        self.insert(order.opened(since), incarnation, now, false);
    }

    /// Puts a drain in as it was. There is nothing left for its deadline to cut.
    pub(super) fn put_back(&mut self, drain: OpenDrain, incarnation: u64, now: Time) {
        self.insert(drain, incarnation, now, true);
    }

    fn insert(&mut self, drain: OpenDrain, incarnation: u64, asked: Time, spent: bool) {
        let entry = DrainEntry {
            incarnation,
            asked,
            ended: None,
            expired: false,
            spent,
            drain,
        };
        self.0
            .insert((entry.drain.actor, entry.drain.id.clone()), entry);
    }

    /// All of them are meant for this incarnation: those that wait for a restart wait for a later one.
    pub(super) fn count_from(&mut self, incarnation: u64) {
        for entry in self.0.values_mut() {
            entry.incarnation = incarnation;
        }
    }

    /// The incarnation that this drain was asked for.
    pub(super) fn asked_for(&self, actor: DrainActor, id: &str) -> Option<u64> {
        let entry = self.0.get(&(actor, id.to_owned()))?;
        Some(entry.incarnation)
    }

    /// Gives an open drain another reason; says whether there is one.
    pub(super) fn explain(&mut self, actor: DrainActor, id: &str, reason: &str) -> bool {
        let found = self
            .0
            .values_mut()
            .find(|entry| entry.drain.actor == actor && entry.drain.id == id);
        found.is_some_and(|entry| {
            reason.clone_into(&mut entry.drain.reason);
            true
        })
    }

    /// Takes out what `which` names; says whether there was any.
    pub(super) fn lift(&mut self, which: impl Fn(&OpenDrain) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|_, entry| !which(&entry.drain));
        self.0.len() != before
    }

    /// Takes out what fresh passes of `incarnation` lift: the app's, what waited for a restart, what expired.
    pub(super) fn lift_passed(&mut self, incarnation: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|key, entry| {
            let restarted = entry.drain.until.sign().is_some() && entry.incarnation < incarnation;
            !(key.0 == DrainActor::App || restarted || entry.expired)
        });
        self.0.len() != before
    }

    /// Takes out the drains that only fresh passes could have lifted, when no such passes will come.
    pub(super) fn lift_absent(&mut self) -> bool {
        let before = self.0.len();
        self.0
            .retain(|key, entry| key.0 != DrainActor::App && !entry.expired);
        self.0.len() != before
    }

    /// Makes one of them expire at `at`, if it would not before.
    pub(super) fn hasten(&mut self, actor: DrainActor, id: &str, at: Time) {
        if let Some(entry) = self.0.get_mut(&(actor, id.to_owned())) {
            let sooner = entry.drain.expires.map_or(at, |expires| expires.min(at));
            entry.drain.expires = Some(sooner);
        }
    }

    /// Notes the expiries that are due; says whether there was any.
    pub(super) fn expire(&mut self, now: Time) -> bool {
        let mut any = false;
        for entry in self.0.values_mut() {
            if !entry.expired && entry.drain.expires.is_some_and(|at| at <= now) {
                entry.expired = true;
                any = true;
            }
        }
        any
    }

    /// The next expiry.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        let open = self.0.values().filter(|entry| !entry.expired);
        open.filter_map(|entry| entry.drain.expires).min()
    }

    /// The earliest deadline that has not been dealt with.
    pub(super) fn deadline(&self) -> Option<Time> {
        let open = self.0.values().filter(|entry| !entry.spent);
        open.filter_map(|entry| entry.drain.deadline).min()
    }

    /// Whether some deadline has been dealt with.
    pub(super) fn any_spent(&self) -> bool {
        self.0.values().any(|entry| entry.spent)
    }

    /// Whether every process that one of them was asked for has ended.
    pub(super) fn any_ended(&self) -> bool {
        self.0.values().any(|entry| entry.ended.is_some())
    }

    /// Deadlines up to `now` have been dealt with.
    pub(super) fn mark_deadlines_spent(&mut self, now: Time) {
        for entry in self.0.values_mut() {
            entry.spent |= entry.drain.deadline.is_some_and(|at| at <= now);
        }
    }
}
