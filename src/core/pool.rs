//! The backends of one app, their policy and their deadlines.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::Time;
use super::backend::{
    BackendEffect, BackendEvent, BackendPolicy, BackendState, EventContext, ProbeResult,
};
use super::drain::OpenDrain;

/// Backends by key. The caller chooses keys, which tell instances apart.
#[derive(Debug, Clone)]
pub struct BackendSet<K> {
    backends: BTreeMap<K, PoolEntry>,
    policy: BackendPolicy,
    /// Number of eligible backends.
    eligible: usize,
    /// Number of those that answered their last probe in time.
    answering: usize,
    /// Deadline of each entry that has one.
    due: BTreeSet<(Time, K)>,
}

/// Requests and sessions on a backend at the time of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackendUsage {
    /// See [`EventContext::in_flight`].
    pub in_flight: u32,
    /// See [`EventContext::sessions`].
    pub sessions: u32,
}

impl From<u32> for BackendUsage {
    /// Requests, without sessions.
    fn from(in_flight: u32) -> Self {
        Self {
            in_flight,
            sessions: 0,
        }
    }
}

#[derive(Debug, Clone)]
struct PoolEntry {
    backend: BackendState,
    deadline: Option<Time>,
}

impl<K: Ord + Clone> BackendSet<K> {
    /// Creates an empty pool.
    pub fn new(policy: BackendPolicy) -> Self {
        Self {
            backends: BTreeMap::new(),
            policy,
            eligible: 0,
            answering: 0,
            due: BTreeSet::new(),
        }
    }

    /// Returns the policy by which backends are judged.
    pub fn policy(&self) -> &BackendPolicy {
        &self.policy
    }

    /// Changes the policy. Deadlines of absence and the spread of closing change at once, those of open drains stay:
    /// ask [`Self::next_deadline`] again.
    pub fn set_policy(&mut self, policy: BackendPolicy) {
        self.policy = policy;
        let entries = std::mem::take(&mut self.backends);
        self.due.clear();
        (self.eligible, self.answering) = (0, 0);
        for (key, entry) in entries {
            self.put(key, entry.backend);
        }
    }

    /// Adds a backend. Replaces one with the same key, which is returned.
    pub fn insert(&mut self, key: K, now: Time) -> Option<BackendState> {
        let former = self.remove(&key);
        self.put(key, BackendState::new(now));
        former
    }

    /// Adds a backend with drains that are older than it (see [`BackendState::restore`]); its first process is number
    /// `incarnation`.
    pub fn restore(
        &mut self,
        key: K,
        now: Time,
        incarnation: u64,
        drains: impl IntoIterator<Item = OpenDrain>,
    ) -> Option<BackendState> {
        let former = self.remove(&key);
        self.put(
            key,
            BackendState::restore(now, drains).counted_from(incarnation),
        );
        former
    }

    /// Sets a backend to up, as another process has found it. Its drains stay.
    pub fn take_as_up(&mut self, key: &K, now: Time, listener: Option<u64>) {
        if let Some(mut backend) = self.remove(key) {
            backend.take_as_up(now, listener);
            self.put(key.clone(), backend);
        }
    }

    /// Sets a backend to down, as another process has found it.
    pub fn take_as_down(&mut self, key: &K, now: Time) {
        if let Some(mut backend) = self.remove(key) {
            backend.take_as_down(now);
            self.put(key.clone(), backend);
        }
    }

    /// Removes a backend. The caller has to answer the requests that wait for its drain.
    pub fn remove(&mut self, key: &K) -> Option<BackendState> {
        let PoolEntry { backend, deadline } = self.backends.remove(key)?;
        if let Some(at) = deadline {
            self.due.remove(&(at, key.clone()));
        }
        self.eligible -= usize::from(backend.is_eligible());
        self.answering -= usize::from(answers(&backend));
        Some(backend)
    }

    /// Returns the backend with this key.
    pub fn get(&self, key: &K) -> Option<&BackendState> {
        self.backends.get(key).map(|entry| &entry.backend)
    }

