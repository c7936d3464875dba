//! Hand-over of restarts to another registry: finished restarts stay recorded, and those in progress continue there.

use crate::core::backend::DerivedState;
use crate::core::restart::RestartOutcome;
use crate::registry::endpoint::BackendKey;
use crate::registry::handed::{HandedLeft, HandedRegistry, KnownBackend};
use crate::registry::pool::PoolState;
use crate::registry::writer::RegistryWriter;
use crate::rt::clock;

impl RegistryWriter {
    pub(super) fn give_restarts(&self, handed: &mut HandedRegistry) {
        let board = &self.handle.restarts;
        handed.restarts = board.hand();
        handed.processes = board.predecessors(&handed.restarts);
        let left = self.left.iter();
        handed.left = left
            .map(|((pool, backend), meter)| HandedLeft {
                pool: pool.to_string(),
                backend: backend.clone(),
                restart: meter.id().to_string(),
            })
            .collect();
    }

    /// Continues the restart of a backend that was just added.
    pub(in crate::registry) fn go_on_with_restart(
        &mut self,
        key: BackendKey,
        known: &KnownBackend,
    ) {
        let board = self.handle.restarts.clone();
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        let (name, restart) = (pool.name.clone(), known.restart.as_deref());
        let Some(member) = pool.members.get_mut(&key) else {
            return;
        };
        let gone_on = restart.and_then(|id| board.go_on(id, &name, &member.endpoint.name));
        if let Some((record, meter)) = gone_on {
            member.recorder.go_on(record);
            member.endpoint.restart.store(meter.clone());
            pool.shared.restart.store(Some(meter));
        }
    }

    /// Continues to wait for the successors of backends that have left.
    pub(super) fn take_left(&mut self, left: Vec<HandedLeft>) {
        for one in left {
            let pool = self.pools.iter().find(|pool| *pool.name == *one.pool);
            let Some(pool) = pool.map(|pool| pool.name.clone()) else {
                continue;
            };
            let board = &self.handle.restarts;
            let shown = board.find(&one.restart).map(|view| view.backend.into());
            let shown = shown.unwrap_or_else(|| one.backend.as_str().into());
            if let Some((_, meter)) = board.go_on(&one.restart, &pool, &shown) {
                self.left.insert((pool, one.backend), meter);
            }
        }
    }

    /// Ends the restarts of backends that no longer exist. Called when all backends that the previous process knew
    /// have been added, as far as they still exist.
    pub(super) fn end_restarts_of_missing(&self) {
        self.handle.restarts.end_handed(RestartOutcome::Left);
    }

    /// Whether no other process serves the same backends for clients of the same addresses: that process would count
    /// their requests, and its requests are in the same log.
    pub(in crate::registry) fn is_alone(&self) -> bool {
        matches!(self.hand_over.changes, super::ChangeHold::Open)
            && self.hand_over.predecessor.is_none()
    }
}

impl PoolState {
    /// Keeps the time since which a backend has been in its state, if the previous process saw it in the same state. A
    /// drain has lasted since then.
    pub(in crate::registry) fn keep_since(&mut self, key: BackendKey, known: &KnownBackend) {
        let state = self.state(key);
        let Some(since) = known.since.map(clock::from_machine) else {
            return;
        };
        if let (Some(state), Some(member)) = (state, self.members.get_mut(&key))
            && state.as_str() == known.state
        {
            member.state_since = since.min(clock::now());
            if state == DerivedState::Draining {
                member.draining_since = Some(member.state_since);
            }
        }
    }
}
