//! Passes events to the recorders of restarts, and keeps the board of the last ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backend_entry::BackendEntry;
use super::endpoint::BackendKey;
use super::pool::PoolState;
use super::restart_board::RestartBoard;
use super::roll;
use super::writer::RegistryWriter;
use crate::core::Time;
use crate::core::backend::{BackendEffect, BackendEvent, BackendState, DerivedState, ProbeResult};
use crate::core::drain::{DrainActor, DrainOutcome, OpenDrain};
use crate::core::restart::{RestartChange, RestartSight, SeenDrain};
use crate::metrics::restart_meter::RestartMeter;
use crate::rt::clock;

/// Most restarts of backends that have left that wait for a successor; further ones don't wait.
const MOST_LEFT: usize = 1024;

/// Most backends in a pool for which all are examined at each change. In a larger pool one backend hardly matters,
/// and if all change at once, examining all each time would be far too much work.
const MOST_LOOKED_AT: usize = 1024;

/// Restarts whose backends have left, by pool and name.
pub(super) type LeftBackends = BTreeMap<(Arc<str>, String), Arc<RestartMeter>>;

/// Signs of a restart in an event that can't be seen from the state after it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StepSigns {
    probe: Option<ProbeResult>,
    began: Time,
    ended: bool,
}

impl StepSigns {
    pub(super) fn of(event: &BackendEvent) -> Self {
        match event {
            BackendEvent::Probed { probe, began, .. } => Self {
                probe: Some(*probe),
                began: *began,
                ended: false,
            },
            BackendEvent::Ended { .. } => Self {
                ended: true,
                ..Self::default()
            },
            _ => Self::default(),
        }
    }
}

impl RegistryWriter {
    /// Updates the backends' restarts after one step, before its effects.
    pub(super) fn watch_restarts(
        &mut self,
        key: BackendKey,
        signs: StepSigns,
        effects: &[(BackendKey, BackendEffect)],
    ) {
        let has_changed = |of: BackendKey| {
            let mut own = effects.iter().filter(|(key, _)| *key == of);
            own.any(|(_, effect)| matches!(effect, BackendEffect::Changed { .. }))
        };
        let changed = has_changed(key);
        self.watch_restart(key, signs, effects, changed);
        let mut others: Vec<BackendKey> = effects.iter().map(|(key, _)| *key).collect();
        others.retain(|other| *other != key);
        others.dedup();
        for other in others {
            let changed = has_changed(other);
            self.watch_restart(other, StepSigns::default(), effects, changed);
        }
    }

    fn watch_restart(
        &mut self,
        key: BackendKey,
        signs: StepSigns,
        effects: &[(BackendKey, BackendEffect)],
        changed: bool,
    ) {
        let now = clock::now();
        let board = self.handle.restarts.clone();
        let is_alone = self.is_alone();
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        if !is_alone {
            pool.readings.forget();
        }
        let Some((state, incarnation)) = pool
            .core
            .get(&key)
            .map(|backend| (backend.state(), backend.incarnation()))
        else {
            return;
        };
        if signs.probe.is_some() && is_alone {
            pool.readings.pass_time(&pool.shared.counters, &board);
        }
        let capacity = if changed { pool.capacity() } else { 1.0 };
        let Some(member) = pool.members.get(&key) else {
            return;
        };
        let meter = member.endpoint.restart.load_full();
        if !member.recorder.is_concerned(state, incarnation) {
            // Requests that had broken before this sign of life were not part of a restart.
            if signs.probe == Some(ProbeResult::Pass) && meter.is_stale(signs.began) {
                member.endpoint.restart.store(Arc::default());
            }
            return;
        }
        let announced = effects.iter().find_map(|(of, effect)| match effect {
            BackendEffect::Announce(outcome) if *of == key => Some(*outcome),
            _ => None,
        });
        let Some(backend) = pool.core.get(&key) else {
            return;
        };
        let sight = see_backend(
            member,
            backend,
            signs,
            announced,
            meter.is_broken(),
            capacity,
        );
        let Some(member) = pool.members.get_mut(&key) else {
            return;
        };
        let (change, record) = member.recorder.observe_backend(&sight, meter.number(), now);
        let endpoint = member.endpoint.clone();
        if change == RestartChange::Begun {
            meter.begin(now);
            pool.shared.restart.store(Some(meter.clone()));
        }
        if change == RestartChange::Over {
            meter.end(now);
            endpoint.past_restart.store(Some(meter.clone()));
            endpoint.restart.store(Arc::default());
            // Requests that start to wait from now on do so because of another restart in progress.
            if let Some(other) = pool.other_restart(meter.number(), &board) {
                pool.shared.restart.store(Some(other));
            }
        }
        let (name, base) = (pool.name.clone(), pool.members[&key].base.clone());
        if changed && state != DerivedState::Ready {
            pool.note_capacity(capacity, &board);
        }
        if let Some(record) = record {
            board.note(&name, &endpoint.name, record, &meter);
        }
        let counters = &pool.shared.counters;
        match change {
            RestartChange::Begun if is_alone => {
                pool.readings.begin(meter.number(), counters, &board);
            }
            RestartChange::Over if is_alone => {
                pool.readings.end(meter.number(), counters, &board);
            }
            _ => {}
        }
        if changed && state == DerivedState::Ready && !self.left.is_empty() {
            self.succeed(key, &name, &base);
        }
    }