    /// Returns all backends, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &BackendState)> {
        self.iter_from(Bound::Unbounded)
    }

    /// Returns the backends from one key on.
    pub fn iter_from(&self, from: Bound<K>) -> impl Iterator<Item = (&K, &BackendState)> {
        let all = self.backends.range((from, Bound::Unbounded));
        all.map(|(key, entry)| (key, &entry.backend))
    }

    /// Returns the number of backends.
    pub fn len(&self) -> usize {
        self.backends.len()
    }

    /// Whether there are no backends.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// Returns the number of backends that take new requests.
    pub fn eligible(&self) -> usize {
        self.eligible
    }

    /// Processes one event of one backend. Does nothing if there is no backend with this key (any more).
    pub fn step(
        &mut self,
        key: &K,
        event: BackendEvent,
        usage: impl Into<BackendUsage>,
        now: Time,
    ) -> Vec<(K, BackendEffect)> {
        let Some(PoolEntry { backend, deadline }) = self.backends.get_mut(key) else {
            return Vec::new();
        };
        let (was_eligible, answered) = (backend.is_eligible(), answers(backend));
        let another_answers = self.answering > usize::from(answered);
        let irreplaceable = is_timeout(&event) && !another_answers;
        let BackendUsage {
            in_flight,
            sessions,
        } = usage.into();
        let context = EventContext {
            in_flight,
            sessions,
            irreplaceable: irreplaceable && was_eligible,
        };
        let effects = backend.step(event, &context, &self.policy, now);
        self.eligible -= usize::from(was_eligible);
        self.eligible += usize::from(backend.is_eligible());
        self.answering -= usize::from(answered);
        self.answering += usize::from(answers(backend));
        let next = backend.next_deadline(&self.policy);
        let former = std::mem::replace(deadline, next);
        if former != next {
            self.due.extend(next.map(|at| (at, key.clone())));
            if let Some(at) = former {
                self.due.remove(&(at, key.clone()));
            }
        }
        effects
            .into_iter()
            .map(|effect| (key.clone(), effect))
            .collect()
    }

    /// Returns the backends whose deadline is due.
    pub fn due(&self, now: Time) -> Vec<K> {
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, key)| key.clone()).collect()
    }

    /// Processes a tick for every backend whose deadline is due.
    pub fn tick(&mut self, now: Time, in_flight: impl Fn(&K) -> u32) -> Vec<(K, BackendEffect)> {
        self.due(now)
            .iter()
            .flat_map(|key| self.step(key, BackendEvent::Tick, in_flight(key), now))
            .collect()
    }

    /// Returns when to call [`Self::tick`]; ask again after each step.
    pub fn next_deadline(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    fn put(&mut self, key: K, backend: BackendState) {
        let deadline = backend.next_deadline(&self.policy);
        if let Some(at) = deadline {
            self.due.insert((at, key.clone()));
        }
        self.eligible += usize::from(backend.is_eligible());
        self.answering += usize::from(answers(&backend));
        self.backends.insert(key, PoolEntry { backend, deadline });
    }
}

/// Whether the backend is eligible and has answered its last probe in time.
fn answers(backend: &BackendState) -> bool {
    backend.is_eligible() && backend.timeouts() == 0
}

