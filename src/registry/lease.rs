//! Leases: a launcher's open connection stands for a running instance. The instance is registered while the
//! connection is open, and leaves when it is closed.

use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::backend_entry::{BackendEntry, BackendSource};
use super::bounds;
use super::changes::{self, ChangeAuthor};
use super::command::RegistryCommand;
use super::discovery;
use super::endpoint::BackendKey;
use super::handle::{RegistryError, RegistryHandle};
use super::persist::{self, KeptDrain};
use super::pool::{JoiningBackend, PoolState};
use super::request;
use super::view::{DrainResponse, LeaseDrainRequest, LeaseEvent, LeaseRequest, RegisterRequest};
use super::writer::RegistryWriter;
use crate::core::backend::{BackendEvent, DerivedState};
use crate::core::drain::{DrainActor, DrainSpec, DrainUntil};
use crate::registry::event_kind::EventKind;
use crate::rt::clock::{self, ClockReading};

/// Most names per pool whose last incarnation is remembered after they have left.
const REMEMBERED: usize = 4096;

/// The registry's side of a lease.
#[derive(Debug)]
pub struct LeaseRecord {
    id: String,
    nonce: Option<String>,
    events: mpsc::UnboundedSender<LeaseEvent>,
}

impl LeaseRecord {
    /// Returns the ID of the lease: never reused, not even by another run of the proxy.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the nonce by which the process behind the lease is recognised.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }
}

impl LeaseRecord {
    /// Restores a lease that another process has given.
    pub(super) fn new(
        id: String,
        nonce: Option<String>,
        events: mpsc::UnboundedSender<LeaseEvent>,
    ) -> Self {
        Self { id, nonce, events }
    }

    /// Ends the events of the lease: another process has it from now on, and its holder has to ask there.
    pub(super) fn end_events(&mut self) {
        self.events = mpsc::unbounded_channel().0;
    }
}

/// The holder's side of a lease. Dropping it ends the lease.
#[derive(Debug)]
pub struct LeaseHandle {
    holder: LeaseHolder,
    /// Events of the instance, beginning with `registered`.
    events: mpsc::UnboundedReceiver<LeaseEvent>,
}

/// Ends the lease on drop.
struct LeaseHolder {
    handle: RegistryHandle,
    key: BackendKey,
}

impl std::fmt::Debug for LeaseHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LeaseHolder").field(&self.key).finish()
    }
}

impl Drop for LeaseHolder {
    fn drop(&mut self) {
        let _ = self
            .handle
            .commands
            .send(RegistryCommand::LeaseBroken { key: self.key });
    }
}

impl LeaseHandle {
    /// Creates the handle for the lease of this backend.
    pub(super) fn new(
        handle: RegistryHandle,
        key: BackendKey,
        events: mpsc::UnboundedReceiver<LeaseEvent>,
    ) -> Self {
        Self {
            holder: LeaseHolder { handle, key },
            events,
        }
    }

    /// Returns the next event; `None` when the instance has left, or another process has the lease. Cancel-safe.
    pub async fn next(&mut self) -> Option<LeaseEvent> {
        self.events.recv().await
    }

    /// Returns the present state of the instance; `None` when it has left.
    pub async fn status(&self) -> Option<LeaseEvent> {
        let LeaseHolder { handle, key } = &self.holder;
        let (key, asked) = (*key, handle.clone());
        let status = asked.ask(|reply| RegistryCommand::LeaseStatus { key, reply });
        status.await.ok().flatten()
    }
}

impl RegistryHandle {
    /// Registers an instance for as long as the lease is held. Other instances of the same name stay: they may
    /// overlap.
    ///
    /// # Errors
    /// The pool is unknown, the address or name is not valid, or the configuration has the name.
    pub async fn lease(
        &self,
        pool: &str,
        name: &str,
        request: LeaseRequest,
    ) -> Result<LeaseHandle, RegistryError> {
        let (pool, name, owner) = (pool.to_owned(), name.to_owned(), self.owner);
        self.ask(|reply| RegistryCommand::Lease {
            pool,
            name,
            request,
            owner,
            reply,
        })
        .await?
    }

