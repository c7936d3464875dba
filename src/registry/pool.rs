//! A pool as the registry keeps it: the core's backends, and the run-time state of each.

mod balancers;
mod outliers;
mod outline;
mod queries;
mod reconfigure;
mod sticky;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use arc_swap::ArcSwapOption;
use tokio::sync::mpsc::UnboundedSender;

use balancers::PoolBalancers;
use outline::outline;

use super::backend_entry::{BackendEntry, BackendSource};
use super::endpoint::{BackendKey, Endpoint, Transport, Wakeup};
use super::handed::KnownBackend;
use super::hold_release::HoldReleaser;
use super::lease::{LastIncarnations, LeaseRecord};
use super::names::BackendNames;
use super::own_key::OwnKeySource;
use super::pause::PoolPause;
use super::probing::{ProbeCadence, ProbeStarter};
use super::restart_latency::LatencyReadings;
use super::snapshot::{HoldQueue, LowerTier, PoolShared, PoolSnapshot};
use super::sticky::StickyPool;
use super::view::InFlight;
use crate::config::{self, Address};
use crate::core::Time;
use crate::core::backend::{BackendEffect, BackendEvent, BackendState, DerivedState};
use crate::core::balance::{BackendTiers, BalanceAlgorithm, Balancer};
use crate::core::drain::{DrainActor, OpenDrain};
use crate::core::outlier::OutlierDetector;
use crate::core::pool as core_pool;
use crate::core::restart::RestartRecorder;
use crate::core::retry::{RetryBudget, RetryRates};
use crate::metrics::PoolCounters;
use crate::rt::clock;

/// A pool's backends and their common state.
pub(super) struct PoolState {
    /// Name.
    pub name: Arc<str>,
    /// Settings.
    pub config: Arc<config::PoolConfig>,
    /// State machines of the backends.
    pub core: core_pool::BackendSet<BackendKey>,
    /// Run-time state of each backend.
    pub members: BTreeMap<BackendKey, BackendEntry>,
    /// Whether the pool is no longer configured; it is removed with its last backend.
    pub retired: bool,
    /// Whether the published snapshot is out of date.
    pub dirty: bool,
    /// Whether state that has to survive the process has changed.
    pub unsaved: bool,
    /// The pause, if any: no new requests go to its backends.
    pub pause: Option<Arc<PoolPause>>,
    /// Whether it was paused or resumed and waiting requests have not been woken yet.
    pub pause_changed: bool,
    pub(super) shared: Arc<PoolShared>,
    health: Arc<config::HealthConfig>,
    releaser: HoldReleaser,
    names: BackendNames,
    published: Arc<PoolSnapshot>,
    /// All backends, as in snapshots; `None` after one was added or removed.
    all: Option<Arc<[Arc<Endpoint>]>>,
    /// Earlier snapshots that requests may still use. The last user of a snapshot frees it, and decrements two counts
    /// for each backend: that work should be done here, and not by a request.
    past: Vec<Arc<PoolSnapshot>>,
    incarnations: LastIncarnations,
    own_key: Arc<OwnKeySource>,
    /// Binds sessions to backends, if the pool is sticky.
    sticky: Option<StickyPool>,
    /// Detects outliers, if configured.
    outlier: Option<OutlierDetector<BackendKey>>,
    balancers: PoolBalancers,
    /// Zone of the proxy.
    zone: Option<String>,
    /// Response times around restarts.
    pub(super) readings: LatencyReadings,
    /// Share of the pool's weight that takes requests, if it was asked for since the last snapshot.
    pub(super) capacity: Option<f64>,
}

/// A backend that is about to be added.
pub(super) struct JoiningBackend {
    /// Name without `~2`.
    pub name: String,
    /// Address at which it listens.
    pub address: Address,
    /// Weight.
    pub weight: u32,
    /// Whether it gets requests only while no other backend is ready.
    pub is_backup: bool,
    /// Zone in which it runs.
    pub zone: Option<String>,
    /// Where the backend comes from.
    pub source: BackendSource,
    /// With [`BackendSource::Discovery`]: label of the source.
    pub discovery: Option<Arc<str>>,
    /// Drains that apply to it from the start.
    pub drains: Vec<OpenDrain>,
    /// The lease under which it is added, if any.
    pub tenure: Option<LeaseRecord>,
    /// User (uid) that owns the backend, if it came through the socket for apps.
    pub owner: Option<u32>,
}

