//! The registry's task: takes one message at a time, steps the core, and carries out what the core says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::{info, warn};

use super::endpoint::{Key, Signal};
use super::handle::{Command, Handle, Refusal, means, parse_duration};
use super::member::{Source, actor_name, state_name};
use super::persist;
use super::pool::PoolState;
use super::probing::Probing;
use super::snapshot::Snapshot;
use super::view::{DrainRequest, DrainResponse, EventView, RegisterRequest};
use crate::clock;
use crate::config::{Address, Config};
use crate::core::Time;
use crate::core::backend::{Effect, Event, State};
use crate::core::drain::{Actor, Order, Outcome, Until};
use crate::interrupt::Level;
use crate::proxy::route::RouteTable;

/// A supervisor's drain ends by itself this long after its deadline (a crashed deploy must not strand a backend).
const SUPERVISOR_GRACE: Duration = Duration::from_secs(60);

/// Messages handled before the next snapshot is published.
const BATCH: usize = 64;

/// What the registry tells the process around it.
pub trait Observer: Send {
    /// Every backend's first probe has ended.
    fn first_round_finished(&self);
    /// A backend registered (an app that restarted alone must not leave the proxy lame).
    fn registered(&self);
    /// Drains or registrations changed: keep them.
    fn persist(&self, state: persist::State);
    /// A drain ended.
    fn drain_ended(&self, pool: &str, response: &DrainResponse);
}

/// Starts the registry's task on the current runtime.
pub fn spawn(
    config: Arc<Config>,
    restored: persist::State,
    probing: impl FnOnce(&Handle) -> Box<dyn Probing>,
    observer: Box<dyn Observer>,
) -> Handle {
    let (commands, command_queue) = mpsc::unbounded_channel();
    let (signals, signal_queue) = mpsc::unbounded_channel();
    let handle = Handle {
        commands,
        snapshot: Arc::new(ArcSwap::from_pointee(Snapshot {
            config: config.clone(),
            routes: RouteTable::new(&[], &[] as &[&str]),
            pools: Vec::new(),
        })),
        events: broadcast::channel(1024).0,
    };
    let mut writer = Writer {
        pools: Vec::new(),
        config: config.clone(),
        next_key: 0,
        dirty: false,
        unsaved: false,
        first_round: true,
        probing: probing(&handle),
        observer,
        handle: handle.clone(),
        signals,
    };
    writer.apply(config);
    writer.restore(restored);
    writer.publish();
    tokio::spawn(writer.run(command_queue, signal_queue));
    handle
}

struct Writer {
    config: Arc<Config>,
    pools: Vec<PoolState>,
    next_key: u64,
    dirty: bool,
    unsaved: bool,
    first_round: bool,
    probing: Box<dyn Probing>,
    observer: Box<dyn Observer>,
    handle: Handle,
    signals: mpsc::UnboundedSender<Signal>,
}

