//! Backends that an external source names: sets, what changes from one to the next, and when an answer is doubted.
//!
//! A source (a file, DNS, Docker, Kubernetes) answers with all that it knows, again and again. What it names is taken at
//! once. What it no longer names is taken away, unless the answer looks like a fault of the source: then it is kept until
//! the answer is confirmed. What the source itself says of a backend (it terminates, it is deleted) is never doubted.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use super::Time;

/// What a source says of a backend that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiscoveredState {
    /// It is there to get requests, as far as the source knows; its health checks decide.
    #[default]
    Serving,
    /// Its own readiness check fails: it drains until that passes. It doesn't end, so nothing on it is cut.
    NotReady,
    /// It is about to end: it drains.
    Terminating,
}

impl DiscoveredState {
    /// As changes of it are shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::NotReady => "not ready",
            Self::Terminating => "terminating",
        }
    }

    /// Why a backend in this state drains; `None`: it doesn't.
    pub const fn drain_reason(self) -> Option<&'static str> {
        match self {
            Self::Serving => None,
            Self::NotReady => Some("its source says that it is not ready"),
            Self::Terminating => Some("its source says that it is terminating"),
        }
    }

    /// The state by whose reason a backend drains.
    pub fn of_drain_reason(reason: &str) -> Self {
        match reason {
            reason if Self::NotReady.drain_reason() == Some(reason) => Self::NotReady,
            _ => Self::Terminating,
        }
    }
}

/// A backend as a source names it. `A` is its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredBackend<A> {
    /// Where it listens. Another one under the same name is another process.
    pub address: A,
    /// Its share of the requests; 0: none.
    pub weight: u32,
    /// Where it is.
    pub zone: Option<String>,
    /// It gets requests only while no other is ready.
    pub is_backup: bool,
    /// What the source says of it.
    pub state: DiscoveredState,
}

impl<A> DiscoveredBackend<A> {
    /// One that serves, with weight 1.
    pub fn at(address: A) -> Self {
        Self {
            address,
            weight: 1,
            zone: None,
            is_backup: false,
            state: DiscoveredState::Serving,
        }
    }

    /// Whether it is there to get requests.
    pub fn is_serving(&self) -> bool {
        self.state == DiscoveredState::Serving
    }
}

/// Backends by name, as a source knows them. The order in which it names them means nothing.
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
    /// Adds one, in the place of any with this name, which is handed back.
    pub fn insert(
        &mut self,
        name: String,
        backend: DiscoveredBackend<A>,
    ) -> Option<DiscoveredBackend<A>> {
        self.0.insert(name, backend)
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&DiscoveredBackend<A>> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &DiscoveredBackend<A>)> {
        self.0.iter().map(|(name, backend)| (&**name, backend))
    }

    /// How many there are, those that terminate included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many serve.
    pub fn serving(&self) -> usize {
        self.0.values().filter(|one| one.is_serving()).count()
    }
}

/// What a source has answered: all that it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceAnswer<A> {
    /// The backends that there are.
    pub set: DiscoveredSet<A>,
    /// Those of earlier answers of which the source has said in so many words that they are gone. That they are missing
    /// in `set` is no reason for doubt.
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
    /// Fewer backends are never left by an answer that just lacks the others.
    pub min_healthy: usize,
    /// How long all answers have to lack a backend before it goes, where the first one was doubted.
    pub confirm_after: Duration,
}

/// Why an answer was not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerDoubt {
    /// Serving backends that it lacks and that are kept.
    pub kept: usize,
    /// Serving backends that it has.
    pub named: usize,
    /// Since when answers have been doubted.
    pub since: Time,
    /// When those that are kept go, if the answers go on lacking them; `None`: never, because of `min_healthy`.
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

/// What a source said so far, and what of it is in force.
#[derive(Debug, Clone)]
pub struct AnswerJudge<A> {
    in_force: DiscoveredSet<A>,
    /// Those in force that the answers lack, and since when all of them have.
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
    /// Goes on with what was in force before: the first answer is judged by it, as any other.
    pub fn resume(in_force: DiscoveredSet<A>) -> Self {
        Self {
            in_force,
            ..Self::default()
        }
    }

    /// What is in force.
    pub fn in_force(&self) -> &DiscoveredSet<A> {
        &self.in_force
    }

    /// Why the last answer was not believed as a whole.
    pub fn doubt(&self) -> Option<&AnswerDoubt> {
        self.doubt.as_ref()
    }

    /// Takes an answer. What it names is in force from now on; what it lacks is no longer, unless it is doubted.
    ///
    /// An answer is doubted if the serving backends in it are none, less than half of those in force, or less than
    /// `min_healthy`, and it lacks some that serve without a word of the source about them. These stay until every answer
    /// for `confirm_after` has lacked them, and where fewer than `min_healthy` would be left, for good. Time goes by with
    /// answers only: a source that is silent confirms nothing. A backend that is there under another name isn't lacking.
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

/// One difference between two sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetChange<A> {
    /// It was not there.
    Added {
        /// Its name.
        name: String,
        /// What it is.
        backend: DiscoveredBackend<A>,
    },
    /// It is no longer named.
    Removed {
        /// Its name.
        name: String,
        /// What it was.
        backend: DiscoveredBackend<A>,
    },
    /// It is in both sets, and differs.
    Changed {
        /// Its name.
        name: String,
        /// What it was.
        from: DiscoveredBackend<A>,
        /// What it is.
        to: DiscoveredBackend<A>,
    },
}

impl<A: Clone + PartialEq> DiscoveredSet<A> {
    /// What has to change to get from `self` to `new`: first those that come, then those that change, then those that go.
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