impl PoolState {
    /// Creates a pool without backends.
    pub(super) fn new(config: Arc<config::PoolConfig>, own_key: Arc<OwnKeySource>) -> Self {
        let shared = Arc::new(PoolShared {
            cursor: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            held_bytes: AtomicU64::new(0),
            queue: Arc::default(),
            budget: RetryBudget::new(RetryRates::with_ratio(config.retry.budget), clock::now()),
            counters: PoolCounters::default(),
            restart: ArcSwapOption::empty(),
        });
        let name: Arc<str> = config.name.as_str().into();
        Self {
            core: core_pool::BackendSet::new(reconfigure::policy(&config)),
            members: BTreeMap::new(),
            retired: false,
            dirty: true,
            unsaved: false,
            pause: None,
            pause_changed: false,
            health: Arc::new(config.health.clone()),
            releaser: HoldReleaser::new(shared.clone()),
            incarnations: LastIncarnations::default(),
            sticky: sticky::pool(&config, &own_key),
            own_key,
            outlier: outliers::detector(&config),
            names: BackendNames::default(),
            all: None,
            past: Vec::new(),
            published: Arc::new(PoolSnapshot {
                name: name.clone(),
                config: config.clone(),
                backends: Arc::default(),
                ready: Vec::new(),
                last_resort: Vec::new(),
                balancer: Balancer::new(BalanceAlgorithm::Random, &[]),
                other_zones: None,
                backups: None,
                sticky: None,
                pause: None,
                watches_outcomes: false,
                shared: shared.clone(),
            }),
            balancers: PoolBalancers::default(),
            zone: None,
            readings: LatencyReadings::default(),
            capacity: None,
            name,
            shared,
            config,
        }
    }

    /// Adds a backend; its gate is closed and it is probed at once.
    pub(super) fn add(
        &mut self,
        key: BackendKey,
        joining: JoiningBackend,
        known: Option<&KnownBackend>,
        signals: UnboundedSender<Wakeup>,
        probing: &dyn ProbeStarter,
    ) {
        let incarnation = match known {
            Some(known) => known.incarnation,
            None => self.next_incarnation(&joining),
        };
        let endpoint = Arc::new(Endpoint::new(
            key,
            self.name.clone(),
            self.names.free(&joining.name).into(),
            joining.address,
            joining.weight,
            signals,
            self.shared.queue.clone(),
        ));
        endpoint.set_transport(&Transport::of(&self.config));
        self.count_outcomes(&endpoint);
        endpoint.latency.keep(self.watches_latency());
        self.core
            .restore(key, clock::now(), incarnation, joining.drains);
        let cadence = ProbeCadence {
            interval: self.config.health.fast_interval,
            keep: true,
            in_turn: false,
        };
        let member = BackendEntry {
            prober: probing.start(endpoint.clone(), self.health.clone(), cadence),
            endpoint,
            base: joining.name,
            source: joining.source,
            discovery: joining.discovery,
            is_backup: joining.is_backup,
            zone: joining.zone,
            tenure: joining.tenure,
            owner: joining.owner,
            cadence,
            last_probe: None,
            probed: false,
            waiters: Vec::new(),
            cut: InFlight::default(),
            state_since: clock::now(),
            draining_since: None,
            leaving: false,
            awaited: BTreeMap::new(),
            requests_before: 0,
            ejection: None,
            recorder: RestartRecorder::new(incarnation, clock::now()),
        };
        self.names.join(key, &member.base, &member.endpoint.name);
        self.members.insert(key, member);
        self.all = None;
        if let Some(known) = known {
            self.adopt_health(key, known);
        }
        self.show_state(key);
        self.refresh_cadence(key, false);
        (self.dirty, self.unsaved) = (true, true);
    }

    /// Publishes the backend's state to the endpoint, for readers outside of the registry's task.
    fn show_state(&self, key: BackendKey) {
        if let (Some(backend), Some(member)) = (self.core.get(&key), self.members.get(&key)) {
            member.endpoint.set_state(backend.state());
        }
    }

