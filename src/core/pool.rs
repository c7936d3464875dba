//! The backends of one app, their policy and their deadlines.

use std::collections::BTreeMap;

use super::Time;
use super::backend::{Backend, Context, Effect, Event, Policy};
use super::drain::Drain;

/// Backends by key. The key is the caller's: what tells two instances apart.
#[derive(Debug, Clone)]
pub struct Pool<K> {
    backends: BTreeMap<K, Backend>,
    policy: Policy,
}

impl<K: Ord + Clone> Pool<K> {
    /// An empty pool.
    pub fn new(policy: Policy) -> Self {
        Self {
            backends: BTreeMap::new(),
            policy,
        }
    }

    /// The numbers that its backends are judged by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Judges by these from now on. Deadlines of absence and the spread of closing move at once, those of open
    /// drains stay: [`Self::next_deadline`] has to be asked again.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// A new backend, in the place of any with this key, which is handed back.
    pub fn insert(&mut self, key: K, now: Time) -> Option<Backend> {
        self.backends.insert(key, Backend::new(now))
    }

    /// A backend as it was before the proxy restarted: see [`Backend::restore`].
    pub fn restore(
        &mut self,
        key: K,
        now: Time,
        drains: impl IntoIterator<Item = Drain>,
    ) -> Option<Backend> {
        self.backends.insert(key, Backend::restore(now, drains))
    }

    /// Takes a backend out. Who waits for its drain has to be told by the caller.
    pub fn remove(&mut self, key: &K) -> Option<Backend> {
        self.backends.remove(key)
    }

    /// One of them.
    pub fn get(&self, key: &K) -> Option<&Backend> {
        self.backends.get(key)
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Backend)> {
        self.backends.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.backends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// How many take new requests.
    pub fn eligible(&self) -> usize {
        self.backends
            .values()
            .filter(|backend| backend.is_eligible())
            .count()
    }

    /// One event for one backend. A key that is not (or no longer) there changes nothing.
    pub fn step(&mut self, key: &K, event: Event, in_flight: u32, now: Time) -> Vec<(K, Effect)> {
        let eligible = self.eligible();
        let Some(backend) = self.backends.get_mut(key) else {
            return Vec::new();
        };
        let last_eligible = eligible == 1 && backend.is_eligible();
        let effects = backend.step(
            event,
            &Context {
                in_flight,
                last_eligible,
            },
            &self.policy,
            now,
        );
        effects
            .into_iter()
            .map(|effect| (key.clone(), effect))
            .collect()
    }

    /// Time passed: every backend whose deadline is due takes its step.
    pub fn tick(&mut self, now: Time, in_flight: impl Fn(&K) -> u32) -> Vec<(K, Effect)> {
        let due = |backend: &Backend| {
            backend
                .next_deadline(&self.policy)
                .is_some_and(|at| at <= now)
        };
        let keys: Vec<K> = self
            .backends
            .iter()
            .filter(|(_, backend)| due(backend))
            .map(|(key, _)| key.clone())
            .collect();
        keys.iter()
            .flat_map(|key| self.step(key, Event::Tick, in_flight(key), now))
            .collect()
    }

    /// When it wants [`Self::tick`]. Asked for again after each step, it costs one look at each backend.
    pub fn next_deadline(&self) -> Option<Time> {
        self.backends
            .values()
            .filter_map(|backend| backend.next_deadline(&self.policy))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::backend::{Probe, State};
    use crate::core::drain::{Actor, Order, Outcome, Until};

    const SECOND: Time = Time::from_secs(1);

    fn probed(probe: Probe, began: Time) -> Event {
        Event::Probed {
            probe,
            began,
            listener: None,
        }
    }

    fn up(names: &[&'static str]) -> Pool<&'static str> {
        let mut pool = Pool::new(Policy::default());
        for name in names {
            pool.insert(*name, Time::ZERO);
            pool.step(name, probed(Probe::Pass, Time::ZERO), 0, Time::ZERO);
            pool.step(name, probed(Probe::Pass, Time::ZERO), 0, Time::ZERO);
        }
        pool
    }

    #[test]
    fn timeouts_never_take_out_the_last_eligible() {
        let mut pool = up(&["a", "b"]);
        for n in 1..=20 {
            for name in ["a", "b"] {
                pool.step(&name, probed(Probe::Timeout, SECOND * n), 0, SECOND * n);
            }
        }
        assert_eq!(pool.get(&"a").map(Backend::state), Some(State::Down));
        assert_eq!(pool.get(&"b").map(Backend::state), Some(State::Ready));
        // With company again, it may go.
        for n in 21..=22 {
            pool.step(&"a", probed(Probe::Pass, SECOND * n), 0, SECOND * n);
        }
        pool.step(&"b", probed(Probe::Timeout, SECOND * 23), 0, SECOND * 23);
        assert_eq!(pool.get(&"b").map(Backend::state), Some(State::Down));
    }

    #[test]
    fn a_tick_reaches_only_those_that_are_due() {
        let mut pool = up(&["a", "b"]);
        for (name, seconds) in [("a", 40), ("b", 90)] {
            let order = Order {
                actor: Actor::Operator,
                id: "operator".into(),
                reason: "test".into(),
                deadline: Some(SECOND * seconds),
                until: Until::Resumed,
                expires: None,
            };
            pool.step(&name, Event::Drain(order), 3, SECOND);
        }
        assert_eq!(pool.next_deadline(), Some(SECOND * 35));
        let ends = pool.tick(SECOND * 35, |_| 3);
        assert!(
            matches!(ends.as_slice(), [("a", Effect::EndStreams { .. })]),
            "{ends:?}"
        );
        let cut = pool.tick(SECOND * 41, |_| 2);
        assert_eq!(cut[0], ("a", Effect::Cut));
        assert_eq!(
            cut[1],
            ("a", Effect::Announce(Outcome::TimedOut { cut: 2 }))
        );
        assert_eq!(pool.next_deadline(), Some(SECOND * 85));
    }

    #[test]
    fn an_unknown_key_is_no_news() {
        let mut pool = up(&["a"]);
        assert!(pool.step(&"gone", Event::PeerClosed, 0, SECOND).is_empty());
        assert!(pool.remove(&"a").is_some());
        assert!(pool.is_empty() && pool.next_deadline().is_none());
    }
}
