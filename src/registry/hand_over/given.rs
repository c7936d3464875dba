//! Gives the state of this registry to another process.

use super::ChangeHold;
use super::outliers::handed as handed_outlier;
use super::sessions::sessions_of;
use crate::core::backend::{BackendHealth, DerivedState};
use crate::core::drain::DrainActor;
use crate::registry::backend_entry::BackendSource;
use crate::registry::handed::{
    HandedDiscovered, HandedLease, HandedRegistry, HandedRequests, KnownBackend, hex,
};
use crate::registry::handle::RegistryError;
use crate::registry::persist::DrainRecord;
use crate::registry::pool::PoolState;
use crate::registry::writer::RegistryWriter;
use crate::rt::clock::{self, ClockReading};

impl RegistryWriter {
    pub(super) fn give(&mut self) -> Result<HandedRegistry, RegistryError> {
        if let Some(pool) = self.rolls.keys().next() {
            return Err(RegistryError::Conflict(format!(
                "`{pool}` is being rolled (`lameduck roll`): wait for its end, then upgrade again"
            )));
        }
        let reading = ClockReading::take();
        let mut handed = HandedRegistry {
            kept: self.state_to_keep(),
            sticky_key: self.own_key.made().map(|key| hex(key.bytes())),
            ..HandedRegistry::default()
        };
        for pool in self.pools.iter().filter(|pool| !pool.retired) {
            pool.give(&mut handed, &reading);
        }
        self.give_restarts(&mut handed);
        self.hand_over.changes = ChangeHold::Held(Vec::new());
        Ok(handed)
    }
}

impl PoolState {
    /// Returns the number of requests that were sent to each of the pool's backends, by this process and previous
    /// ones.
    pub(super) fn requests_sent(&self) -> impl Iterator<Item = HandedRequests> + '_ {
        let staying = self.members.values().filter(|member| !member.leaving);
        staying.map(|member| HandedRequests {
            pool: self.name.to_string(),
            backend: member.base.clone(),
            address: member.endpoint.address.to_string(),
            requests: member.requests(),
        })
    }

    pub(super) fn give(&self, handed: &mut HandedRegistry, reading: &ClockReading) {
        for (member, backend) in self.both().filter(|(member, _)| !member.leaving) {
            let address = member.endpoint.address.to_string();
            let state = backend.state();
            let drains = matches!(state, DerivedState::Draining | DerivedState::Drained);
            handed.known.push(KnownBackend {
                pool: self.name.to_string(),
                name: member.base.clone(),
                address: address.clone(),
                incarnation: backend.incarnation(),
                up: backend.health() == BackendHealth::Up,
                down: backend.health() == BackendHealth::Down,
                finishing: match backend.hands_over() {
                    true => sessions_of(&self.name, member).collect(),
                    false => Vec::new(),
                },
                probed: member.probed,
                requests: member.requests(),
                outlier: self.outlier_record(member.endpoint.key).map(handed_outlier),
                listener: backend.listener(),
                last_probe: member.last_probe.clone(),
                busy: drains && member.endpoint.gate.in_flight() > 0,
                state: state.as_str().to_owned(),
                since: Some(clock::to_machine(member.state_since)),
                restart: member.recorder.open().map(|_| {
                    let meter = member.endpoint.restart.load();
                    meter.id().to_string()
                }),
            });
            if let (BackendSource::Discovery, Some(source)) = (member.source, &member.discovery) {
                handed.discovered.push(HandedDiscovered {
                    pool: self.name.to_string(),
                    name: member.base.clone(),
                    address: address.clone(),
                    weight: member.endpoint.weight(),
                    backup: member.is_backup,
                    zone: member.zone.clone(),
                    source: source.to_string(),
                });
            }
            let Some(tenure) = &member.tenure else {
                continue;
            };
            let own = backend.drains().map(|(_, drain)| drain);
            let own = own
                .filter(|drain| drain.actor == DrainActor::Supervisor && drain.id == tenure.id());
            handed.leases.push(HandedLease {
                pool: self.name.to_string(),
                name: member.base.clone(),
                address,
                weight: member.endpoint.weight(),
                backup: member.is_backup,
                owner: member.owner,
                id: tenure.id().to_owned(),
                nonce: tenure.nonce().map(str::to_owned),
                drains: own.map(|drain| DrainRecord::kept(drain, reading)).collect(),
            });
        }
    }
}
