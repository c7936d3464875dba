//! Adds and removes pools and backends: as the configuration says, as callers register them, and from the state that
//! the last run kept.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::warn;

use super::backend_entry::BackendSource;
use super::bounds;
use super::changes::{self, ChangeAuthor};
use super::discovery;
use super::endpoint::BackendKey;
use super::handle::RegistryError;
use super::lease;
use super::persist::{self, KeptDrain};
use super::pool::{JoiningBackend, PoolState};
use super::request;
use super::roll;
use super::view::{ChangedValue, RegisterRequest};
use super::writer::RegistryWriter;
use crate::config::{Config, ConfigChange};
use crate::core::Time;
use crate::core::backend::{BackendEvent, DerivedState};
use crate::core::drain::{DrainActor, OpenDrain};
use crate::registry::event_kind::EventKind;
use crate::registry::routes::RouteTable;
use crate::rt::clock::{self, ClockReading};

/// Most registrations that could not be restored and are logged by name; of the others, only the number is logged.
const TOLD: usize = 10;

/// Age at which a kept drain is forgotten if its backend has not come back.
const FORGET: Duration = Duration::from_secs(30 * 24 * 3600);

impl RegistryWriter {
    /// Makes pools and backends agree with a configuration, and returns what changed.
    pub(super) fn apply(&mut self, config: Arc<Config>) -> Vec<ConfigChange> {
        let now = clock::now();
        // Before any pool is removed: requests that wait in it have to be routed again.
        let queues = self.pools.iter().map(|pool| pool.queue().clone());
        self.reconfigured.extend(queues);
        self.handle.own.configure(&config);
        let changes = crate::config::diff(&self.config, &config).changes;
        for pool in &config.pools {
            let wanted = Arc::new(pool.clone());
            let index = match self
                .pools
                .iter()
                .position(|state| *state.name == *pool.name)
            {
                Some(index) => {
                    // A pool that was about to be removed stays the same pool: requests that wait in it are not
                    // affected.
                    let back = self.pools[index].reconfigure(wanted, &*self.probing);
                    self.tell_outliers(index, back);
                    index
                }
                None => {
                    self.pools
                        .push(PoolState::new(wanted, self.own_key.clone()));
                    self.pools.len() - 1
                }
            };
            self.pools[index].set_zone(config.server.zone.as_deref());
            let difference = self.pools[index].compare(pool);
            // New backends first: there must be no time in which a name has no backend.
            for joining in difference.joining {
                self.add(index, joining);
            }
            for (key, reason) in difference.leaving {
                self.leave(key, now + pool.drain.deadline, reason);
            }
        }
        let gone: Vec<_> = self
            .pools
            .iter_mut()
            .filter(|state| !config.pools.iter().any(|pool| *pool.name == *state.name))
            .flat_map(|state| {
                state.retired = true;
                let deadline = now + state.config.drain.deadline;
                let keys: Vec<_> = state.members.keys().copied().collect();
                keys.into_iter().map(move |key| (key, deadline))
            })
            .collect();
        for (key, deadline) in gone {
            let reason = "its pool is no longer in the configuration";
            self.leave(key, deadline, reason.to_owned());
        }
        self.clear_retired();
        self.config = config;
        let staying = self.pools.iter().filter(|pool| !pool.retired);
        let names: Vec<&str> = staying.map(|pool| &*pool.name).collect();
        self.routes = Arc::new(RouteTable::new(&self.config.routes, &names));
        self.keep_splits();
        self.keep_plans();
        (self.dirty, self.unsaved) = (true, true);
        changes
    }