    /// Returns the number of the next process under the same name, whether processes follow each other or overlap.
    fn next_incarnation(&self, joining: &JoiningBackend) -> u64 {
        let nonce = joining.tenure.as_ref().and_then(LeaseRecord::nonce);
        // There is hardly ever such a backend, so usually no backend has to be compared.
        let namesakes = self.has_name(&joining.name);
        let here = namesakes.then_some(&self.members).into_iter().flatten();
        let here = here.filter(|(_, member)| member.base == joining.name);
        let here = here.filter_map(|(key, member)| {
            let nonce = member.tenure.as_ref().and_then(LeaseRecord::nonce);
            Some((self.core.get(key)?.incarnation(), nonce))
        });
        self.incarnations.next(&joining.name, nonce, here)
    }

    /// Removes a backend.
    pub(super) fn remove(&mut self, key: BackendKey) -> Option<BackendEntry> {
        let member = self.members.remove(&key)?;
        self.all = None;
        self.forget_outcomes(key);
        self.names.leave(&member.base, &member.endpoint.name);
        if let Some(backend) = self.core.remove(&key) {
            let nonce = member.tenure.as_ref().and_then(LeaseRecord::nonce);
            self.incarnations
                .note(&member.base, backend.incarnation(), nonce);
        }
        (self.dirty, self.unsaved) = (true, true);
        Some(member)
    }

    /// Applies an event to one backend; notes what has changed for the snapshot, the prober and the kept state.
    pub(super) fn step(
        &mut self,
        key: BackendKey,
        event: BackendEvent,
        now: Time,
    ) -> Vec<(BackendKey, BackendEffect)> {
        let Some(endpoint) = self.members.get(&key).map(|member| member.endpoint.clone()) else {
            return Vec::new();
        };
        if matches!(&event, BackendEvent::Drain(order) if order.actor != DrainActor::App) {
            // Before the requests in flight are counted: none may enter afterwards.
            endpoint.set_last_resort(false);
        }
        let before = self.core.get(&key).map(outline);
        let sessions = self.count_sessions(key, &event);
        let in_flight = endpoint.gate.in_flight();
        let kinds = endpoint.kinds.split(in_flight);
        let effects = self.core.step(
            &key,
            event,
            core_pool::BackendUsage {
                in_flight,
                sessions,
            },
            now,
        );
        if let Some(member) = self.members.get_mut(&key)
            && effects
                .iter()
                .any(|(_, effect)| *effect == BackendEffect::Cut)
        {
            // Counted before the cut, after which they are gone.
            member.cut = kinds;
        }
        let after = self.core.get(&key).map(outline);
        if before.map(|was| was.incarnation) != after.map(|is| is.incarnation) {
            // The new process does not know the sessions of the former one.
            endpoint.holders.clear();
        }
        let is_new =
            |(_, effect): &(_, BackendEffect)| matches!(effect, BackendEffect::NewEpoch(_));
        if effects.iter().any(is_new) {
            self.forget_outcomes(key);
        }
        self.set_last_resort(key);
        self.show_state(key);
        if before != after {
            self.dirty = true;
            self.unsaved |= before.map(|was| was.kept) != after.map(|is| is.kept);
        }
        self.refresh_cadence(key, false);
        effects
    }

    /// Tells the prober the cadence for the present state. `all`: the probers of all backends are told.
    fn refresh_cadence(&mut self, key: BackendKey, all: bool) {
        let (Some(backend), Some(member)) = (self.core.get(&key), self.members.get_mut(&key))
        else {
            return;
        };
        let interval = backend.probe_interval(self.core.policy());
        let in_doubt = interval != self.core.policy().interval;
        member.set_cadence(ProbeCadence {
            interval,
            keep: !matches!(
                backend.state(),
                DerivedState::Draining | DerivedState::Drained
            ),
            in_turn: all && backend.is_eligible() && !in_doubt,
        });
    }

