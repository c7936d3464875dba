//! Queries about a pool.

use std::sync::atomic::Ordering;

use super::PoolState;
use crate::core::backend::{BackendState, DerivedState};
use crate::core::drain::DrainActor;
use crate::registry::backend_entry::{BackendEntry, BackendSource};
use crate::registry::endpoint::BackendKey;
use crate::registry::view::PoolView;

impl PoolState {
    /// Returns the keys of the backends.
    pub(crate) fn keys(&self) -> Vec<BackendKey> {
        self.members.keys().copied().collect()
    }

    /// Returns the state of a backend; `None` if it is not in the pool.
    pub(crate) fn state(&self, key: BackendKey) -> Option<DerivedState> {
        self.core.get(&key).map(BackendState::state)
    }

    /// Whether each backend that is not leaving has been probed once.
    pub(crate) fn first_round_finished(&self) -> bool {
        let mut staying = self.members.values().filter(|member| !member.leaving);
        staying.all(|member| member.probed)
    }

    /// Whether the backend is from the configuration and is not leaving.
    pub(crate) fn is_configured(&self, key: BackendKey) -> bool {
        let member = self.members.get(&key);
        member.is_some_and(|member| member.source == BackendSource::Config && !member.leaving)
    }

    /// Whether the pool gets backends that its configuration does not name: it names none, it has a source, or some
    /// have been added.
    pub(crate) fn takes_arrivals(&self) -> bool {
        let mut members = self.members.values();
        self.config.backends.is_empty()
            || !self.config.discovery.is_empty()
            || members.any(|member| member.source != BackendSource::Config)
    }

    /// Whether the configuration has a backend with this name.
    pub(crate) fn is_configured_name(&self, name: &str) -> bool {
        let mut backends = self.config.backends.iter();
        backends.any(|backend| backend.name == name)
    }

    /// Whether some backend has this name, even a leaving one.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.names.has(name)
    }

    /// Returns the backends that a given name refers to.
    pub(crate) fn keys_meant(&self, name: &str) -> Vec<BackendKey> {
        self.names.keys_meant(name)
    }

    /// Returns the backend with this name that is not leaving.
    pub(crate) fn current(&self, name: &str) -> Option<BackendKey> {
        if !self.has_name(name) {
            return None;
        }
        let stays = |member: &BackendEntry| member.base == name && !member.leaving;
        let mut members = self.members.iter().rev();
        members
            .find(|(_, member)| stays(member))
            .map(|(key, _)| *key)
    }

    /// Returns the actors that drain the backend, for the log; `None` if there are none, as the log then has no such
    /// field.
    pub(crate) fn actors(&self, key: BackendKey) -> Option<String> {
        let drains = self
            .core
            .get(&key)
            .into_iter()
            .flat_map(BackendState::drains);
        let actors: Vec<_> = drains.map(|(_, drain)| drain.actor.as_str()).collect();
        (!actors.is_empty()).then(|| actors.join(","))
    }

    /// Publishes the result of the last probe, and the actors that keep the backend closed, for requests that end
    /// without a backend.
    pub(crate) fn note_last_probe(&self, key: BackendKey) {
        let drains = self
            .core
            .get(&key)
            .into_iter()
            .flat_map(BackendState::drains);
        let told = drains
            .map(|(_, drain)| drain.actor)
            .any(|actor| actor != DrainActor::App);
        let actors = self.actors(key).filter(|_| told);
        if let Some(member) = self.members.get(&key)
            && let Some(detail) = &member.last_probe
        {
            member.endpoint.last_probe.note(detail, actors.as_deref());
        }
    }

    /// Returns how many of the backends take requests, and how many there are.
    pub(crate) fn ready_of_all(&self) -> (usize, usize) {
        let staying = self.members.values().filter(|member| !member.leaving);
        (self.core.eligible(), staying.count())
    }

    /// Returns how many of the backends take requests, apart from any pause.
    pub(crate) fn count_eligible(&self) -> usize {
        let eligible = self.both().filter(|both| super::takes_requests(*both));
        eligible.count()
    }

    /// Returns the view for operators, without the backends.
    pub(crate) fn view(&self) -> PoolView {
        PoolView {
            name: self.name.to_string(),
            balance: self.config.balance.as_str().to_owned(),
            eligible: self.count_eligible(),
            held: self.shared.held.load(Ordering::Relaxed),
            backends: Vec::new(),
            pause: self.pause.as_ref().map(|pause| pause.view()),
            splits: Vec::new(),
            unsaved: None,
            discovery: Vec::new(),
            supervisor: None,
        }
    }
}