    /// Drains the instance of a lease: this drain ends with the lease, and not earlier (except by `resume --all`).
    /// With `wait` (the default), returns when the drain has ended.
    ///
    /// # Errors
    /// There is no such lease (any more), or the timeout is not valid.
    pub async fn drain_lease(
        &self,
        lease: &str,
        request: LeaseDrainRequest,
    ) -> Result<DrainResponse, RegistryError> {
        let began = clock::now();
        let wait = request.wait.unwrap_or(true);
        let (lease, owner) = (lease.to_owned(), self.owner);
        let ending = self
            .ask(|reply| RegistryCommand::LeaseDrain {
                lease,
                request,
                owner,
                reply,
            })
            .await??;
        if !wait {
            // Without a warning that the drain is not kept: it ends with the lease, and so with this process.
            return Ok(DrainResponse::asked());
        }
        let mut answer = ending.await.map_err(|_| self.no_answer())?;
        answer.waited_ms = clock::now().saturating_sub(began).as_millis() as u64;
        Ok(answer)
    }
}

/// Returns the error for a name of which another owner holds a lease.
pub(super) fn held(pool: &str, name: &str) -> RegistryError {
    RegistryError::Conflict(format!(
        "`{pool}/{name}` is registered by its launcher (`lameduck exec`) for as long as it runs: stop it through its \
         supervisor, or `lameduck drain` it"
    ))
}

impl RegistryWriter {
    pub(super) fn lease(
        &mut self,
        pool: &str,
        name: &str,
        request: &LeaseRequest,
        owner: Option<u32>,
    ) -> Result<LeaseHandle, RegistryError> {
        bounds::check_id("nonce", request.nonce.as_deref())?;
        let plain = RegisterRequest {
            address: request.address.clone(),
            weight: request.weight,
            backup: request.backup,
            zone: request.zone.clone(),
            wait: None,
        };
        let (address, weight) = request::registration(name, &plain, &self.handle.own)?;
        let index = self.index_for(pool, owner)?;
        self.check_name_is_free(index, name, owner)?;
        if let Some(lease) = self.adopt_lease(pool, name, request) {
            return Ok(lease);
        }
        self.check_room(owner)?;
        let state = &self.pools[index];
        if state.is_configured_name(name) {
            return Err(RegistryError::Conflict(format!(
                "`{pool}/{name}` is in the configuration file; launchers need names of their own (--name)"
            )));
        }
        if let Some(source) = state.source_of(name) {
            return Err(discovery::is_discovered(pool, name, Some(&source)));
        }
        let deadline = clock::now() + state.config.drain.deadline;
        let earlier = state.leases_of(name, request.nonce.as_deref());
        let heir = state.current(name);
        let drains = heir.map(|key| state.inheritance(key)).unwrap_or_default();
        let (sender, events) = mpsc::unbounded_channel();
        let id = format!("{:016x}", fastrand::u64(..));
        let joining = JoiningBackend {
            name: name.to_owned(),
            address,
            weight,
            is_backup: request.backup,
            zone: request.zone.clone(),
            source: BackendSource::Lease,
            discovery: None,
            drains,
            tenure: Some(LeaseRecord {
                id: id.clone(),
                nonce: request.nonce.clone(),
                events: sender.clone(),
            }),
            owner,
        };
        let key = BackendKey(self.next_key);
        let shown = self.add(index, joining);
        let state = &self.pools[index];
        let backend = state.core.get(&key);
        let registered = LeaseEvent::Registered {
            lease: id,
            pool: pool.to_owned(),
            name: shown.clone(),
            incarnation: backend.map_or(1, |backend| backend.incarnation()),
            state: state.state(key).map_or("", DerivedState::as_str).to_owned(),
        };
        let process = request.pid.map(|pid| format!(" (process {pid})"));
        let line = changes::place(pool, &shown, &request.address);
        self.remember_added(ChangeAuthor::Launcher, pool, line);
        let at = format!("at {}{}", request.address, process.unwrap_or_default());
        self.event(EventKind::Registered, Some((pool, &shown)), None, None, at);
        // Sent before any later event of the instance.
        let _ = sender.send(registered);
        for key in earlier {
            self.remember_leaving(ChangeAuthor::Launcher, key);
            self.leave(key, deadline, "its launcher has come back".to_owned());
        }
        self.observer.registered();
        Ok(LeaseHandle {
            holder: LeaseHolder {
                handle: self.handle.clone(),
                key,
            },
            events,
        })
    }

