//! What the new process tells the old one, which still has requests: some in flight, and some that wait for a backend or for
//! the end of a pause.

use std::time::Duration;

use crate::core::backend::DerivedState;
use crate::registry::endpoint::BackendKey;
use crate::registry::handle::RegistryHandle;
use crate::registry::persist::KeptPause;
use crate::registry::writer::RegistryWriter;
use crate::rt::clock;

use super::HandOverCommand;

/// What the old process has to know of what happens in the new one, in the order in which it has happened.
#[derive(Debug)]
pub enum PredecessorWord {
    /// No more requests to a backend.
    Drain(PredecessorDrain),
    /// A backend takes requests.
    Opened(OpenedBackend),
    /// A pool is paused, or no longer.
    Paused {
        /// The pool.
        pool: String,
        /// `None`: its pause has ended.
        pause: Option<KeptPause>,
    },
}

/// A drain that the old process has to follow.
#[derive(Debug)]
pub struct PredecessorDrain {
    /// For its answer.
    pub number: u64,
    /// The pool.
    pub pool: String,
    /// The backend's name without `~2`.
    pub backend: String,
    /// Where it listens.
    pub address: String,
    /// Until what is left is cut.
    pub deadline: Option<Duration>,
}

/// A backend to which the old process may send what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedBackend {
    /// The pool.
    pub pool: String,
    /// The backend's name without `~2`.
    pub backend: String,
    /// Where it listens.
    pub address: String,
    /// Its share.
    pub weight: u32,
    /// It gets requests only while no other is ready.
    pub backup: bool,
}

impl RegistryHandle {
    /// The process before this one has nothing left of what it was asked for by this number.
    pub fn predecessor_is_quiet(&self, number: u64) {
        self.hand_over(HandOverCommand::Quiet { number });
    }
}

impl RegistryWriter {
    /// A backend has just been closed for a drain, and the predecessor may have something on it: it is asked to follow, and
    /// counts as one in flight until it has.
    pub(in crate::registry) fn hold_for_predecessor(&mut self, key: BackendKey) {
        if self.hand_over.predecessor.is_none() || self.hand_over.guests.contains_key(&key) {
            return;
        }
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        let Some(member) = pool.members.get(&key) else {
            return;
        };
        if pool.state(key) != Some(DerivedState::Draining) {
            return;
        }
        let now = clock::now();
        let drains = pool.core.get(&key).into_iter().flat_map(|one| one.drains());
        let deadlines = drains.filter_map(|(_, drain)| drain.deadline);
        let mut drain = PredecessorDrain {
            number: 0,
            pool: pool.name.to_string(),
            backend: member.base.clone(),
            address: member.endpoint.address.to_string(),
            deadline: deadlines.min().map(|at| at.saturating_sub(now)),
        };
        let guest = member.endpoint.permit_moved(0);
        // Not the backend's: it may open and be drained again before an answer is here.
        self.hand_over.drains_asked += 1;
        let number = self.hand_over.drains_asked;
        drain.number = number;
        if self.tell_predecessor(PredecessorWord::Drain(drain)) {
            self.hand_over.guests.insert(key, (number, guest));
        }
    }

    /// A backend takes requests from now on: the predecessor's, too, which may wait for one. Nobody else tells it.
    pub(in crate::registry) fn open_for_predecessor(&mut self, key: BackendKey) {
        if self.hand_over.predecessor.is_none() {
            return;
        }
        // A drain that follows is asked for anew.
        self.hand_over.guests.remove(&key);
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        let Some(member) = pool.members.get(&key) else {
            return;
        };
        let opened = OpenedBackend {
            pool: pool.name.to_string(),
            backend: member.base.clone(),
            address: member.endpoint.address.to_string(),
            weight: member.endpoint.weight(),
            backup: member.is_backup,
        };
        self.tell_predecessor(PredecessorWord::Opened(opened));
    }

    /// Requests that the predecessor holds for a pause are held for as long as it lasts here.
    pub(in crate::registry) fn pause_for_predecessor(
        &mut self,
        pool: &str,
        pause: Option<KeptPause>,
    ) {
        let pool = pool.to_owned();
        self.tell_predecessor(PredecessorWord::Paused { pool, pause });
    }

    /// Says whether somebody hears it.
    fn tell_predecessor(&self, word: PredecessorWord) -> bool {
        let predecessor = self.hand_over.predecessor.as_ref();
        predecessor.is_some_and(|to| to.send(word).is_ok())
    }

    /// Whether a predecessor may have something in flight.
    pub(in crate::registry) fn has_predecessor(&self) -> bool {
        self.hand_over.predecessor.is_some()
    }
}
