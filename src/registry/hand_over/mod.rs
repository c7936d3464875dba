//! What the registry gives to another lameduck that takes over, and what it takes from one.
//!
//! From the moment at which it gives, changes wait: they are taken up again if the hand-over fails, and refused once
//! it has succeeded. What the old process still has in flight counts for the new one, too: a backend that is drained
//! there is asked for here, and its gate counts a guest (a permit for the old process) until that process reports
//! that it has nothing left there.

mod given;
mod outliers;
mod restarts;
mod sessions;
mod taken;

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::backend_entry::BackendEntry;
use super::command::RegistryCommand;
use super::endpoint::{BackendKey, Permit};
use super::handed::{HandedRegistry, HandedRequests, HandedSessions, KnownBackend};
use super::handle::{RegistryError, RegistryHandle};
use super::lease::LeaseHandle;
use super::pool::{JoiningBackend, PoolState};
use super::view::{DrainResponse, LeaseRequest};
use super::writer::RegistryWriter;
use crate::core::backend::{BackendEvent, DerivedState};
use crate::core::drain::{DrainActor, DrainSpec, DrainUntil, OpenDrain};
use crate::core::restart::RestartOutcome;
use crate::rt::clock;

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

/// Commands of a hand-over.
#[derive(Debug)]
pub(super) enum HandOverCommand {
    /// Hold changes back, and give.
    Give {
        reply: oneshot::Sender<Result<HandedRegistry, RegistryError>>,
    },
    /// It failed: take up changes again.
    TakeBack,
    /// It succeeded: refuse them.
    HandedOver,
    /// The successor drains a backend: follow, and say when nothing is left on it.
    Follow {
        pool: String,
        backend: String,
        address: String,
        deadline: Option<Duration>,
        reply: oneshot::Sender<DrainResponse>,
    },
    /// The predecessor has nothing left on this backend.
    Quiet { key: BackendKey },
    /// Which sessions are on which backends.
    GiveSessions {
        reply: oneshot::Sender<Vec<HandedSessions>>,
    },
    /// The predecessor's, some of one backend.
    TakeSessions(HandedSessions),
    /// What was sent to backends, by this process and those before it.
    CountRequests {
        reply: oneshot::Sender<Vec<HandedRequests>>,
    },
    /// What the predecessor has sent, and those before it.
    RequestsBefore(Vec<HandedRequests>),
    /// The predecessor is gone.
    PredecessorGone,
    /// Launchers that have not come back are gone.
    EndOrphans,
}

/// Whether changes are taken.
#[derive(Debug, Default)]
enum ChangeHold {
    /// They are.
    #[default]
    Open,
    /// They wait.
    Held(Vec<RegistryCommand>),
    /// They belong to another process.
    Gone,
}

/// A lease whose holder has not come back yet.
#[derive(Debug)]
struct OrphanedLease {
    pool: String,
    name: String,
    address: String,
    nonce: String,
    handle: LeaseHandle,
}

/// The registry's side of a hand-over, on both ends.
#[derive(Debug, Default)]
pub(super) struct HandOverState {
    changes: ChangeHold,
    /// What is known of backends that are about to be added.
    known: HashMap<(String, String), Vec<KnownBackend>>,
    orphans: Vec<OrphanedLease>,
    /// Channel to the predecessor for drains; `None`: there is no predecessor.
    predecessor: Option<mpsc::UnboundedSender<PredecessorDrain>>,
    /// What it has in flight on backends that drain.
    guests: HashMap<BackendKey, Permit>,
}

impl HandOverState {
    /// Changes wait from now on; a second time, they don't wait again.
    pub(super) fn holds_back(&mut self, command: RegistryCommand) -> Option<RegistryCommand> {
        match &mut self.changes {
            ChangeHold::Open => Some(command),
            _ if !command.is_change() => Some(command),
            ChangeHold::Held(waiting) => {
                waiting.push(command);
                None
            }
            // The caller is answered that this process is exiting.
            ChangeHold::Gone => None,
        }
    }

    /// Takes what is known of a backend out.
    pub(super) fn take_known(
        &mut self,
        pool: &str,
        joining: &JoiningBackend,
    ) -> Option<KnownBackend> {
        if self.known.is_empty() {
            return None;
        }
        let of_name = (pool.to_owned(), joining.name.clone());
        let all = self.known.get_mut(&of_name)?;
        let address = joining.address.to_string();
        let place = all.iter().position(|known| known.address == address)?;
        Some(all.remove(place))
    }