    /// Registers a backend, or moves it to another address: the backend at the old address drains, under the same
    /// name.
    pub(super) fn register(
        &mut self,
        pool: &str,
        name: &str,
        request: &RegisterRequest,
        owner: Option<u32>,
    ) -> Result<(), RegistryError> {
        let (address, weight) = request::registration(name, request, &self.handle.own)?;
        let index = self.index_for(pool, owner)?;
        self.check_name_is_free(index, name, owner)?;
        let state = &mut self.pools[index];
        if state.is_configured_name(name) {
            return Err(RegistryError::Conflict(format!(
                "`{pool}/{name}` is in the configuration file; registered backends need a name of their own"
            )));
        }
        if state.is_leased(name) {
            return Err(lease::held(pool, name));
        }
        if let Some(source) = state.source_of(name) {
            return Err(discovery::is_discovered(pool, name, Some(&source)));
        }
        let old = state.current(name);
        let here = |key: &BackendKey| {
            let member = state.members.get(key);
            member.is_some_and(|member| member.endpoint.address == address)
        };
        if let Some(key) = old.filter(here) {
            let mut before = weight;
            if let Some(member) = state.members.get_mut(&key) {
                before = member.endpoint.weight();
                member.endpoint.set_weight(weight);
                member.is_backup = request.backup;
                member.zone.clone_from(&request.zone);
            }
            (state.dirty, state.unsaved) = (true, true);
            // For a backend that is ready or starting, this is no sign of another process.
            if !matches!(
                state.state(key),
                Some(DerivedState::Ready | DerivedState::Starting)
            ) {
                self.step(key, BackendEvent::Replaced);
            }
            let value = ChangedValue {
                what: format!("{pool}/{name}: weight"),
                from: before.to_string(),
                to: weight.to_string(),
            };
            self.remember_value(ChangeAuthor::Api, pool, value);
        } else {
            self.check_room(owner)?;
            let state = &mut self.pools[index];
            let deadline = clock::now() + state.config.drain.deadline;
            let drains = old.map(|key| state.inheritance(key)).unwrap_or_default();
            let joining = JoiningBackend {
                name: name.to_owned(),
                address,
                weight,
                is_backup: request.backup,
                zone: request.zone.clone(),
                source: BackendSource::Api,
                discovery: None,
                drains,
                tenure: None,
                // A caller who may change every backend doesn't become the owner.
                owner: owner.or(old.and_then(|key| state.members.get(&key)?.owner)),
            };
            let shown = self.add(index, joining);
            let at = format!("at {}", request.address);
            self.event(EventKind::Registered, Some((pool, &shown)), None, None, at);
            let before = old.and_then(|key| self.pools[index].members.get(&key));
            let before = before.map(|member| member.endpoint.address.to_string());
            match before {
                None => {
                    let line = changes::place(pool, name, &request.address);
                    self.remember_added(ChangeAuthor::Api, pool, line);
                }
                Some(from) => {
                    let value = ChangedValue {
                        what: format!("{pool}/{name}: address"),
                        from,
                        to: request.address.clone(),
                    };
                    self.remember_value(ChangeAuthor::Api, pool, value);
                }
            }
            if let Some(old) = old {
                let reason = format!("replaced by another address ({})", request.address);
                self.leave(old, deadline, reason);
            }
        }
        self.observer.registered();
        Ok(())
    }

    /// Adds a backend, with the drains that were kept for it; returns the name under which it is shown.
    pub(super) fn add(&mut self, index: usize, mut joining: JoiningBackend) -> String {
        let key = BackendKey(self.next_key);
        self.next_key += 1;
        if let Some(owner) = joining.owner {
            *self.owned.entry(owner).or_default() += 1;
        }
        self.homes.insert(key, index);
        let state = &mut self.pools[index];
        let name = state.name.clone();
        let kept = self.kept.take(&name, &joining.name);
        joining
            .drains
            .extend(kept.iter().map(persist::DrainRecord::restored));
        let known = self.hand_over.take_known(&name, &joining);
        // Waits for requests that the previous process has in flight on this backend.
        let busy = known.as_ref().is_some_and(|known| known.busy) && self.has_predecessor();
        // Waits also for clients that still have a session on it.
        let finishes = known
            .as_ref()
            .is_some_and(|known| known.up && !known.finishing.is_empty());
        let again = match busy || finishes {
            true => std::mem::take(&mut joining.drains),
            false => Vec::new(),
        };
        let state = &mut self.pools[index];
        state.add(
            key,
            joining,
            known.as_ref(),
            self.signals.clone(),
            &*self.probing,
        );
        self.watch_again(key, &kept);
        if let Some(known) = &known {
            self.go_on_with_restart(key, known);
        }
        self.close_again(key, again);
        if let Some(known) = &known {
            self.pools[index].keep_since(key, known);
        }
        let member = self.pools[index].members.get(&key);
        member.map_or_else(String::new, |member| member.endpoint.name.to_string())
    }

    /// Drains a backend and removes it afterwards.
    pub(super) fn leave(&mut self, key: BackendKey, deadline: Time, reason: String) {
        self.leave_by(DrainActor::Config, key, deadline, reason);
    }

