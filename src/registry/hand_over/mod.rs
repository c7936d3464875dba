//! State that the registry gives to another lameduck that takes over, and takes from one.
//!
//! From the moment at which the state is given, changes are queued: they are applied if the hand-over fails, and
//! refused once it has succeeded. Requests that the old process still has in flight count for the new one, too: the
//! new process asks the old one to drain each backend that it drains itself, and holds a permit (a "guest") at that
//! backend's gate until the old process reports that it has nothing left there. Requests that the old process holds
//! depend on the new process, which reports backends that take requests, and pauses.

mod given;
mod left_behind;
mod outliers;
mod predecessor;
mod restarts;
mod sessions;
mod taken;

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use super::command::RegistryCommand;
use super::endpoint::{BackendKey, Permit};
use super::handed::{HandedRegistry, HandedRequests, HandedSessions, KnownBackend};
use super::handle::{RegistryError, RegistryHandle};
use super::lease::LeaseHandle;
use super::persist::KeptPause;
use super::pool::{JoiningBackend, PoolState};
use super::view::{DrainResponse, LeaseRequest};
use super::writer::RegistryWriter;
use crate::core::backend::BackendEvent;
use crate::core::drain::{DrainSpec, OpenDrain};
use crate::core::restart::RestartOutcome;
pub use predecessor::{OpenedBackend, PredecessorDrain, PredecessorWord};

/// Commands of a hand-over.
#[derive(Debug)]
pub(super) enum HandOverCommand {
    /// Queue changes, and give the state.
    Give {
        reply: oneshot::Sender<Result<HandedRegistry, RegistryError>>,
    },
    /// The hand-over failed: apply queued changes.
    TakeBack,
    /// The hand-over succeeded: refuse changes.
    HandedOver,
    /// The successor drains a backend: drain it, too, and reply when nothing is left on it.
    Follow {
        pool: String,
        backend: String,
        address: String,
        deadline: Option<Duration>,
        reply: oneshot::Sender<DrainResponse>,
    },
    /// The successor sends requests to this backend.
    Opened(OpenedBackend),
    /// The successor has paused this pool, or ended its pause.
    Paused {
        pool: String,
        pause: Option<KeptPause>,
    },
    /// The predecessor has nothing left on the backend of the drain with this number.
    Quiet { number: u64 },
    /// Return which sessions are on which backends.
    GiveSessions {
        reply: oneshot::Sender<Vec<HandedSessions>>,
    },
    /// Take some of the predecessor's sessions of one backend.
    TakeSessions(HandedSessions),
    /// Return the numbers of requests sent to backends, by this process and previous ones.
    CountRequests {
        reply: oneshot::Sender<Vec<HandedRequests>>,
    },
    /// The numbers of requests that the predecessor and the processes before it have sent.
    RequestsBefore(Vec<HandedRequests>),
    /// The predecessor is gone.
    PredecessorGone,
    /// End the leases of launchers that have not reconnected.
    EndOrphans,
}

/// How changes are handled during a hand-over.
#[derive(Debug, Default)]
enum ChangeHold {
    /// They are applied.
    #[default]
    Open,
    /// They are queued.
    Held(Vec<RegistryCommand>),
    /// They are refused: another process has taken over.
    Gone,
}

/// A lease whose holder has not reconnected yet.
#[derive(Debug)]
struct OrphanedLease {
    pool: String,
    name: String,
    address: String,
    nonce: String,
    handle: LeaseHandle,
}

/// The registry's side of a hand-over, for both processes.
#[derive(Debug, Default)]
pub(super) struct HandOverState {
    changes: ChangeHold,
    /// State of backends that are about to be added.
    known: HashMap<(String, String), Vec<KnownBackend>>,
    orphans: Vec<OrphanedLease>,
    /// Channel to the predecessor for changes; `None`: there is no predecessor.
    predecessor: Option<mpsc::UnboundedSender<PredecessorWord>>,
    /// Number of drains that the predecessor was asked to follow.
    drains_asked: u64,
    /// Permits for requests that the predecessor has in flight on draining backends, each with the number of its
    /// drain.
    guests: HashMap<BackendKey, (u64, Permit)>,
    /// Says to whoever waits for an answer that another process has the changes.
    handed_over: watch::Sender<bool>,
}