    fn adopt(&mut self, pool: &str, name: &str, request: &LeaseRequest) -> Option<LeaseHandle> {
        let is_it = |orphan: &OrphanedLease| {
            orphan.pool == pool
                && orphan.name == name
                && orphan.address == request.address
                && Some(&orphan.nonce) == request.nonce.as_ref()
        };
        let place = self.orphans.iter().position(is_it)?;
        Some(self.orphans.swap_remove(place).handle)
    }
}

impl RegistryCommand {
    /// Whether it changes what a successor has to know.
    fn is_change(&self) -> bool {
        !matches!(
            self,
            RegistryCommand::Ping { .. }
                | RegistryCommand::View(_)
                | RegistryCommand::LeaseStatus { .. }
                | RegistryCommand::OwnsLease { .. }
                | RegistryCommand::Splits { .. }
                | RegistryCommand::Report { .. }
                | RegistryCommand::HandOver(_)
        )
    }
}

impl RegistryHandle {
    fn hand_over(&self, command: HandOverCommand) {
        let _ = self.commands.send(RegistryCommand::HandOver(command));
    }

    /// Holds changes back from here on, and gives what is known.
    ///
    /// # Errors
    /// While a pool is being rolled: the client that does it would lose the right to it in the middle.
    pub async fn give(&self) -> Result<HandedRegistry, RegistryError> {
        self.ask(|reply| RegistryCommand::HandOver(HandOverCommand::Give { reply }))
            .await?
    }

    /// Takes up changes again: what was given was not taken.
    pub fn take_back(&self) {
        self.hand_over(HandOverCommand::TakeBack);
    }

    /// Refuses changes for good: another process has them.
    pub fn handed_over(&self) {
        self.hand_over(HandOverCommand::HandedOver);
    }

    /// The process that has taken over drains a backend: ends when nothing of this one's is left on it.
    pub async fn follow_drain(
        &self,
        pool: String,
        backend: String,
        address: String,
        deadline: Option<Duration>,
    ) {
        let (reply, ended) = oneshot::channel();
        self.hand_over(HandOverCommand::Follow {
            pool,
            backend,
            address,
            deadline,
            reply,
        });
        let _ = ended.await;
    }

    /// How many requests were sent to each backend, by this process and those before it.
    pub async fn requests_sent(&self) -> Vec<HandedRequests> {
        let asked =
            self.ask(|reply| RegistryCommand::HandOver(HandOverCommand::CountRequests { reply }));
        asked.await.unwrap_or_default()
    }

    /// So many requests the process before this one has sent up to now, and those before it.
    pub fn requests_before(&self, counted: Vec<HandedRequests>) {
        self.hand_over(HandOverCommand::RequestsBefore(counted));
    }

    /// The process before this one has nothing left on a backend.
    pub fn predecessor_is_quiet(&self, number: u64) {
        self.hand_over(HandOverCommand::Quiet {
            key: BackendKey(number),
        });
    }

    /// The process before this one is gone.
    pub fn predecessor_is_gone(&self) {
        self.hand_over(HandOverCommand::PredecessorGone);
    }
}