    pub(super) fn lease_status(&self, key: BackendKey) -> Option<LeaseEvent> {
        let state = self.pools.get(*self.homes.get(&key)?)?;
        let member = state.members.get(&key)?;
        Some(LeaseEvent::Alive {
            state: state.state(key)?.as_str().to_owned(),
            in_flight: member.endpoint.gate.in_flight(),
            last_probe: member.last_probe.clone(),
        })
    }

    pub(super) fn lease_drain(
        &mut self,
        lease: &str,
        asked: &LeaseDrainRequest,
        owner: Option<u32>,
    ) -> Result<oneshot::Receiver<DrainResponse>, RegistryError> {
        bounds::check_reason(asked.reason.as_deref())?;
        let unknown = || RegistryError::UnknownLease(lease.to_owned());
        let mut leases = self.pools.iter_mut().flat_map(|pool| {
            let default = pool.config.drain.deadline;
            let members = pool.members.iter_mut();
            members.map(move |(key, member)| (*key, member, default))
        });
        let is_it = |member: &BackendEntry| {
            let tenure = member.tenure.as_ref();
            let is_it = tenure.is_some_and(|tenure| tenure.id == lease);
            is_it && !member.leaving && member.is_of(owner)
        };
        let found = leases.find(|(_, member, _)| is_it(member));
        let (key, member, default) = found.ok_or_else(unknown)?;
        let timeout = asked.timeout.as_deref().map(request::parse_duration);
        let timeout = timeout.transpose()?.unwrap_or(default);
        let (sender, receiver) = oneshot::channel();
        member.wait(sender);
        self.step(
            key,
            BackendEvent::Drain(DrainSpec {
                actor: DrainActor::Supervisor,
                id: lease.to_owned(),
                reason: match &asked.reason {
                    Some(reason) => reason.clone(),
                    None => "its supervisor stops it".to_owned(),
                },
                deadline: Some(clock::now() + timeout),
                until: DrainUntil::Resumed,
                // The drain ends with the lease. An app that takes its time to stop must not get requests again.
                expires: None,
            }),
        );
        self.answer_if_drained(key);
        Ok(receiver)
    }

    /// Ends a lease whose connection is closed: the launcher is gone, and with it the app.
    pub(super) fn lease_broken(&mut self, key: BackendKey) {
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        let (name, deadline) = (pool.name.clone(), clock::now() + pool.config.drain.deadline);
        let state = pool.state(key);
        let Some(member) = pool.members.get(&key) else {
            return;
        };
        if member.leaving {
            return;
        }
        if state == Some(DerivedState::Drained) {
            self.remember_leaving(ChangeAuthor::Launcher, key);
            self.remove(key);
            return;
        }
        let in_flight = member.endpoint.gate.in_flight();
        let reason = format!("its launcher is gone, with {in_flight} in flight");
        if state != Some(DerivedState::Draining) {
            warn!(pool = %name, backend = %member.endpoint.name, in_flight,
                  "a launcher is gone without a drain: was it killed?");
        }
        self.remember_leaving(ChangeAuthor::Launcher, key);
        self.leave(key, deadline, reason);
    }

    /// Ends the lease of a backend that has left.
    pub(super) fn lease_over(&mut self, member: &BackendEntry) {
        let Some(tenure) = &member.tenure else {
            return;
        };
        let events = tenure.events.clone();
        self.outbox
            .push(Box::new(move || drop(events.send(LeaseEvent::Left))));
        let eligible = self.pools.iter().map(|pool| pool.core.eligible()).sum();
        self.observer.lease_ended(&tenure.id, eligible);
    }

