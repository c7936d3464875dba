//! Drains: orders to stop sending requests to a backend. They form a set, keyed by actor and ID; a backend is open
//! when the set is empty.

mod restart;

use std::collections::BTreeMap;

use super::Time;
pub(super) use restart::Probed;
pub use restart::{RestartSign, UNSEEN_AFTER};

/// Who ordered a drain. Each actor lifts its own drains and no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DrainActor {
    /// The app itself: its probe answered 503, or it closed its listener. Lifted by `rise` passes.
    App,
    /// A supervisor or launcher, through a lease or a hook.
    Supervisor,
    /// A person, through the CLI or the API.
    Operator,
    /// The configuration: the backend has been removed from it.
    Config,
    /// A discovery source: the backend is no longer in its set.
    Discovery,
}

/// What ends a drain, besides `resume` and its expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DrainUntil {
    /// Nothing else ends it.
    #[default]
    Resumed,
    /// A new incarnation that has passed its probes ends it. The sign is an additional way to recognise a new
    /// incarnation, besides [`RestartSign::NewProcess`].
    Restarted(RestartSign),
}

/// An order to drain, as the core takes it. Times are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainSpec {
    /// Who orders the drain.
    pub actor: DrainActor,
    /// ID by which this actor's drains are told apart (a lease's ID, `"operator"`, a deployment's ID). A second order
    /// with the same actor and ID replaces the first one's deadline, reason, end and expiry.
    pub id: String,
    /// Text for operators: shown in status and logs.
    pub reason: String,
    /// When requests that are still in flight are cut. `None`: never.
    pub deadline: Option<Time>,
    /// What else ends the drain.
    pub until: DrainUntil,
    /// When it expires; the backend then opens only after `rise` fresh passes.
    pub expires: Option<Time>,
}

/// How a drain ended, for the requests that wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Nothing is in flight, and no connection to the backend is open.
    Drained,
    /// The deadline passed and `cut` requests and streams were cut.
    TimedOut {
        /// Number of requests and streams still in flight at the deadline.
        cut: u32,
    },
    /// The backend's process died while requests were in flight on it.
    Died {
        /// Number of requests that were lost.
        lost: u32,
    },
    /// The drain was lifted before it was complete.
    Resumed,
}

impl DrainActor {
    /// Returns the name in the API and the metrics.
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
    /// Returns the open drain, with the time at which it began.
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
    /// Returns the name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resumed => "resumed",
            Self::Restarted(_) => "restarted",
        }
    }

    /// Returns the sign of the restart that ends the drain; `None`: no restart does.
    pub const fn sign(self) -> Option<RestartSign> {
        match self {
            Self::Resumed => None,
            Self::Restarted(sign) => Some(sign),
        }
    }
}

impl DrainOutcome {
    /// Returns the name in the API and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::TimedOut { .. } => "timed_out",
            Self::Died { .. } => "died",
            Self::Resumed => "resumed",
        }
    }
}

/// An open drain: the order, and the time since which it is open.
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
    /// Time of the first order with this actor and ID.
    pub since: Time,
    /// Whether it waits for a restart that has not been seen for some time: the same process still passes its probes.
    pub unseen: bool,
}

/// A drain with its internal state.
#[derive(Debug, Clone)]
struct DrainEntry {
    drain: OpenDrain,
    /// Incarnation at the time of the order; `restarted` means a later one.
    incarnation: u64,
    /// Time of the last order with this actor and ID.
    asked: Time,
    /// Time at which all processes that were there at the time of the order had ended, if these can be watched.
    ended: Option<Time>,
    /// Whether it has expired: fresh passes lift it.
    expired: bool,
    /// Whether its deadline has been handled.
    spent: bool,
}

/// The set of open drains of one backend. Empty means open.
#[derive(Debug, Clone, Default)]
pub struct DrainSet(BTreeMap<(DrainActor, String), DrainEntry>);

impl DrainSet {
    /// Whether there is no drain.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all drains, by actor and ID.
    pub fn iter(&self) -> impl Iterator<Item = (&(DrainActor, String), &OpenDrain)> {
        self.0.iter().map(|(key, entry)| (key, &entry.drain))
    }