impl RegistryWriter {
    pub(super) fn hand_over_command(&mut self, command: HandOverCommand) {
        match command {
            HandOverCommand::Give { reply } => {
                let given = self.give();
                self.reply(reply, given);
            }
            HandOverCommand::TakeBack => {
                let changes = std::mem::take(&mut self.hand_over.changes);
                if let ChangeHold::Held(waiting) = changes {
                    for command in waiting {
                        self.command(command);
                    }
                }
            }
            HandOverCommand::HandedOver => self.hand_over.changes = ChangeHold::Gone,
            HandOverCommand::Follow {
                pool,
                backend,
                address,
                deadline,
                reply,
            } => self.follow(&pool, &backend, &address, deadline, reply),
            HandOverCommand::Quiet { key } => drop(self.hand_over.guests.remove(&key)),
            HandOverCommand::GiveSessions { reply } => {
                let sessions = self.give_sessions();
                self.reply(reply, sessions);
            }
            HandOverCommand::TakeSessions(sessions) => self.take_sessions(&sessions),
            HandOverCommand::CountRequests { reply } => {
                let pools = self.pools.iter().filter(|pool| !pool.retired);
                let counted = pools.flat_map(PoolState::requests_sent).collect();
                self.reply(reply, counted);
            }
            HandOverCommand::RequestsBefore(counted) => self.note_requests_before(counted),
            HandOverCommand::PredecessorGone => {
                self.hand_over.predecessor = None;
                self.hand_over.guests.clear();
                self.handle.restarts.end_handed(RestartOutcome::Unseen);
            }
            HandOverCommand::EndOrphans => {
                for orphan in std::mem::take(&mut self.hand_over.orphans) {
                    warn!(
                        pool = orphan.pool,
                        backend = orphan.name,
                        "its launcher has not come back after the upgrade"
                    );
                }
            }
        }
    }

    fn note_requests_before(&mut self, counted: Vec<HandedRequests>) {
        let mut by_backend: HashMap<_, u64> = counted
            .into_iter()
            .map(|one| ((one.pool, one.backend, one.address), one.requests))
            .collect();
        for pool in &mut self.pools {
            for member in pool.members.values_mut() {
                let address = member.endpoint.address.to_string();
                let it = (pool.name.to_string(), member.base.clone(), address);
                // Of two that are alike, the first has it.
                if let Some(requests) = by_backend.remove(&it) {
                    member.requests_before = requests;
                }
            }
        }
    }

    fn follow(
        &mut self,
        pool: &str,
        backend: &str,
        address: &str,
        deadline: Option<Duration>,
        reply: oneshot::Sender<DrainResponse>,
    ) {
        let is_it = |member: &BackendEntry| {
            member.base == backend && member.endpoint.address.to_string() == address
        };
        let pools = self.pools.iter_mut().filter(|state| *state.name == *pool);
        let mut members = pools.flat_map(|state| state.members.iter_mut());
        let Some((key, member)) = members.find(|(_, member)| is_it(member)) else {
            // It has left: nothing is on it.
            return;
        };
        let key = *key;
        member.wait(reply);
        self.step(
            key,
            BackendEvent::Drain(DrainSpec {
                actor: DrainActor::Supervisor,
                id: "upgrade".to_owned(),
                reason: "the process that has taken over drains it".to_owned(),
                deadline: deadline.map(|left| clock::now() + left),
                until: DrainUntil::Resumed,
                expires: None,
            }),
        );
        self.answer_if_drained(key);
    }

    /// The lease of a launcher that has come back, as it was.
    pub(super) fn adopt_lease(
        &mut self,
        pool: &str,
        name: &str,
        request: &LeaseRequest,
    ) -> Option<LeaseHandle> {
        self.hand_over.adopt(pool, name, request)
    }

    /// A backend has just been closed for a drain, and the predecessor may have something on it: it is asked to follow, and
    /// counts as one in flight until it has.
    pub(super) fn hold_for_predecessor(&mut self, key: BackendKey) {
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
        let drain = PredecessorDrain {
            number: key.0,
            pool: pool.name.to_string(),
            backend: member.base.clone(),
            address: member.endpoint.address.to_string(),
            deadline: deadlines.min().map(|at| at.saturating_sub(now)),
        };
        let guest = member.endpoint.permit_moved(0);
        let told = self.hand_over.predecessor.as_ref();
        if told.is_some_and(|to| to.send(drain).is_ok()) {
            self.hand_over.guests.insert(key, guest);
        }
    }

    /// Puts drains on a backend on which the predecessor has something in flight: as if they had just been asked for.
    pub(super) fn close_again(&mut self, key: BackendKey, drains: Vec<OpenDrain>) {
        for drain in drains {
            self.step(
                key,
                BackendEvent::Drain(DrainSpec {
                    actor: drain.actor,
                    id: drain.id,
                    reason: drain.reason,
                    deadline: drain.deadline,
                    until: drain.until,
                    expires: drain.expires,
                }),
            );
        }
    }

    /// Whether a predecessor may have something in flight.
    pub(super) fn has_predecessor(&self) -> bool {
        self.hand_over.predecessor.is_some()
    }
}