    /// Returns the data plane's view; made anew only if something has changed.
    pub(super) fn snapshot(&mut self) -> Arc<PoolSnapshot> {
        if std::mem::take(&mut self.dirty) {
            self.capacity = None;
            let new = Arc::new(self.make_snapshot());
            self.past.push(std::mem::replace(&mut self.published, new));
        }
        self.published.clone()
    }

    /// Returns both parts of each backend. Both maps are in the order of their keys, so no lookup is needed.
    pub(super) fn both(&self) -> impl Iterator<Item = (&BackendEntry, &BackendState)> {
        self.both_from(Bound::Unbounded)
    }

    /// Returns both parts of each backend from one key on.
    pub(super) fn both_from(
        &self,
        from: Bound<BackendKey>,
    ) -> impl Iterator<Item = (&BackendEntry, &BackendState)> {
        let mut core = self.core.iter_from(from).peekable();
        let members = self.members.range((from, Bound::Unbounded));
        members.filter_map(move |(key, member)| {
            while core.next_if(|(other, _)| *other < key).is_some() {}
            let (_, backend) = core.next_if(|(other, _)| *other == key)?;
            Some((member, backend))
        })
    }

    fn make_snapshot(&mut self) -> PoolSnapshot {
        let all = self.all.take().unwrap_or_else(|| {
            let members = self.members.values();
            members.map(|member| member.endpoint.clone()).collect()
        });
        let mut ready = Vec::with_capacity(all.len());
        let mut last_resort = Vec::new();
        // Only a request that finds no backend checks for a pause, so pools that are not paused have no extra cost.
        let open = self.both().filter(|_| self.pause.is_none());
        for (member, backend) in open {
            if takes_requests((member, backend)) {
                ready.push((member.endpoint.clone(), self.rank(member)));
            } else if is_last_resort((member, backend)) && member.endpoint.weight() > 0 {
                last_resort.push(member.endpoint.clone());
            }
        }
        let BackendTiers {
            serving: ready,
            other_zones,
            standing_by: backups,
        } = BackendTiers::new(ready);
        let mut balancers = std::mem::take(&mut self.balancers);
        let mut prepare =
            |ready: &[Arc<Endpoint>]| balancers.prepare(&self.config, self.members.values(), ready);
        let balancer = prepare(&ready);
        let mut lower = |ready: Vec<Arc<Endpoint>>| {
            (!ready.is_empty()).then(|| {
                Box::new(LowerTier {
                    balancer: prepare(&ready),
                    ready,
                })
            })
        };
        let (other_zones, backups) = (lower(other_zones), lower(backups));
        self.balancers = balancers;
        PoolSnapshot {
            name: self.name.clone(),
            config: self.config.clone(),
            sticky: self.index_sessions(),
            backends: self.all.insert(all).clone(),
            last_resort,
            balancer,
            ready,
            other_zones,
            backups,
            pause: self.pause.clone(),
            watches_outcomes: self.outlier.is_some() || self.watches_latency(),
            shared: self.shared.clone(),
        }
    }

    /// Drops snapshots that are no longer used.
    pub(super) fn forget_past(&mut self) {
        self.past.retain(|pool| Arc::strong_count(pool) > 1);
    }

    /// Returns the queue in which the pool's requests wait.
    pub(super) fn queue(&self) -> &Arc<HoldQueue> {
        &self.shared.queue
    }

    /// Called after the snapshot was published: releases waiting requests if there is a backend for them.
    pub(super) fn published(&mut self) {
        self.releaser.published(self.published.ready.len());
        // If a backend is ready, the releaser releases requests gradually.
        if std::mem::take(&mut self.pause_changed) && self.published.ready.is_empty() {
            self.shared.queue.reconfigured.notify_waiters();
        }
    }
}

/// Whether the balancer uses the backend: it is eligible, not ejected, and its weight is not 0.
fn takes_requests((member, backend): (&BackendEntry, &BackendState)) -> bool {
    backend.is_eligible() && member.ejection.is_none() && member.endpoint.weight() > 0
}

/// Whether fail-open may use the backend.
fn is_last_resort((member, backend): (&BackendEntry, &BackendState)) -> bool {
    backend.may_fail_open() || (backend.is_eligible() && member.ejection.is_some())
}
