//! Sends out the registry's reports, after the snapshot is published: answers to requests, the ends of drains, and
//! events.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::info;

use super::endpoint::BackendKey;
use super::view::{EventView, LeaseEvent};
use super::writer::RegistryWriter;
use crate::core::backend::DerivedState;
use crate::core::drain::DrainOutcome;
use crate::registry::event_kind::EventKind;
use crate::rt::clock;

impl RegistryWriter {
    /// Announces the end of a drain: answers the requests that wait for it, and removes a backend that leaves.
    pub(super) fn announce(&mut self, key: BackendKey, outcome: DrainOutcome) {
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        let name = pool.name.clone();
        let Some(member) = pool.members.get_mut(&key) else {
            return;
        };
        let response = member.ending(outcome);
        let (waiters, leaving) = (std::mem::take(&mut member.waiters), member.leaving);
        let endpoint = member.endpoint.clone();
        self.tell_lease(key, |_| LeaseEvent::Drain(response.clone()));
        info!(pool = %name, backend = %endpoint.name, outcome = %response.outcome,
              cut = response.cut, lost = response.lost, "drain ended");
        self.observer.drain_ended(&name, &response);
        let whom = Some((&*name, &*endpoint.name));
        let reason = "the drain ended".to_owned();
        self.event(EventKind::Drain, whom, None, Some(outcome.as_str()), reason);
        for waiter in waiters {
            self.reply(waiter, response.clone());
        }
        if leaving {
            self.remove(key);
        }
    }

    /// Answers at once if the backend is drained already. (The end of a drain is announced when it comes; this is for
    /// requests that come later.)
    pub(super) fn answer_if_drained(&mut self, key: BackendKey) {
        let drained = self.home_mut(key).is_some_and(|pool| {
            let member = pool.members.get(&key);
            pool.state(key) == Some(DerivedState::Drained)
                && member.is_some_and(|member| member.leaving || !member.waiters.is_empty())
        });
        if drained {
            self.announce(key, DrainOutcome::Drained);
        }
    }

    /// Answers a request after the snapshot is published. The receiver may be gone by then.
    pub(super) fn reply<T: Send + 'static>(&mut self, to: oneshot::Sender<T>, answer: T) {
        self.outbox.push(Box::new(move || drop(to.send(answer))));
    }

    /// Sends an event to all subscribers, after the snapshot is published.
    pub(super) fn event(
        &mut self,
        kind: EventKind,
        whom: Option<(&str, &str)>,
        from: Option<&str>,
        to: Option<&str>,
        reason: String,
    ) {
        let event = Arc::new(EventView {
            kind: kind.as_str().to_owned(),
            time: clock::rfc3339(clock::wall(clock::now())),
            pool: whom.map(|(pool, _)| pool.to_owned()),
            backend: whom
                .map(|(_, backend)| backend.to_owned())
                .filter(|backend| !backend.is_empty()),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
            reason,
        });
        let events = self.handle.events.clone();
        self.outbox.push(Box::new(move || drop(events.send(event))));
    }
}
