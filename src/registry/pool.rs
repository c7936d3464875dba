//! One pool as the registry keeps it: the core's backends, and each one's run-time side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;

use super::endpoint::{Endpoint, Key, Signal};
use super::member::{Member, Source, actor_name, address_text};
use super::persist;
use super::probing::{Cadence, Probing};
use super::snapshot::{Pool, PoolShared};
use super::view::PoolView;
use crate::clock;
use crate::config::{self, Address};
use crate::core::Time;
use crate::core::backend::{Effect, Event, Policy, State};
use crate::core::balance::{Algorithm, Balancer};
use crate::core::drain::Actor;
use crate::core::hold::Pacer;
use crate::core::pool as core_pool;
use crate::core::retry::{AtomicBudget, Rates};
use crate::telemetry::metrics::PoolCounters;

/// When permits that nobody took are taken back.
const LEFTOVER: Duration = Duration::from_millis(50);

/// A pool's backends and what they share.
pub struct PoolState {
    /// Its name.
    pub name: Arc<str>,
    /// Its settings.
    pub config: Arc<config::Pool>,
    /// The state machines.
    pub core: core_pool::Pool<Key>,
    /// Each backend's run-time side.
    pub members: BTreeMap<Key, Member>,
    /// No longer configured; goes with its last backend.
    pub retired: bool,
    shared: Arc<PoolShared>,
    health: Arc<config::Health>,
    releasing: Option<tokio::task::JoinHandle<()>>,
    ready: usize,
}

/// What a configuration asks of a pool's backends.
#[derive(Default)]
pub struct Difference {
    /// To be drained and removed, with the reason.
    pub leaving: Vec<(Key, String)>,
    /// To be added.
    pub joining: Vec<config::Backend>,
}

impl PoolState {
    /// A pool without backends.
    pub fn new(config: Arc<config::Pool>) -> Self {
        Self {
            name: config.name.as_str().into(),
            core: core_pool::Pool::new(policy(&config)),
            members: BTreeMap::new(),
            retired: false,
            shared: Arc::new(PoolShared {
                cursor: AtomicU64::new(0),
                held: AtomicUsize::new(0),
                held_bytes: AtomicU64::new(0),
                release: Semaphore::new(0),
                budget: AtomicBudget::new(Rates::with_ratio(config.retry.budget), clock::now()),
                counters: PoolCounters::default(),
            }),
            health: Arc::new(config.health.clone()),
            releasing: None,
            ready: 0,
            config,
        }
    }

    /// Takes new settings; probers are started anew only if the check itself changed.
    pub fn reconfigure(&mut self, config: Arc<config::Pool>, probing: &dyn Probing) {
        self.core.set_policy(policy(&config));
        let probe_changed = *self.health != config.health;
        self.health = Arc::new(config.health.clone());
        self.config = config;
        if probe_changed {
            for member in self.members.values_mut() {
                member.prober =
                    probing.start(member.endpoint.clone(), self.health.clone(), member.cadence);
            }
        }
    }

    /// What the configuration asks for, beside what there is. Weights are taken over on the spot.
    pub fn compare(&mut self, wanted: &config::Pool) -> Difference {
        let mut difference = Difference::default();
        let configured = |member: &&Member| member.source == Source::Config && !member.leaving;
        for (key, member) in self.members.iter().filter(|(_, member)| configured(member)) {
            match wanted
                .backends
                .iter()
                .find(|backend| backend.name == member.base)
            {
                None => {
                    difference
                        .leaving
                        .push((*key, "no longer in the configuration".to_owned()));
                }
                Some(backend) if backend.address != member.endpoint.address => {
                    let reason = format!("moved to {}", address_text(&backend.address));
                    difference.leaving.push((*key, reason));
                    difference.joining.push(backend.clone());
                }
                Some(backend) => member.endpoint.set_weight(backend.weight),
            }
        }
        for backend in &wanted.backends {
            if !self
                .members
                .values()
                .filter(configured)
                .any(|member| member.base == backend.name)
            {
                difference.joining.push(backend.clone());
            }
        }
        difference
    }