impl Writer {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut signals: mpsc::UnboundedReceiver<Signal>,
    ) {
        loop {
            let deadline = self.pools.iter().filter_map(PoolState::next_deadline).min();
            let alarm = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(clock::instant(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                signal = signals.recv() => match signal {
                    Some(signal) => self.signal(signal),
                    None => return,
                },
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                () = alarm => self.tick(),
            }
            for _ in 0..BATCH {
                if let Ok(signal) = signals.try_recv() {
                    self.signal(signal);
                } else if let Ok(command) = commands.try_recv() {
                    self.command(command);
                } else {
                    break;
                }
            }
            self.settle();
        }
    }

    fn settle(&mut self) {
        if self.dirty {
            self.publish();
        }
        if self.unsaved {
            self.unsaved = false;
            self.observer.persist(self.keepsake());
        }
        if self.first_round && self.pools.iter().all(PoolState::first_round_finished) {
            self.first_round = false;
            self.observer.first_round_finished();
        }
    }

    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Quiesced { key, epoch } => self.step(key, Event::Quiesced { epoch }),
            Signal::Lost(key) => self.step(key, Event::Lost { requests: 1 }),
            Signal::PeerClosed(key) => self.step(key, Event::PeerClosed),
            Signal::Hint(key) => {
                if let Some(member) = self.pools.iter().find_map(|pool| pool.members.get(&key)) {
                    member.endpoint.hint_seen();
                }
                self.step(key, Event::Hint);
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Report { key, event, detail } => self.report(key, event, detail),
            Command::Views { reply } => {
                let views = self
                    .pools
                    .iter()
                    .filter(|pool| !pool.retired)
                    .map(PoolState::view);
                let _ = reply.send(views.collect());
            }
            Command::Drain {
                pool,
                name,
                request,
                remove,
                reply,
            } => {
                let _ = reply.send(self.drain(&pool, &name, &request, remove));
            }
            Command::Resume {
                pool,
                name,
                all,
                reply,
            } => {
                let outcome = self.find(&pool, &name).map(|keys| {
                    for key in keys {
                        self.step(key, Event::Resume { all });
                        self.unsaved = true;
                    }
                });
                let _ = reply.send(outcome);
            }
            Command::Register {
                pool,
                name,
                request,
                reply,
            } => {
                let _ = reply.send(self.register(&pool, &name, &request));
            }
            Command::Apply { config, reply } => {
                let _ = reply.send(self.apply(config));
            }
        }
    }

    fn report(&mut self, key: Key, event: Event, detail: String) {
        let Some(member) = self
            .pools
            .iter_mut()
            .find_map(|pool| pool.members.get_mut(&key))
        else {
            return;
        };
        if matches!(event, Event::Probed { .. }) {
            member.probed = true;
            member.last_probe = Some(detail);
        }
        self.step(key, event);
    }

    fn step(&mut self, key: Key, event: Event) {
        let now = clock::now();
        let Some(pool) = self
            .pools
            .iter_mut()
            .find(|pool| pool.members.contains_key(&key))
        else {
            return;
        };
        let open_to_failures = |pool: &PoolState| {
            let backend = pool.core.get(&key);
            backend.is_some_and(|backend| backend.may_fail_open())
        };
        let before = open_to_failures(pool);
        let effects = pool.step(key, event, now);
        // An operator's drain on top of the app's own changes no state, and yet ends fail-open.
        self.dirty |= before != open_to_failures(pool);
        self.carry_out(effects);
    }

    fn tick(&mut self) {
        let now = clock::now();
        let effects: Vec<_> = self
            .pools
            .iter_mut()
            .flat_map(|pool| pool.tick(now))
            .collect();
        // A drain that has expired may have been all that kept fail-open away.
        self.dirty = true;
        self.carry_out(effects);
    }

    /// Carries out effects; a backend that turns out to be quiet is told so at once.
    fn carry_out(&mut self, effects: Vec<(Key, Effect)>) {
        let mut touched = BTreeMap::new();
        for (key, effect) in effects {
            touched.insert(key, ());
            self.effect(key, effect);
        }
        for key in touched.into_keys() {
            let Some(pool) = self
                .pools
                .iter_mut()
                .find(|pool| pool.members.contains_key(&key))
            else {
                continue;
            };
            pool.refresh_cadence(key);
            let Some(member) = pool.members.get(&key) else {
                continue;
            };
            if pool
                .core
                .get(&key)
                .is_some_and(|backend| backend.state() == State::Draining)
                && member.endpoint.is_quiet()
            {
                let epoch = member.endpoint.epoch();
                let _ = self.signals.send(Signal::Quiesced { key, epoch });
            }
        }
    }

    fn effect(&mut self, key: Key, effect: Effect) {
        let Some(pool) = self
            .pools
            .iter_mut()
            .find(|pool| pool.members.contains_key(&key))
        else {
            return;
        };
        let Some(member) = pool.members.get_mut(&key) else {
            return;
        };
        let endpoint = member.endpoint.clone();
        match effect {
            Effect::OpenGate => {
                endpoint.gate.open();
                member.draining_since = None;
                endpoint.mark_ready(clock::now());
                self.dirty = true;
            }
            Effect::CloseGate => {
                endpoint.gate.close();
                self.dirty = true;
            }
            Effect::NewEpoch(epoch) => endpoint.begin_epoch(epoch),
            Effect::ProbeNow => member.prober.now(),
            Effect::EndStreams {
                from,
                until,
                restarting,
            } => {
                let level = if restarting {
                    Level::EndRestart
                } else {
                    Level::End
                };
                endpoint.connections.raise_spread(level, from, until);
            }
            Effect::Cut => endpoint.connections.raise(Level::Cut),
            Effect::Announce(outcome) => {
                let response = member.announce(outcome);
                let (pool_name, gone) = (
                    pool.name.clone(),
                    member.leaving && outcome != Outcome::Resumed,
                );
                info!(pool = %pool_name, backend = %endpoint.name, outcome = %response.outcome,
                      cut = response.cut, lost = response.lost, "drain ended");
                self.observer.drain_ended(&pool_name, &response);
                self.event(
                    "drain",
                    Some((&pool_name, &endpoint.name)),
                    None,
                    Some(response.outcome),
                    "the drain ended".to_owned(),
                );
                if gone {
                    self.remove(key);
                }
            }
            Effect::Changed {
                from,
                to,
                reason,
                alert,
            } => {
                self.dirty = true;
                let pool_name = pool.name.clone();
                let draining = matches!(to, State::Draining | State::Drained);
                if draining && member.draining_since.is_none() {
                    member.draining_since = Some(clock::now());
                }
                let actors = pool.actors(key);
                let (old, new) = (state_name(from), state_name(to));
                if alert {
                    warn!(pool = %pool_name, backend = %endpoint.name, from = old, to = new, actor = actors,
                          alert, reason, "state changed");
                } else {
                    info!(pool = %pool_name, backend = %endpoint.name, from = old, to = new, actor = actors,
                          reason, "state changed");
                }
                self.event(
                    "state",
                    Some((&pool_name, &endpoint.name)),
                    Some(old.to_owned()),
                    Some(new.to_owned()),
                    reason,
                );
            }
        }
    }

    fn drain(
        &mut self,
        pool: &str,
        name: &str,
        request: &DrainRequest,
        remove: bool,
    ) -> Result<Vec<oneshot::Receiver<DrainResponse>>, Refusal> {
        let keys = self.find(pool, name)?;
        let default = self.pool_mut(pool)?.config.drain.deadline;
        let order = order(request, default, clock::now())?;
        if remove {
            self.refuse_configured(pool, name, &keys)?;
        }
        let mut endings = Vec::new();
        for key in keys {
            let (sender, receiver) = oneshot::channel();
            endings.push(receiver);
            let Ok(pool) = self.pool_mut(pool) else {
                continue;
            };
            let quiet = pool
                .core
                .get(&key)
                .is_some_and(|backend| backend.state() == State::Drained);
            if let Some(member) = pool.members.get_mut(&key) {
                member.leaving |= remove;
                member.waiters.push(sender);
            }
            self.step(key, Event::Drain(order.clone()));
            if quiet {
                // It was announced when it happened; who asks afterwards is told now.
                self.effect(key, Effect::Announce(Outcome::Drained));
            }
        }
        self.unsaved = true;
        Ok(endings)
    }

    fn refuse_configured(&self, pool: &str, name: &str, keys: &[Key]) -> Result<(), Refusal> {
        let configured = self
            .pools
            .iter()
            .any(|state| keys.iter().any(|key| state.is_configured(*key)));
        if configured {
            return Err(Refusal::Conflict(format!(
                "`{pool}/{name}` is in the configuration file: remove it there and reload, or `lameduck drain` it"
            )));
        }
        Ok(())
    }

    fn register(
        &mut self,
        pool: &str,
        name: &str,
        request: &RegisterRequest,
    ) -> Result<(), Refusal> {
        let address = request
            .address
            .parse::<Address>()
            .map_err(|error| Refusal::Invalid(error.to_string()))?;
        crate::config::check_name(name).map_err(Refusal::Invalid)?;
        let weight = request.weight.unwrap_or(1);
        if weight > 1000 {
            return Err(Refusal::Invalid(format!(
                "weight {weight} is out of range: use 0 to 1000"
            )));
        }
        let now = clock::now();
        let deadline = {
            let state = self.pool_mut(pool)?;
            if state.is_configured_name(name) {
                return Err(Refusal::Conflict(format!(
                    "`{pool}/{name}` is in the configuration file; registered backends need a name of their own"
                )));
            }
            now + state.config.drain.deadline
        };
        let state = self.pool_mut(pool)?;
        if let Some(key) = state.registered(name, &address) {
            let unchanged = state
                .core
                .get(&key)
                .is_some_and(|backend| backend.is_eligible());
            if let Some(member) = state.members.get(&key) {
                member.endpoint.set_weight(weight);
            }
            if !unchanged {
                self.step(key, Event::Replaced);
            }
        } else {
            let old = state.current(name);
            let key = self.add(pool, name, address, weight, Source::Api);
            if let Some(old) = old {
                self.leave(
                    old,
                    deadline,
                    format!("replaced by another address ({})", request.address),
                );
            }
            let shown = self.shown(key);
            self.event(
                "registered",
                Some((pool, &shown)),
                None,
                None,
                format!("at {}", request.address),
            );
        }
        self.observer.registered();
        self.unsaved = true;
        self.dirty = true;
        Ok(())
    }

    fn add(
        &mut self,
        pool: &str,
        name: &str,
        address: Address,
        weight: u32,
        source: Source,
    ) -> Key {
        let key = Key(self.next_key);
        self.next_key += 1;
        let (signals, probing) = (self.signals.clone(), &*self.probing);
        if let Some(state) = self
            .pools
            .iter_mut()
            .find(|state| &*state.name == pool && !state.retired)
        {
            state.add(key, name, address, weight, source, signals, probing);
        }
        self.dirty = true;
        key
    }

    /// Drains a backend and removes it afterwards.
    fn leave(&mut self, key: Key, deadline: Time, reason: String) {
        let Some(pool) = self
            .pools
            .iter_mut()
            .find(|pool| pool.members.contains_key(&key))
        else {
            return;
        };
        let drained = pool
            .core
            .get(&key)
            .is_some_and(|backend| backend.state() == State::Drained);
        if let Some(member) = pool.members.get_mut(&key) {
            member.leaving = true;
        }
        if drained {
            self.remove(key);
            return;
        }
        let order = Order {
            actor: Actor::Config,
            id: "leaving".to_owned(),
            reason,
            deadline: Some(deadline),
            until: Until::Resumed,
            expires: None,
        };
        self.step(key, Event::Drain(order));
    }

    fn remove(&mut self, key: Key) {
        for pool in &mut self.pools {
            let Some(mut member) = pool.members.remove(&key) else {
                continue;
            };
            pool.core.remove(&key);
            member.announce(Outcome::Drained);
            member.endpoint.gate.close();
            member.endpoint.begin_epoch(u64::MAX);
            member.endpoint.connections.raise(Level::Cut);
            let (pool, name) = (pool.name.clone(), member.endpoint.name.clone());
            self.event(
                "deregistered",
                Some((&pool, &name)),
                None,
                None,
                "it has left".to_owned(),
            );
            self.dirty = true;
            self.unsaved = true;
            break;
        }
        self.pools
            .retain(|pool| !(pool.retired && pool.members.is_empty()));
    }

    /// Makes pools and backends agree with a configuration; says what changed.
    fn apply(&mut self, config: Arc<Config>) -> Vec<String> {
        let now = clock::now();
        let mut changes: Vec<String> = crate::config::diff(&self.config, &config)
            .changes
            .iter()
            .map(ToString::to_string)
            .collect();
        let first = self.pools.is_empty();
        for pool in &config.pools {
            match self
                .pools
                .iter_mut()
                .find(|state| *state.name == *pool.name && !state.retired)
            {
                Some(state) => state.reconfigure(Arc::new(pool.clone()), &*self.probing),
                None => self.pools.push(PoolState::new(Arc::new(pool.clone()))),
            }
            let Ok(state) = self.pool_mut(&pool.name) else {
                continue;
            };
            let difference = state.compare(pool);
            for (key, reason) in difference.leaving {
                self.leave(key, now + pool.drain.deadline, reason);
            }
            for backend in difference.joining {
                self.add(
                    &pool.name,
                    &backend.name,
                    backend.address,
                    backend.weight,
                    Source::Config,
                );
            }
        }
        let gone: Vec<_> = self
            .pools
            .iter_mut()
            .filter(|state| !config.pools.iter().any(|pool| *pool.name == *state.name))
            .flat_map(|state| {
                state.retired = true;
                let deadline = now + state.config.drain.deadline;
                state
                    .members
                    .keys()
                    .map(move |key| (*key, deadline))
                    .collect::<Vec<_>>()
            })
            .collect();
        for (key, deadline) in gone {
            self.leave(
                key,
                deadline,
                "its pool is no longer in the configuration".to_owned(),
            );
        }
        self.pools
            .retain(|pool| !(pool.retired && pool.members.is_empty()));
        self.config = config;
        self.dirty = true;
        if first {
            changes.clear();
        } else {
            self.event(
                "config",
                None,
                None,
                None,
                format!("{} changes", changes.len()),
            );
        }
        changes
    }

    fn restore(&mut self, state: persist::State) {
        for kept in state.registrations {
            let request = RegisterRequest {
                address: kept.address,
                weight: Some(kept.weight),
                wait: None,
            };
            if let Err(refusal) = self.register(&kept.pool, &kept.name, &request) {
                warn!(pool = kept.pool, backend = kept.name, %refusal, "a registration could not be restored");
            }
        }
        for kept in state.drains {
            let Ok(keys) = self.find(&kept.pool, &kept.backend) else {
                warn!(
                    pool = kept.pool,
                    backend = kept.backend,
                    "a drain could not be restored: no such backend"
                );
                continue;
            };
            for key in keys {
                self.step(key, Event::Drain(kept.drain.order()));
            }
        }
        self.unsaved = false;
    }

    fn keepsake(&self) -> persist::State {
        let mut state = persist::State::default();
        for pool in self.pools.iter().filter(|pool| !pool.retired) {
            pool.keep(&mut state);
        }
        state
    }

    fn publish(&mut self) {
        self.dirty = false;
        let pools: Vec<_> = self
            .pools
            .iter_mut()
            .filter(|pool| !pool.retired)
            .map(PoolState::snapshot)
            .collect();
        let names: Vec<&str> = pools.iter().map(|pool| &*pool.name).collect();
        let routes = RouteTable::new(&self.config.routes, &names);
        self.handle.snapshot.store(Arc::new(Snapshot {
            config: self.config.clone(),
            routes,
            pools,
        }));
        for pool in &mut self.pools {
            pool.release_held();
        }
    }

    fn find(&self, pool: &str, name: &str) -> Result<Vec<Key>, Refusal> {
        let state = self.pool(pool)?;
        let keys: Vec<_> = state
            .members
            .iter()
            .filter(|(_, member)| means(name, &member.endpoint.name))
            .map(|(key, _)| *key)
            .collect();
        if keys.is_empty() {
            let known: Vec<_> = state
                .members
                .values()
                .map(|member| &*member.endpoint.name)
                .collect();
            return Err(Refusal::UnknownBackend {
                pool: pool.to_owned(),
                name: name.to_owned(),
                known: if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                },
            });
        }
        Ok(keys)
    }

    fn pool(&self, name: &str) -> Result<&PoolState, Refusal> {
        self.pools
            .iter()
            .find(|pool| &*pool.name == name && !pool.retired)
            .ok_or_else(|| {
                let known: Vec<_> = self.pools.iter().map(|pool| &*pool.name).collect();
                Refusal::UnknownPool {
                    name: name.to_owned(),
                    known: known.join(", "),
                }
            })
    }

    fn pool_mut(&mut self, name: &str) -> Result<&mut PoolState, Refusal> {
        self.pool(name)?;
        self.pools
            .iter_mut()
            .find(|pool| &*pool.name == name && !pool.retired)
            .ok_or(Refusal::ShuttingDown)
    }

    fn shown(&self, key: Key) -> String {
        let member = self.pools.iter().find_map(|pool| pool.members.get(&key));
        member
            .map(|member| member.endpoint.name.to_string())
            .unwrap_or_default()
    }

    fn event(
        &self,
        kind: &str,
        whom: Option<(&str, &str)>,
        from: Option<String>,
        to: Option<String>,
        reason: String,
    ) {
        let _ = self.handle.events.send(Arc::new(EventView {
            kind: kind.to_owned(),
            time: clock::rfc3339(clock::wall(clock::now())),
            pool: whom.map(|(pool, _)| pool.to_owned()),
            backend: whom.map(|(_, backend)| backend.to_owned()),
            from,
            to,
            reason,
        }));
    }
}