    /// Whether this actor has an open drain.
    pub fn has(&self, actor: DrainActor) -> bool {
        self.0.keys().any(|key| key.0 == actor)
    }

    /// Whether no actor but the app has an open drain (`true` if there is none).
    pub fn only_app(&self) -> bool {
        self.0.keys().all(|key| key.0 == DrainActor::App)
    }

    /// Whether a drain ends with a restart.
    pub fn restarting(&self) -> bool {
        self.0
            .values()
            .any(|entry| entry.drain.until.sign().is_some())
    }

    /// Whether a drain has expired and waits for fresh passes.
    pub fn any_expired(&self) -> bool {
        self.0.values().any(|entry| entry.expired)
    }

    /// Adds or replaces a drain. The order is meant for the present process: `restarted` counts from `incarnation`,
    /// even if an earlier order is replaced.
    pub(super) fn put(&mut self, order: DrainSpec, incarnation: u64, now: Time) {
        let key = (order.actor, order.id.clone());
        let since = self.0.get(&key).map_or(now, |entry| entry.drain.since);
        self.insert(order.opened(since), incarnation, now, false);
    }

    /// Restores a drain as it was. Nothing is left that its deadline could cut.
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

    /// Sets the incarnation of all drains: those that wait for a restart wait for a later incarnation.
    pub(super) fn count_from(&mut self, incarnation: u64) {
        for entry in self.0.values_mut() {
            entry.incarnation = incarnation;
        }
    }

    /// Returns the incarnation at the time of the drain's order.
    pub(super) fn asked_for(&self, actor: DrainActor, id: &str) -> Option<u64> {
        let entry = self.0.get(&(actor, id.to_owned()))?;
        Some(entry.incarnation)
    }

    /// Changes the reason of an open drain; returns whether it exists.
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

    /// Removes the drains for which `which` returns `true`; returns whether there were any.
    pub(super) fn lift(&mut self, which: impl Fn(&OpenDrain) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|_, entry| !which(&entry.drain));
        self.0.len() != before
    }

    /// Removes the drains that fresh passes of `incarnation` lift: the app's own, those that waited for a restart,
    /// expired ones.
    pub(super) fn lift_passed(&mut self, incarnation: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|key, entry| {
            let restarted = entry.drain.until.sign().is_some() && entry.incarnation < incarnation;
            !(key.0 == DrainActor::App || restarted || entry.expired)
        });
        self.0.len() != before
    }

    /// Removes the drains that only fresh passes could have lifted, when no such passes will come.
    pub(super) fn lift_absent(&mut self) -> bool {
        let before = self.0.len();
        self.0
            .retain(|key, entry| key.0 != DrainActor::App && !entry.expired);
        self.0.len() != before
    }

    /// Makes a drain expire at `at`, if it would not expire earlier.
    pub(super) fn hasten(&mut self, actor: DrainActor, id: &str, at: Time) {
        if let Some(entry) = self.0.get_mut(&(actor, id.to_owned())) {
            let sooner = entry.drain.expires.map_or(at, |expires| expires.min(at));
            entry.drain.expires = Some(sooner);
        }
    }

    /// Marks drains whose expiry is due; returns whether there were any.
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

    /// Returns the next expiry.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        let open = self.0.values().filter(|entry| !entry.expired);
        open.filter_map(|entry| entry.drain.expires).min()
    }

    /// Returns the earliest deadline that has not been handled.
    pub(super) fn deadline(&self) -> Option<Time> {
        let open = self.0.values().filter(|entry| !entry.spent);
        open.filter_map(|entry| entry.drain.deadline).min()
    }

    /// Whether a deadline has been handled.
    pub(super) fn any_spent(&self) -> bool {
        self.0.values().any(|entry| entry.spent)
    }

    /// Whether all processes that were there at the time of some drain's order have ended.
    pub(super) fn any_ended(&self) -> bool {
        self.0.values().any(|entry| entry.ended.is_some())
    }

    /// Marks deadlines up to `now` as handled.
    pub(super) fn mark_deadlines_spent(&mut self, now: Time) {
        for entry in self.0.values_mut() {
            entry.spent |= entry.drain.deadline.is_some_and(|at| at <= now);
        }
    }
}