impl HandOverState {
    /// The state before any hand-over. `handed_over` is set when another process has the changes.
    pub(super) fn new(handed_over: watch::Sender<bool>) -> Self {
        Self {
            handed_over,
            ..Self::default()
        }
    }

    /// Queues a change during a hand-over; returns the command if it is to be executed now.
    pub(super) fn holds_back(&mut self, command: RegistryCommand) -> Option<RegistryCommand> {
        match &mut self.changes {
            ChangeHold::Open => Some(command),
            _ if !command.is_change() => Some(command),
            // A backend that stops must get no requests meanwhile, and the successor hears of it directly.
            ChangeHold::Held(_) if command.is_heard_by_all() => Some(command),
            ChangeHold::Held(waiting) => {
                waiting.push(command);
                None
            }
            // The caller gets the error that another process has taken over.
            ChangeHold::Gone => None,
        }
    }

    /// Takes out the known state of a backend.
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
    /// Whether the command changes state that a successor has to know.
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

    /// Whether the command comes from a supervisor or a discovery source, which tell every listening process the
    /// same.
    fn is_heard_by_all(&self) -> bool {
        matches!(
            self,
            RegistryCommand::Heed(_) | RegistryCommand::Discovered(_)
        )
    }
}

impl RegistryHandle {
    fn hand_over(&self, command: HandOverCommand) {
        let _ = self.commands.send(RegistryCommand::HandOver(command));
    }

    /// Queues changes from here on, and returns the state for the successor.
    ///
    /// # Errors
    /// While a pool is being rolled: the client would lose its right to the roll in the middle.
    pub async fn give(&self) -> Result<HandedRegistry, RegistryError> {
        self.ask(|reply| RegistryCommand::HandOver(HandOverCommand::Give { reply }))
            .await?
    }

    /// Applies queued changes: the successor has not taken over.
    pub fn take_back(&self) {
        self.hand_over(HandOverCommand::TakeBack);
    }

    /// Refuses changes for good: another process has taken over.
    pub fn handed_over(&self) {
        self.hand_over(HandOverCommand::HandedOver);
    }

    /// Returns the number of requests sent to each backend, by this process and previous ones.
    pub async fn requests_sent(&self) -> Vec<HandedRequests> {
        let asked =
            self.ask(|reply| RegistryCommand::HandOver(HandOverCommand::CountRequests { reply }));
        asked.await.unwrap_or_default()
    }

    /// Sets the numbers of requests that the previous processes have sent up to now.
    pub fn requests_before(&self, counted: Vec<HandedRequests>) {
        self.hand_over(HandOverCommand::RequestsBefore(counted));
    }

    /// Notes that the previous process has exited.
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
            HandOverCommand::HandedOver => self.leave_changes(),
            HandOverCommand::Follow {
                pool,
                backend,
                address,
                deadline,
                reply,
            } => self.follow(&pool, &backend, &address, deadline, reply),
            HandOverCommand::Opened(opened) => self.open_as_successor(opened),
            HandOverCommand::Paused { pool, pause } => self.pause_as_successor(&pool, pause),
            HandOverCommand::Quiet { number } => {
                self.hand_over.guests.retain(|_, (of, _)| *of != number);
            }
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
                // If two backends are alike, the first gets the number.
                if let Some(requests) = by_backend.remove(&it) {
                    member.requests_before = requests;
                }
            }
        }
    }

    /// Returns the lease of a launcher that has reconnected, as it was.
    pub(super) fn adopt_lease(
        &mut self,
        pool: &str,
        name: &str,
        request: &LeaseRequest,
    ) -> Option<LeaseHandle> {
        self.hand_over.adopt(pool, name, request)
    }

    /// Puts drains on a backend on which the predecessor has requests in flight, as if they had just been ordered.
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
}