    /// Adds a backend; it starts closed and is probed at once.
    #[allow(
        clippy::too_many_arguments,
        reason = "one call site; a struct would only rename them"
    )]
    pub fn add(
        &mut self,
        key: Key,
        name: &str,
        address: Address,
        weight: u32,
        source: Source,
        signals: UnboundedSender<Signal>,
        probing: &dyn Probing,
    ) {
        let shown = self.free_name(name);
        let endpoint = Arc::new(Endpoint::new(
            key,
            self.name.clone(),
            shown.into(),
            address,
            weight,
            signals,
        ));
        self.core.insert(key, clock::now());
        let cadence = Cadence {
            interval: self.config.health.fast_interval,
            keep: true,
        };
        self.members.insert(
            key,
            Member {
                prober: probing.start(endpoint.clone(), self.health.clone(), cadence),
                endpoint,
                base: name.to_owned(),
                source,
                cadence,
                last_probe: None,
                probed: false,
                waiters: Vec::new(),
                draining_since: None,
                leaving: false,
            },
        );
    }

    fn free_name(&self, name: &str) -> String {
        let taken = |shown: &str| {
            self.members
                .values()
                .any(|member| &*member.endpoint.name == shown)
        };
        if !taken(name) {
            return name.to_owned();
        }
        (2u32..)
            .map(|n| format!("{name}~{n}"))
            .find(|shown| !taken(shown))
            .unwrap_or_default()
    }

    /// Steps one backend.
    pub fn step(&mut self, key: Key, event: Event, now: Time) -> Vec<(Key, Effect)> {
        let in_flight = self
            .members
            .get(&key)
            .map_or(0, |member| member.endpoint.gate.in_flight());
        self.core.step(&key, event, in_flight, now)
    }

    /// Steps whatever is due.
    pub fn tick(&mut self, now: Time) -> Vec<(Key, Effect)> {
        let members = &self.members;
        self.core.tick(now, |key| {
            members
                .get(key)
                .map_or(0, |member| member.endpoint.gate.in_flight())
        })
    }

    /// When [`PoolState::tick`] is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.core.next_deadline()
    }

    /// Tells the prober what the state asks for.
    pub fn refresh_cadence(&mut self, key: Key) {
        let (Some(backend), Some(member)) = (self.core.get(&key), self.members.get_mut(&key))
        else {
            return;
        };
        member.set_cadence(Cadence {
            interval: backend.probe_interval(self.core.policy()),
            keep: !matches!(backend.state(), State::Draining | State::Drained),
        });
    }

    /// Whether each backend has been probed once.
    pub fn first_round_finished(&self) -> bool {
        self.members.values().all(|member| member.probed)
    }

    /// Whether the backend is from the configuration.
    pub fn is_configured(&self, key: Key) -> bool {
        self.members
            .get(&key)
            .is_some_and(|member| member.source == Source::Config)
    }

    /// Whether the configuration has a backend of that name.
    pub fn is_configured_name(&self, name: &str) -> bool {
        self.config
            .backends
            .iter()
            .any(|backend| backend.name == name)
    }

    /// The registered backend of that name that stays.
    pub fn current(&self, name: &str) -> Option<Key> {
        let stays = |member: &Member| member.base == name && !member.leaving;
        self.members
            .iter()
            .rev()
            .find(|(_, member)| stays(member))
            .map(|(key, _)| *key)
    }

    /// The registered backend of that name and address that stays.
    pub fn registered(&self, name: &str, address: &Address) -> Option<Key> {
        self.current(name).filter(|key| {
            self.members
                .get(key)
                .is_some_and(|member| member.endpoint.address == *address)
        })
    }

    /// Who drains it, for the log.
    pub fn actors(&self, key: Key) -> String {
        let Some(backend) = self.core.get(&key) else {
            return String::new();
        };
        backend
            .drains()
            .map(|(_, drain)| actor_name(drain.actor))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// As people see it.
    pub fn view(&self) -> PoolView {
        PoolView {
            name: self.name.to_string(),
            balance: match self.config.balance {
                config::Balance::LeastRequests => "least_requests",
                config::Balance::RoundRobin => "round_robin",
                config::Balance::Random => "random",
            }
            .to_owned(),
            eligible: self.ready,
            held: self.shared.held.load(Ordering::Relaxed),
            backends: self
                .members
                .iter()
                .filter_map(|(key, member)| self.core.get(key).map(|backend| member.view(backend)))
                .collect(),
        }
    }

    /// As the data plane sees it.
    pub fn snapshot(&mut self) -> Arc<Pool> {
        let mut pool = Pool {
            name: self.name.clone(),
            config: self.config.clone(),
            backends: Vec::with_capacity(self.members.len()),
            ready: Vec::new(),
            last_resort: Vec::new(),
            balancer: Balancer::new(Algorithm::Random, &[]),
            shared: self.shared.clone(),
        };
        for (key, member) in &self.members {
            let Some(backend) = self.core.get(key) else {
                continue;
            };
            pool.backends.push(member.endpoint.clone());
            if backend.is_eligible() {
                pool.ready.push(member.endpoint.clone());
            } else if backend.may_fail_open() {
                pool.last_resort.push(member.endpoint.clone());
            }
        }
        let weights: Vec<u32> = pool
            .ready
            .iter()
            .map(|endpoint| endpoint.weight())
            .collect();
        pool.balancer = Balancer::new(
            match self.config.balance {
                config::Balance::LeastRequests => Algorithm::LeastRequests,
                config::Balance::RoundRobin => Algorithm::RoundRobin,
                config::Balance::Random => Algorithm::Random,
            },
            &weights,
        );
        self.ready = pool.ready.len();
        Arc::new(pool)
    }

    /// Lets waiting requests go, at a pace that does not run a cold instance over.
    pub fn release_held(&mut self) {
        let running = self
            .releasing
            .as_ref()
            .is_some_and(|task| !task.is_finished());
        if self.ready == 0 {
            if let Some(task) = self.releasing.take() {
                task.abort();
            }
            self.shared.release.forget_permits(usize::MAX);
            return;
        }
        if running || self.shared.held.load(Ordering::SeqCst) == 0 {
            return;
        }
        let (shared, ready) = (self.shared.clone(), self.ready);
        self.releasing = Some(tokio::spawn(async move {
            let mut pacer = Pacer::new();
            loop {
                let held = shared.held.load(Ordering::SeqCst);
                let release = pacer.release(held, ready, clock::now());
                shared.release.add_permits(release.count);
                let Some(again) = release.again else { break };
                tokio::time::sleep_until(clock::instant(again)).await;
            }
            // Those that were let go take their permits now; what is left over would let later ones jump.
            tokio::time::sleep(LEFTOVER).await;
            shared.release.forget_permits(usize::MAX);
        }));
    }

    /// What has to survive a restart of the proxy.
    pub fn keep(&self, state: &mut persist::State) {
        for (key, member) in self.members.iter().filter(|(_, member)| !member.leaving) {
            if member.source == Source::Api {
                state.registrations.push(persist::Registration {
                    pool: self.name.to_string(),
                    name: member.base.clone(),
                    address: address_text(&member.endpoint.address),
                    weight: member.endpoint.weight(),
                });
            }
            let Some(backend) = self.core.get(key) else {
                continue;
            };
            for (_, drain) in backend
                .drains()
                .filter(|(_, drain)| drain.actor != Actor::App)
            {
                state.drains.push(persist::KeptDrain {
                    pool: self.name.to_string(),
                    backend: member.endpoint.name.to_string(),
                    drain: persist::Drain::from(drain),
                });
            }
        }
    }
}

/// The core's numbers, from the configuration.
fn policy(config: &config::Pool) -> Policy {
    let health = &config.health;
    Policy {
        rise: health.rise,
        fall: health.fall,
        fall_timeout: health.fall_timeout,
        interval: health.interval,
        fast_interval: health.fast_interval,
        absent_after: health.absent_after,
        cut_on_503: config.drain.cut_on_503,
        drain_deadline: config.drain.deadline,
        close_spread: config.drain.close_spread,
    }
}
