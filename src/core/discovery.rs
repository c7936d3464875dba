//! Backends from discovery sources: sets, changes from one set to the next, and doubts about answers.
//!
//! A source (a file, DNS, Docker, Kubernetes) repeatedly answers with its whole set. Backends that the answer adds
//! are added at once. Backends that the answer lacks are removed, unless the answer looks like a fault of the source:
//! then they are kept until the answer is confirmed. What the source states about a backend (it terminates, it is
//! deleted) is never doubted.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use super::Time;

/// State of a backend according to its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiscoveredState {
    /// The backend is meant to get requests; its health checks decide.
    #[default]
    Serving,
    /// The backend's own readiness check fails: it drains until the check passes. Its process doesn't end, so nothing
    /// on it is cut.
    NotReady,
    /// The backend is about to end: it drains.
    Terminating,
}

impl DiscoveredState {
    /// Returns the name that is shown in changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::NotReady => "not ready",
            Self::Terminating => "terminating",
        }
    }

    /// Returns why a backend in this state drains; `None`: it doesn't.
    pub const fn drain_reason(self) -> Option<&'static str> {
        match self {
            Self::Serving => None,
            Self::NotReady => Some("its source says that it is not ready"),
            Self::Terminating => Some("its source says that it is terminating"),
        }
    }

    /// Returns the state that belongs to the reason of a drain.
    pub fn of_drain_reason(reason: &str) -> Self {
        match reason {
            reason if Self::NotReady.drain_reason() == Some(reason) => Self::NotReady,
            _ => Self::Terminating,
        }
    }
}

/// A backend from a source. `A` is the type of its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredBackend<A> {
    /// Address at which it listens. Another address under the same name means another process.
    pub address: A,
    /// Weight; 0: no requests.
    pub weight: u32,
    /// Zone in which it runs.
    pub zone: Option<String>,
    /// Whether it gets requests only while no other backend is ready.
    pub is_backup: bool,
    /// State according to the source.
    pub state: DiscoveredState,
}

impl<A> DiscoveredBackend<A> {
    /// Creates a serving backend with weight 1.
    pub fn at(address: A) -> Self {
        Self {
            address,
            weight: 1,
            zone: None,
            is_backup: false,
            state: DiscoveredState::Serving,
        }
    }

    /// Whether it is meant to get requests.
    pub fn is_serving(&self) -> bool {
        self.state == DiscoveredState::Serving
    }
}

/// A source's backends by name. The order in which the source lists them has no meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredSet<A>(BTreeMap<String, DiscoveredBackend<A>>);

impl<A> Default for DiscoveredSet<A> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<A> FromIterator<(String, DiscoveredBackend<A>)> for DiscoveredSet<A> {
    fn from_iter<T: IntoIterator<Item = (String, DiscoveredBackend<A>)>>(backends: T) -> Self {
        Self(backends.into_iter().collect())
    }
}

impl<A> DiscoveredSet<A> {
    /// Adds a backend. Replaces one with the same name, which is returned.
    pub fn insert(
        &mut self,
        name: String,
        backend: DiscoveredBackend<A>,
    ) -> Option<DiscoveredBackend<A>> {
        self.0.insert(name, backend)
    }

    /// Returns the backend with this name.
    pub fn get(&self, name: &str) -> Option<&DiscoveredBackend<A>> {
        self.0.get(name)
    }

    /// Returns all backends, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &DiscoveredBackend<A>)> {
        self.0.iter().map(|(name, backend)| (&**name, backend))
    }

    /// Returns the number of backends, including terminating ones.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no backends.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of serving backends.
    pub fn serving(&self) -> usize {
        self.0.values().filter(|one| one.is_serving()).count()
    }
}

/// An answer of a source, with its whole set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceAnswer<A> {
    /// The backends in the answer.
    pub set: DiscoveredSet<A>,
    /// Backends of earlier answers that the source has explicitly reported as deleted. Their absence from `set` is no
    /// reason for doubt.
    pub deleted: BTreeSet<String>,
}

impl<A> From<DiscoveredSet<A>> for SourceAnswer<A> {
    fn from(set: DiscoveredSet<A>) -> Self {
        Self {
            set,
            deleted: BTreeSet::new(),
        }
    }
}

/// When an answer is doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoubtPolicy {
    /// Fewest backends that may be left by an answer that merely lacks the others.
    pub min_healthy: usize,
    /// Time for which all answers have to lack a backend before it is removed, if the first such answer was doubted.
    pub confirm_after: Duration,
}

/// Why an answer was not applied in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerDoubt {
    /// Number of serving backends that it lacks and that are kept.
    pub kept: usize,
    /// Number of serving backends in it.
    pub named: usize,
    /// Time since which answers have been doubted.
    pub since: Time,
    /// Time at which the kept backends are removed, if answers still lack them; `None`: never, because of
    /// `min_healthy`.
    pub until: Option<Time>,
}

impl fmt::Display for AnswerDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kept, named, .. } = self;
        match named {
            0 => write!(f, "it names no backend any more"),
            1 => write!(f, "it names only 1 backend"),
            _ => write!(f, "it names only {named} backends"),
        }?;
        write!(f, ", and lacks {kept} that are in use")
    }
}