    /// Drains a backend and removes it afterwards, as `actor` orders.
    pub(super) fn leave_by(
        &mut self,
        actor: DrainActor,
        key: BackendKey,
        deadline: Time,
        reason: String,
    ) {
        if let Some(pool) = self.home_mut(key) {
            pool.unsaved = true;
            if let Some(member) = pool.members.get_mut(&key) {
                member.leaving = true;
            }
        }
        let order = discovery::leaving_by(actor, reason, deadline);
        self.step(key, BackendEvent::Drain(order));
        self.answer_if_drained(key);
    }

    /// Removes a backend that has drained; requests that waited for its drain have been answered.
    pub(super) fn remove(&mut self, key: BackendKey) {
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        let name = pool.name.clone();
        self.note_leaving(key);
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        let inherited = pool.drains_left_behind(key);
        let member = pool.remove(key);
        self.homes.remove(&key);
        if let Some(member) = member {
            member.endpoint.retire();
            if !inherited.is_empty() {
                let room = bounds::MAX_KEPT.saturating_sub(self.kept.count());
                if room < inherited.len() {
                    warn!(pool = %name, backend = member.base, "too many drains are kept: this one's are forgotten");
                }
                self.kept.extend(inherited.into_iter().take(room));
            }
            if let Some(owner) = member.owner
                && let Some(count) = self.owned.get_mut(&owner)
            {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.owned.remove(&owner);
                }
            }
            self.lease_over(&member);
            let whom = Some((&*name, &*member.endpoint.name));
            self.event(
                EventKind::Deregistered,
                whom,
                None,
                None,
                "it has left".to_owned(),
            );
        }
        self.clear_retired();
    }

    /// Removes retired pools whose last backend is gone.
    fn clear_retired(&mut self) {
        let before = self.pools.len();
        self.pools
            .retain(|pool| !pool.retired || !pool.members.is_empty());
        if self.pools.len() != before {
            let keys = |(index, pool): (usize, &PoolState)| {
                let keys: Vec<_> = pool.members.keys().map(|key| (*key, index)).collect();
                keys
            };
            self.homes = self.pools.iter().enumerate().flat_map(keys).collect();
        }
    }

    /// Keeps the drains of the last run, for backends that are about to be added and for those added later: a restart
    /// of the proxy must not undo a drain that an operator has ordered.
    pub(super) fn remember_kept_drains(&mut self, mut drains: Vec<KeptDrain>) {
        let (now, wall) = (clock::now(), SystemTime::now());
        // The right to a roll ended with the last run, and the client that held it may be gone.
        for kept in &mut drains {
            if roll::is_of_a_roll(&kept.drain.order()) {
                kept.drain.limit_expiry(wall + roll::LEFT_BEHIND);
            }
        }
        drains.retain(|kept| {
            // An expired drain and a start of the proxy ask for the same: that the backend passes its probes again.
            let expired = kept.drain.order().expires.is_some_and(|at| at <= now);
            let age = wall.duration_since(kept.drain.since()).unwrap_or_default();
            !expired && age < FORGET
        });
        self.kept.extend(drains);
    }

    /// Registers again the backends that were registered in the last run.
    pub(super) fn register_again(&mut self, registrations: Vec<persist::KeptRegistration>) {
        let mut refused = 0;
        for kept in registrations {
            let backend = kept.backend;
            let request = RegisterRequest {
                address: backend.address,
                weight: Some(backend.weight),
                backup: backend.backup,
                zone: backend.zone,
                wait: None,
            };
            if let Err(refusal) = self.register(&kept.pool, &backend.name, &request, kept.owner) {
                refused += 1;
                if refused <= TOLD {
                    warn!(pool = kept.pool, backend = backend.name, %refusal, "a registration could not be restored");
                }
            }
        }
        if refused > TOLD {
            warn!(all = refused, "further registrations could not be restored");
        }
    }

    /// Returns the state that has to survive a restart of the proxy.
    pub(super) fn state_to_keep(&self) -> persist::KeptState {
        let clock = ClockReading::take();
        let mut state = persist::KeptState {
            drains: self.kept.all().collect(),
            ..persist::KeptState::default()
        };
        for pool in self.pools.iter().filter(|pool| !pool.retired) {
            pool.keep(&mut state, &clock);
            let sources = pool.keep_sources(&self.handle.live, &clock);
            state.sources.extend(sources);
        }
        self.keep_moved_splits(&mut state, &clock);
        self.keep_running_plans(&mut state, &clock);
        state
    }
}

impl persist::DrainRecord {
    /// Returns the drain as it was. In this run, no request is in flight that it could cut.
    pub(super) fn restored(&self) -> OpenDrain {
        self.order().opened(clock::from_wall(self.since()))
    }
}
