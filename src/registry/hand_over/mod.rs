//! What the registry gives to another lameduck that takes over, and what it takes from one.
//!
//! From the moment at which it gives, changes wait: they are taken up again if the hand-over fails, and refused once
//! it has succeeded. What the old process still has in flight counts for the new one, too: a backend that is drained
//! there is asked for here, and its gate counts a guest (a permit for the old process) until that process reports
//! that it has nothing left there. Requests that the old process holds wait for what happens here: it is told of
//! backends that take requests, and of pauses.

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
    /// The successor sends requests to this backend.
    Opened(OpenedBackend),
    /// The successor has paused this pool, or ended its pause.
    Paused {
        pool: String,
        pause: Option<KeptPause>,
    },
    /// The predecessor has nothing left of what it was asked for by this number.
    Quiet { number: u64 },
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
    /// Channel to the predecessor for what changes; `None`: there is no predecessor.
    predecessor: Option<mpsc::UnboundedSender<PredecessorWord>>,
    /// Drains that it was asked to follow.
    drains_asked: u64,
    /// What it has in flight on backends that drain, with the number by which it was asked.
    guests: HashMap<BackendKey, (u64, Permit)>,
    /// Says to whoever waits for an answer that another process has the changes.
    handed_over: watch::Sender<bool>,
}

impl HandOverState {
    /// Nothing is handed over. `handed_over`: set when it is.
    pub(super) fn new(handed_over: watch::Sender<bool>) -> Self {
        Self {
            handed_over,
            ..Self::default()
        }
    }

    /// Changes wait from now on; a second time, they don't wait again.
    pub(super) fn holds_back(&mut self, command: RegistryCommand) -> Option<RegistryCommand> {
        match &mut self.changes {
            ChangeHold::Open => Some(command),
            _ if !command.is_change() => Some(command),
            // A backend that stops must get no request meanwhile, and the successor hears of it without us.
            ChangeHold::Held(_) if command.is_heard_by_all() => Some(command),
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

    /// Whether it is the word of somebody who says the same to every process that listens: a supervisor, or a source of
    /// backends.
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
                // Of two that are alike, the first has it.
                if let Some(requests) = by_backend.remove(&it) {
                    member.requests_before = requests;
                }
            }
        }
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
}