    /// Notes that a backend is about to be removed.
    pub(super) fn note_leaving(&mut self, key: BackendKey) {
        let now = clock::now();
        let board = self.handle.restarts.clone();
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        let name = pool.name.clone();
        let Some(member) = pool.members.get_mut(&key) else {
            return;
        };
        let Some(record) = member.recorder.leave(now) else {
            return;
        };
        let meter = member.endpoint.restart.load_full();
        let base = member.base.clone();
        board.note(&name, &member.endpoint.name, record, &meter);
        let ready = |(other, one): &(&BackendKey, &BackendEntry)| {
            **other != key && one.base == base && pool.state(**other) == Some(DerivedState::Ready)
        };
        let heir = pool.members.iter().rev().find(ready).map(|(key, _)| *key);
        if self.left.len() < MOST_LEFT {
            self.left.insert((name.clone(), base.clone()), meter);
        }
        if let Some(heir) = heir {
            self.succeed(heir, &name, &base);
        }
    }

    /// Ends the restart of a backend with the same name that has left, because a backend is ready.
    fn succeed(&mut self, key: BackendKey, pool: &Arc<str>, base: &str) {
        let Some(meter) = self.left.remove(&(pool.clone(), base.to_owned())) else {
            return;
        };
        let now = clock::now();
        let board = self.handle.restarts.clone();
        let Some(home) = self.home_mut(key) else {
            return;
        };
        let Some(member) = home.members.get(&key) else {
            return;
        };
        let joined = member.recorder.joined();
        let since = member.endpoint.ready_since();
        // Its gate may not be open yet; then it counts as ready from now on.
        let ready = if since > joined { since } else { now };
        meter.end(now);
        board.change(meter.number(), |record, _, _| record.succeed(joined, ready));
        home.readings
            .end(meter.number(), &home.shared.counters, &board);
    }
}

impl PoolState {
    /// Returns the share of the weight of all backends that takes requests, from 0 to 1. In a large pool, this is the
    /// value at the last snapshot or the first change since.
    fn capacity(&mut self) -> f64 {
        if self.members.len() <= MOST_LOOKED_AT {
            return self.add_up_capacity();
        }
        if let Some(capacity) = self.capacity {
            return capacity;
        }
        let capacity = self.add_up_capacity();
        self.capacity = Some(capacity);
        capacity
    }

    fn add_up_capacity(&self) -> f64 {
        let (mut all, mut ready) = (0_u64, 0_u64);
        for (member, backend) in self.both() {
            let weight = u64::from(member.endpoint.weight());
            if backend.is_eligible() {
                ready += weight;
            }
            // A backend that leaves and is replaced under its name would count twice.
            if !member.leaving && !member.is_backup {
                all += weight;
            }
        }
        match all {
            0 => 0.0,
            all => (ready as f64 / all as f64).min(1.0),
        }
    }

    /// Lowers the recorded capacity of other restarts in progress.
    fn note_capacity(&self, capacity: f64, board: &RestartBoard) {
        if self.members.len() > MOST_LOOKED_AT {
            return board.lower_capacity(&self.name, capacity);
        }
        for record in self.members.values().filter_map(|one| one.recorder.open()) {
            board.change(record.number, |record, _, _| {
                record.capacity = record.capacity.min(capacity);
            });
        }
    }

    /// Returns another restart in progress.
    fn other_restart(&self, number: u64, board: &RestartBoard) -> Option<Arc<RestartMeter>> {
        if self.members.len() > MOST_LOOKED_AT {
            return board.under_way(&self.name, number);
        }
        let mut others = self.members.values();
        let other = others.find(|other| other.recorder.open().is_some())?;
        Some(other.endpoint.restart.load_full())
    }
}

fn see_backend(
    member: &BackendEntry,
    backend: &BackendState,
    signs: StepSigns,
    announced: Option<DrainOutcome>,
    broke: bool,
    capacity: f64,
) -> RestartSight {
    let lease = member.tenure.as_ref().map(|tenure| tenure.id());
    let seen = |drain: &OpenDrain| SeenDrain {
        actor: drain.actor,
        by_lease: drain.actor == DrainActor::Supervisor && lease == Some(&*drain.id),
        roll: roll::is_id(drain.actor, &drain.id).then(|| drain.id.clone()),
        reason: drain.reason.clone(),
        since: drain.since,
        deadline: drain.deadline,
    };
    RestartSight {
        state: backend.state(),
        incarnation: backend.incarnation(),
        probe: signs.probe,
        ended: signs.ended,
        broke,
        announced,
        drains: backend.drains().map(|(_, drain)| seen(drain)).collect(),
        capacity,
    }
}