/// Judge of a source's answers, with the set in force.
#[derive(Debug, Clone)]
pub struct AnswerJudge<A> {
    in_force: DiscoveredSet<A>,
    /// Backends in force that the answers lack, each with the time since which all answers have.
    missing: BTreeMap<String, Time>,
    doubt: Option<AnswerDoubt>,
}

impl<A> Default for AnswerJudge<A> {
    fn default() -> Self {
        Self {
            in_force: DiscoveredSet::default(),
            missing: BTreeMap::new(),
            doubt: None,
        }
    }
}

impl<A: Clone + Eq + Hash> AnswerJudge<A> {
    /// Continues with the set that was in force before: the first answer is compared with it.
    pub fn resume(in_force: DiscoveredSet<A>) -> Self {
        Self {
            in_force,
            ..Self::default()
        }
    }

    /// Returns the set in force.
    pub fn in_force(&self) -> &DiscoveredSet<A> {
        &self.in_force
    }

    /// Returns why the last answer was not applied in full.
    pub fn doubt(&self) -> Option<&AnswerDoubt> {
        self.doubt.as_ref()
    }

    /// Applies an answer. Backends in it are in force from now on; backends that it lacks are removed, unless it is
    /// doubted.
    ///
    /// An answer is doubted if it has no serving backends, less than half of those in force, or less than
    /// `min_healthy`, and lacks serving backends without an explicit report about them. These are kept until every
    /// answer for `confirm_after` has lacked them, and permanently if fewer than `min_healthy` would be left. Time
    /// counts only with answers: a source that does not answer confirms nothing. A backend that is there under
    /// another name is not lacking.
    pub fn take_answer(&mut self, answer: SourceAnswer<A>, policy: &DoubtPolicy, now: Time) {
        let SourceAnswer { mut set, deleted } = answer;
        let addresses: HashSet<&A> = set.0.values().map(|one| &one.address).collect();
        let lacking: Vec<String> = self
            .in_force
            .iter()
            .filter(|(name, one)| one.is_serving() && set.get(name).is_none())
            .filter(|(name, one)| !deleted.contains(*name) && !addresses.contains(&one.address))
            .map(|(name, _)| name.to_owned())
            .collect();
        let (before, named) = (self.in_force.serving(), set.serving());
        let is_doubtful =
            !lacking.is_empty() && (named == 0 || named * 2 < before || named < policy.min_healthy);
        if !is_doubtful {
            self.missing.clear();
            self.doubt = None;
            self.in_force = set;
            return;
        }
        let mut missing: BTreeMap<String, Time> = BTreeMap::new();
        for name in lacking {
            let since = self.missing.get(&name).copied().unwrap_or(now);
            missing.insert(name, since);
        }
        let leaves_enough = named >= policy.min_healthy;
        let is_confirmed = |since: &Time| leaves_enough && *since + policy.confirm_after <= now;
        missing.retain(|_, since| !is_confirmed(since));
        for name in missing.keys() {
            if let Some(kept) = self.in_force.0.remove(name) {
                set.0.insert(name.clone(), kept);
            }
        }
        let first = missing.values().min().copied();
        self.doubt = first.map(|first| AnswerDoubt {
            kept: missing.len(),
            named,
            since: self.doubt.as_ref().map_or(first, |doubt| doubt.since),
            until: leaves_enough.then(|| first + policy.confirm_after),
        });
        self.in_force = set;
        self.missing = missing;
    }
}

/// A difference between two sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetChange<A> {
    /// The backend is new.
    Added {
        /// Name.
        name: String,
        /// The new backend.
        backend: DiscoveredBackend<A>,
    },
    /// The backend is no longer in the set.
    Removed {
        /// Name.
        name: String,
        /// The removed backend.
        backend: DiscoveredBackend<A>,
    },
    /// The backend is in both sets, and differs.
    Changed {
        /// Name.
        name: String,
        /// The backend before.
        from: DiscoveredBackend<A>,
        /// The backend after.
        to: DiscoveredBackend<A>,
    },
}

impl<A: Clone + PartialEq> DiscoveredSet<A> {
    /// Returns the changes from `self` to `new`: first added, then changed, then removed backends.
    pub fn changes_to(&self, new: &Self) -> Vec<SetChange<A>> {
        let (mut added, mut changed, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        for (name, to) in &new.0 {
            match self.0.get(name) {
                None => added.push(SetChange::Added {
                    name: name.clone(),
                    backend: to.clone(),
                }),
                Some(from) if from != to => changed.push(SetChange::Changed {
                    name: name.clone(),
                    from: from.clone(),
                    to: to.clone(),
                }),
                Some(_) => {}
            }
        }
        for (name, backend) in &self.0 {
            if !new.0.contains_key(name) {
                removed.push(SetChange::Removed {
                    name: name.clone(),
                    backend: backend.clone(),
                });
            }
        }
        added.into_iter().chain(changed).chain(removed).collect()
    }
}

#[cfg(test)]
mod tests;
