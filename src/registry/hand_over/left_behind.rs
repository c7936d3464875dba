//! Follows the new process while the old one finishes: requests that it holds go where those of the new process go.

use std::time::Duration;

use tokio::sync::oneshot;
use tracing::debug;

use super::{ChangeHold, HandOverCommand, OpenedBackend};
use crate::config::Address;
use crate::core::backend::BackendEvent;
use crate::core::drain::{DrainActor, DrainSpec, DrainUntil};
use crate::registry::backend_entry::{BackendEntry, BackendSource};
use crate::registry::handle::RegistryHandle;
use crate::registry::persist::KeptPause;
use crate::registry::pool::JoiningBackend;
use crate::registry::view::DrainResponse;
use crate::registry::writer::RegistryWriter;
use crate::rt::clock;

impl RegistryHandle {
    /// Drains a backend that the process that has taken over drains. The future ends when this process has nothing
    /// left on it.
    pub fn follow_drain(
        &self,
        pool: String,
        backend: String,
        address: String,
        deadline: Option<Duration>,
    ) -> impl Future<Output = ()> + use<> {
        let (reply, ended) = oneshot::channel();
        self.hand_over(HandOverCommand::Follow {
            pool,
            backend,
            address,
            deadline,
            reply,
        });
        async move {
            let _ = ended.await;
        }
    }

    /// Opens a backend to which the process that has taken over sends requests: requests that wait here may go there.
    pub fn successor_opened(&self, opened: OpenedBackend) {
        self.hand_over(HandOverCommand::Opened(opened));
    }

    /// Pauses a pool or ends its pause, as the process that has taken over has done.
    pub fn successor_paused(&self, pool: String, pause: Option<KeptPause>) {
        self.hand_over(HandOverCommand::Paused { pool, pause });
    }
}

/// Whether this is the backend that the other process refers to.
fn is_at(member: &BackendEntry, backend: &str, address: &str) -> bool {
    member.base == backend && member.endpoint.address.to_string() == address
}

impl RegistryWriter {
    /// Another process has the changes from now on. Requests that wait here for the end of a drain, or for a change
    /// that was queued, are refused and have to be made there: what was in flight may have moved. Launchers wait for
    /// their drains in the same way, and ask again for their leases there.
    pub(super) fn leave_changes(&mut self) {
        // First, because requests without an answer check it.
        self.hand_over.handed_over.send_replace(true);
        self.hand_over.changes = ChangeHold::Gone;
        for pool in &mut self.pools {
            // A leaving backend is not handed over: all of its requests are here, and this process says when it is
            // gone.
            for member in pool.members.values_mut().filter(|one| !one.leaving) {
                member.waiters.clear();
                if let Some(tenure) = &mut member.tenure {
                    tenure.end_events();
                }
            }
        }
    }

    pub(super) fn follow(
        &mut self,
        pool: &str,
        backend: &str,
        address: &str,
        deadline: Option<Duration>,
        reply: oneshot::Sender<DrainResponse>,
    ) {
        let Ok(index) = self.index(pool) else {
            return;
        };
        let members = &mut self.pools[index].members;
        let mut members = members.iter_mut();
        let Some((key, member)) = members.find(|(_, member)| is_at(member, backend, address))
        else {
            // It is gone, so nothing is in flight on it.
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

    /// Opens a backend that the successor has opened; adds it if it is not known here.
    pub(super) fn open_as_successor(&mut self, opened: OpenedBackend) {
        let Ok(index) = self.index(&opened.pool) else {
            return;
        };
        let state = &self.pools[index];
        let mut staying = state.members.iter().filter(|(_, member)| !member.leaving);
        let known = staying.find(|(_, member)| is_at(member, &opened.backend, &opened.address));
        if let Some((&key, _)) = known {
            let core = state.core.get(&key);
            if core.is_some_and(|core| core.drains().next().is_some()) {
                self.step(key, BackendEvent::Resume { all: true });
            }
            return;
        }
        let Ok(address) = opened.address.parse::<Address>() else {
            return;
        };
        if self.check_room(None).is_err() {
            return;
        }
        debug!(pool = opened.pool, backend = opened.backend, address = %address,
               "the process that has taken over has another backend: what waits here may go there");
        self.add(
            index,
            JoiningBackend {
                name: opened.backend,
                address,
                weight: opened.weight,
                is_backup: opened.backup,
                zone: None,
                source: BackendSource::Api,
                discovery: None,
                drains: Vec::new(),
                tenure: None,
                owner: None,
            },
        );
    }
}
