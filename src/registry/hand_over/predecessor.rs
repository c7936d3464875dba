//! Messages of the new process to the old one, which still has requests: some in flight, and some that wait for a
//! backend or for the end of a pause.

use std::time::Duration;

use crate::core::backend::DerivedState;
use crate::registry::endpoint::BackendKey;
use crate::registry::handle::RegistryHandle;
use crate::registry::persist::KeptPause;
use crate::registry::writer::RegistryWriter;
use crate::rt::clock;

use super::HandOverCommand;

/// A message to the old process about a change in the new one. Messages are sent in the order of the changes.
#[derive(Debug)]
pub enum PredecessorWord {
    /// A backend takes no more requests.
    Drain(PredecessorDrain),
    /// A backend takes requests.
    Opened(OpenedBackend),
    /// A pool is paused, or its pause has ended.
    Paused {
        /// The pool.
        pool: String,
        /// The pause; `None`: it has ended.
        pause: Option<KeptPause>,
    },
}

/// A drain that the old process has to carry out, too.
#[derive(Debug)]
pub struct PredecessorDrain {
    /// Number that the answer refers to.
    pub number: u64,
    /// The pool.
    pub pool: String,
    /// The backend's name without `~2`.
    pub backend: String,
    /// Address at which it listens.
    pub address: String,
    /// Time until the requests that are left are cut.
    pub deadline: Option<Duration>,
}

/// A backend to which the old process may send the requests that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedBackend {
    /// The pool.
    pub pool: String,
    /// The backend's name without `~2`.
    pub backend: String,
    /// Address at which it listens.
    pub address: String,
    /// Weight.
    pub weight: u32,
    /// Whether it gets requests only while no other backend is ready.
    pub backup: bool,
}

impl RegistryHandle {
    /// Notes that the predecessor has nothing left on the backend of the drain with this number.
    pub fn predecessor_is_quiet(&self, number: u64) {
        self.hand_over(HandOverCommand::Quiet { number });
    }
}

impl RegistryWriter {
    /// Asks the predecessor to drain a backend that was just closed for a drain, as it may have requests there. The
    /// predecessor counts as one request in flight until it has nothing left.
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
        // Not the backend's own number: the backend may open and be drained again before the answer comes.
        self.hand_over.drains_asked += 1;
        let number = self.hand_over.drains_asked;
        drain.number = number;
        if self.tell_predecessor(PredecessorWord::Drain(drain)) {
            self.hand_over.guests.insert(key, (number, guest));
        }
    }

    /// Tells the predecessor that a backend takes requests from now on, as it may hold requests for one and hears of
    /// it only here.
    pub(in crate::registry) fn open_for_predecessor(&mut self, key: BackendKey) {
        if self.hand_over.predecessor.is_none() {
            return;
        }
        // A later drain is sent with a new number.
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

    /// Tells the predecessor of a pause: it holds its requests for as long as the pause lasts here.
    pub(in crate::registry) fn pause_for_predecessor(
        &mut self,
        pool: &str,
        pause: Option<KeptPause>,
    ) {
        let pool = pool.to_owned();
        self.tell_predecessor(PredecessorWord::Paused { pool, pause });
    }

    /// Returns whether there is a predecessor that gets the message.
    fn tell_predecessor(&self, word: PredecessorWord) -> bool {
        let predecessor = self.hand_over.predecessor.as_ref();
        predecessor.is_some_and(|to| to.send(word).is_ok())
    }

    /// Whether there is a predecessor, which may have requests in flight.
    pub(in crate::registry) fn has_predecessor(&self) -> bool {
        self.hand_over.predecessor.is_some()
    }
}