fn is_timeout(event: &BackendEvent) -> bool {
    matches!(
        event,
        BackendEvent::Probed {
            probe: ProbeResult::Timeout,
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::backend::DerivedState;
    use crate::core::drain::{DrainActor, DrainOutcome, DrainSpec, DrainUntil};

    const SECOND: Time = Time::from_secs(1);

    fn probed(probe: ProbeResult, began: Time) -> BackendEvent {
        BackendEvent::Probed {
            probe,
            began,
            listener: None,
        }
    }

    fn up(names: &[&'static str]) -> BackendSet<&'static str> {
        let mut pool = BackendSet::new(BackendPolicy::default());
        for name in names {
            pool.insert(*name, Time::ZERO);
            pool.step(name, probed(ProbeResult::Pass, Time::ZERO), 0, Time::ZERO);
            pool.step(name, probed(ProbeResult::Pass, Time::ZERO), 0, Time::ZERO);
        }
        pool
    }

    /// On an overloaded machine, probes time out everywhere, and no backend is better than the others.
    #[test]
    fn timeouts_evict_no_backend_where_none_answers() {
        let mut pool = up(&["a", "b", "c"]);
        let names = ["a", "b", "c"];
        for n in 1..=20 {
            for name in names {
                pool.step(
                    &name,
                    probed(ProbeResult::Timeout, SECOND * n),
                    0,
                    SECOND * n,
                );
            }
        }
        assert_eq!(pool.eligible(), 3);
        // Once another backend answers, they may be evicted.
        pool.step(&"a", probed(ProbeResult::Pass, SECOND * 21), 0, SECOND * 21);
        for name in ["b", "c"] {
            pool.step(
                &name,
                probed(ProbeResult::Timeout, SECOND * 22),
                0,
                SECOND * 22,
            );
        }
        let state = |name| pool.get(name).map(BackendState::state);
        assert_eq!(state(&"a"), Some(DerivedState::Ready));
        assert_eq!(state(&"b"), Some(DerivedState::Down));
        assert_eq!(state(&"c"), Some(DerivedState::Down));
    }

    /// The number of answering backends is maintained, not searched for: on an overloaded machine, each of ten
    /// thousand timeouts would search all backends.
    #[test]
    fn number_of_answering_backends_is_right_after_any_event() {
        let names = ["a", "b", "c", "d"];
        let mut pool = up(&names);
        let mut random = 1_u64;
        for n in 1..=2000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let (name, now) = (names[random as usize >> 60 & 3], SECOND * n);
            match random >> 40 & 15 {
                0..=5 => drop(pool.step(&name, probed(ProbeResult::Timeout, now), 0, now)),
                6..=11 => drop(pool.step(&name, probed(ProbeResult::Pass, now), 0, now)),
                12 => drop(pool.step(&name, BackendEvent::Replaced, 0, now)),
                13 => drop(pool.remove(&name)),
                14 => drop(pool.insert(name, now)),
                _ => pool.set_policy(BackendPolicy::default()),
            }
            let counted = pool.iter().filter(|(_, backend)| answers(backend)).count();
            assert_eq!(pool.answering, counted);
        }
    }

    #[test]
    fn a_tick_reaches_only_those_that_are_due() {
        let mut pool = up(&["a", "b"]);
        for (name, seconds) in [("a", 40), ("b", 90)] {
            let order = DrainSpec {
                actor: DrainActor::Operator,
                id: "operator".into(),
                reason: "test".into(),
                deadline: Some(SECOND * seconds),
                until: DrainUntil::Resumed,
                expires: None,
            };
            pool.step(&name, BackendEvent::Drain(order), 3, SECOND);
        }
        assert_eq!(pool.next_deadline(), Some(SECOND * 35));
        let ends = pool.tick(SECOND * 35, |_| 3);
        assert!(
            matches!(ends.as_slice(), [("a", BackendEffect::EndStreams { .. })]),
            "{ends:?}"
        );
        let cut = pool.tick(SECOND * 41, |_| 2);
        assert_eq!(cut[0], ("a", BackendEffect::Cut));
        assert_eq!(
            cut[1],
            (
                "a",
                BackendEffect::Announce(DrainOutcome::TimedOut { cut: 2 })
            )
        );
        assert_eq!(pool.next_deadline(), Some(SECOND * 85));
    }

    #[test]
    fn the_count_and_the_deadlines_follow_every_change() {
        let mut pool = up(&["a", "b"]);
        assert_eq!((pool.eligible(), pool.next_deadline()), (2, None));
        pool.step(&"a", BackendEvent::Replaced, 0, SECOND);
        pool.step(&"a", probed(ProbeResult::Refused, SECOND), 0, SECOND);
        assert_eq!(pool.eligible(), 1);
        assert_eq!(pool.next_deadline(), Some(SECOND * 31));
        pool.set_policy(BackendPolicy {
            absent_after: SECOND * 5,
            ..BackendPolicy::default()
        });
        assert_eq!(pool.next_deadline(), Some(SECOND * 6));
        assert!(pool.due(SECOND * 5).is_empty());
        assert_eq!(pool.due(SECOND * 6), ["a"]);
        pool.insert("b", SECOND);
        assert_eq!(pool.eligible(), 0, "a new one in its place");
        pool.remove(&"a");
        assert_eq!(pool.next_deadline(), None);
    }

    #[test]
    fn event_for_an_unknown_key_changes_nothing() {
        let mut pool = up(&["a"]);
        assert!(
            pool.step(&"gone", BackendEvent::PeerClosed, 0, SECOND)
                .is_empty()
        );
        assert!(pool.remove(&"a").is_some());
        assert!(pool.is_empty() && pool.next_deadline().is_none());
    }
}