/// A drain request as the core takes it: names become types, durations become times.
fn order(request: &DrainRequest, default: Duration, now: Time) -> Result<Order, Refusal> {
    let duration = |text: &Option<String>| text.as_deref().map(parse_duration).transpose();
    let timeout = duration(&request.timeout)?.unwrap_or(default);
    let actor = match request.actor.as_deref() {
        None | Some("operator") => Actor::Operator,
        Some("supervisor") => Actor::Supervisor,
        Some(other) => {
            return Err(Refusal::Invalid(format!(
                "actor `{other}` can't ask for a drain: use \"operator\" or \"supervisor\""
            )));
        }
    };
    let until = match request.until.as_deref() {
        None | Some("resumed") => Until::Resumed,
        Some("restarted") => Until::Restarted,
        Some(other) => {
            return Err(Refusal::Invalid(format!(
                "until `{other}` is not known: use \"resumed\" or \"restarted\""
            )));
        }
    };
    let expires = match duration(&request.expires)? {
        Some(expires) => Some(now + expires),
        None if actor == Actor::Supervisor => Some(now + timeout + SUPERVISOR_GRACE),
        None => None,
    };
    Ok(Order {
        actor,
        id: request
            .id
            .clone()
            .unwrap_or_else(|| actor_name(actor).to_owned()),
        reason: request
            .reason
            .clone()
            .unwrap_or_else(|| format!("asked by {}", actor_name(actor))),
        deadline: Some(now + timeout),
        until,
        expires,
    })
}