    /// Sends an event to the holder of a lease, after the snapshot is published.
    pub(super) fn tell_lease(
        &mut self,
        key: BackendKey,
        event: impl FnOnce(&BackendEntry) -> LeaseEvent,
    ) {
        let Some(member) = self.home_mut(key).and_then(|pool| pool.members.get(&key)) else {
            return;
        };
        if let Some(tenure) = &member.tenure {
            let (events, event) = (tenure.events.clone(), event(member));
            self.outbox.push(Box::new(move || drop(events.send(event))));
        }
    }
}

impl BackendEntry {
    /// Returns the event for a change of state.
    pub(super) fn lease_state(&self, to: DerivedState, reason: &str) -> LeaseEvent {
        LeaseEvent::State {
            state: to.as_str().to_owned(),
            reason: reason.to_owned(),
            in_flight: self.endpoint.gate.in_flight(),
        }
    }
}

impl PoolState {
    /// Whether a launcher holds a lease of this backend.
    pub(super) fn is_lease(&self, key: BackendKey) -> bool {
        let member = self.members.get(&key);
        member.is_some_and(|member| member.source == BackendSource::Lease)
    }

    /// Whether a launcher holds a lease of a backend with this name.
    pub(super) fn is_leased(&self, name: &str) -> bool {
        // Called before each registration, and a restart repeats registrations by the thousand.
        let mut members = self.members.values();
        self.has_name(name)
            && members.any(|member| {
                member.source == BackendSource::Lease && member.base == name && !member.leaving
            })
    }

    /// Returns the leases of this name that the same process holds.
    fn leases_of(&self, name: &str, nonce: Option<&str>) -> Vec<BackendKey> {
        let same = |member: &BackendEntry| {
            let held = member.tenure.as_ref().and_then(LeaseRecord::nonce);
            member.base == name && !member.leaving && held.is_some() && held == nonce
        };
        let members = self.members.iter().filter(|(_, member)| same(member));
        members.map(|(key, _)| *key).collect()
    }

    /// Returns the drains of a leased or discovered backend that are kept for the next backend of its name: an
    /// operator's drain outlasts a restart of the app, as it does for a configured backend.
    pub(super) fn drains_left_behind(&self, key: BackendKey) -> Vec<KeptDrain> {
        let Some(member) = self.members.get(&key) else {
            return Vec::new();
        };
        let heir = |(other, others): (&BackendKey, &BackendEntry)| {
            *other != key && others.base == member.base && !others.leaving
        };
        let comes_again = [BackendSource::Lease, BackendSource::Discovery];
        if !comes_again.contains(&member.source) || self.members.iter().any(heir) {
            return Vec::new();
        }
        let drains = self.inheritance(key).into_iter();
        drains
            .map(|drain| KeptDrain {
                pool: self.name.to_string(),
                backend: member.base.clone(),
                address: None,
                drain: persist::DrainRecord::kept(&drain, &ClockReading::take()),
            })
            .collect()
    }
}

/// The last incarnation of each name.
#[derive(Debug, Default)]
pub(super) struct LastIncarnations(HashMap<String, (u64, Option<String>)>);

impl LastIncarnations {
    /// Returns the number of the next process under this name. `here`: the backends of this name that are still
    /// there. A process that returns with the same nonce is the same process.
    pub(super) fn next<'a>(
        &'a self,
        name: &str,
        nonce: Option<&str>,
        here: impl Iterator<Item = (u64, Option<&'a str>)>,
    ) -> u64 {
        let before = self.0.get(name);
        let before = before.map(|(number, nonce)| (*number, nonce.as_deref()));
        let last = here.chain(before).max_by_key(|(number, _)| *number);
        match last {
            Some((number, last)) if nonce.is_some() && last == nonce => number,
            Some((number, _)) => number.saturating_add(1),
            None => 1,
        }
    }

    /// Notes the incarnation of a backend that has left.
    pub(super) fn note(&mut self, name: &str, number: u64, nonce: Option<&str>) {
        // A client that uses new names each time must not fill the memory.
        if self.0.len() >= REMEMBERED && !self.0.contains_key(name) {
            self.0.clear();
        }
        let entry = self.0.entry(name.to_owned()).or_default();
        if number >= entry.0 {
            *entry = (number, nonce.map(str::to_owned));
        }
    }
}
