//! The registry's task: processes one message at a time, steps the core, and carries out its effects.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, mpsc, watch};
use tracing::{error, info, warn};

use super::command::RegistryCommand;
use super::endpoint::{BackendKey, Endpoint, Wakeup};
use super::hand_over::{HandOverState, PredecessorWord};
use super::handed::HandedRegistry;
use super::handle::RegistryHandle;
use super::kept_drains::KeptDrains;
use super::live_figures::LiveFigures;
use super::observer::RegistryObserver;
use super::own_listeners::OwnListeners;
use super::persist;
use super::pool::PoolState;
use super::probing::ProbeStarter;
use super::restart_board::RestartBoard;
use super::restarts::{LeftBackends, StepSigns};
use super::roll::RollUnderWay;
use super::snapshot::{HoldQueue, Snapshot};
use super::split_plans::RunningPlan;
use super::splits::MovedSplit;
use super::supervised::SupervisorBoard;
use crate::config::Config;
use crate::core::Time;
use crate::core::backend::{BackendEffect, BackendEvent, DerivedState};
use crate::registry::event_kind::EventKind;
use crate::registry::routes::RouteTable;
use crate::rt::clock;
use crate::rt::shutdown_signal::ShutdownLevel;

/// Most messages that are processed before the next snapshot is published, in small installations.
const BATCH: usize = 64;
/// With many backends, the number of backends per such message: a snapshot costs more, the more backends there are,
/// and when thousands are probed for the first time, each probe would otherwise pay for one.
const SHARE: usize = 16;

/// Pause of the timers after an internal error, so that a recurring error does not keep the task busy.
const RECOVERY: Duration = Duration::from_secs(1);

/// Starts the registry's task on the current runtime.
pub fn spawn(
    config: Arc<Config>,
    restored: persist::KeptState,
    own_key: persist::OwnKeySource,
    probing: impl FnOnce(&RegistryHandle) -> Box<dyn ProbeStarter>,
    observer: Box<dyn RegistryObserver>,
) -> RegistryHandle {
    let handed = HandedRegistry {
        kept: restored,
        ..HandedRegistry::default()
    };
    take_over(config, handed, None, own_key, probing, observer)
}

/// Starts the task with the state of another process. `predecessor`: receives drains, opened backends and pauses, for
/// as long as that process has requests.
pub fn take_over(
    config: Arc<Config>,
    handed: HandedRegistry,
    predecessor: Option<mpsc::UnboundedSender<PredecessorWord>>,
    own_key: persist::OwnKeySource,
    probing: impl FnOnce(&RegistryHandle) -> Box<dyn ProbeStarter>,
    observer: Box<dyn RegistryObserver>,
) -> RegistryHandle {
    let (commands, command_queue) = mpsc::unbounded_channel();
    let (signals, signal_queue) = mpsc::unbounded_channel();
    let routes: Arc<RouteTable> = Arc::default();
    let (tell_handed_over, handed_over) = watch::channel(false);
    let handle = RegistryHandle {
        commands,
        snapshot: Arc::new(ArcSwap::from_pointee(Snapshot {
            config: config.clone(),
            routes: routes.clone(),
            pools: Vec::new(),
        })),
        events: broadcast::channel(1024).0,
        owner: None,
        own: OwnListeners::default(),
        saves: observer.saves(),
        live: LiveFigures::default(),
        restarts: RestartBoard::default(),
        supervisors: SupervisorBoard::default(),
        handed_over,
    };
    let mut writer = RegistryWriter {
        pools: Vec::new(),
        homes: HashMap::new(),
        config: config.clone(),
        routes,
        kept: KeptDrains::default(),
        owned: HashMap::new(),
        rolls: HashMap::new(),
        splits: BTreeMap::new(),
        plans: BTreeMap::new(),
        own_key: Arc::new(own_key),
        next_key: 0,
        dirty: false,
        unsaved: false,
        first_round: true,
        outbox: Vec::new(),
        reconfigured: Vec::new(),
        probing: probing(&handle),
        observer,
        handle: handle.clone(),
        signals,
        hand_over: HandOverState::new(tell_handed_over),
        left: LeftBackends::default(),
    };
    writer.begin_with(handed, predecessor, config);
    writer.publish();
    tokio::spawn(writer.process_commands(command_queue, signal_queue));
    handle
}

/// A message that is sent after the snapshot is published, so that its receiver finds the change there.
type Message = Box<dyn FnOnce() + Send>;

pub(super) struct RegistryWriter {
    pub config: Arc<Config>,
    pub routes: Arc<RouteTable>,
    pub pools: Vec<PoolState>,
    /// Index into `pools` for each backend.
    pub homes: HashMap<BackendKey, usize>,
    /// Drains of the last run whose backends have not come back.
    pub kept: KeptDrains,
    /// Number of backends that each user's apps have registered.
    pub owned: HashMap<u32, usize>,
    /// Rolls in progress, by pool.
    pub rolls: HashMap<String, RollUnderWay>,
    /// Weights of splits that were moved at run time, by route.
    pub splits: BTreeMap<String, MovedSplit>,
    /// Running plans that move splits, and the last plan of each route, by route.
    pub plans: BTreeMap<String, RunningPlan>,
    /// Key that sessions are signed with if none is configured.
    pub own_key: Arc<persist::OwnKeySource>,
    pub next_key: u64,
    pub dirty: bool,
    pub unsaved: bool,
    first_round: bool,
    pub outbox: Vec<Message>,
    /// Queues whose requests have to be woken when the snapshot of another configuration is published.
    pub reconfigured: Vec<Arc<HoldQueue>>,
    pub probing: Box<dyn ProbeStarter>,
    pub observer: Box<dyn RegistryObserver>,
    pub handle: RegistryHandle,
    pub signals: mpsc::UnboundedSender<Wakeup>,
    pub hand_over: HandOverState,
    /// Restarts whose backends have left, until others with their names are ready.
    pub left: LeftBackends,
}

impl RegistryWriter {
    async fn process_commands(
        mut self,
        mut commands: mpsc::UnboundedReceiver<RegistryCommand>,
        mut signals: mpsc::UnboundedReceiver<Wakeup>,
    ) {
        let mut not_before = Time::ZERO;
        loop {
            let published = self.guarded(Self::publish_if_changed);
            if !self.guarded(Self::save_and_announce) || !published {
                not_before = clock::now() + RECOVERY;
            }
            let deadline = self.next_deadline().map(|at| at.max(not_before));
            let alarm = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(clock::instant(at)).await,
                    None => std::future::pending().await,
                }
            };
            let mut sound = true;
            tokio::select! {
                biased;
                signal = signals.recv() => match signal {
                    Some(signal) => sound &= self.guarded(|writer| writer.signal(signal)),
                    None => return,
                },
                command = commands.recv() => match command {
                    Some(command) => sound &= self.guarded(|writer| writer.command(command)),
                    None => return,
                },
                () = alarm => {}
            }
            for _ in 0..BATCH.max(self.homes.len() / SHARE) {
                if let Ok(signal) = signals.try_recv() {
                    sound &= self.guarded(|writer| writer.signal(signal));
                } else if let Ok(command) = commands.try_recv() {
                    sound &= self.guarded(|writer| writer.command(command));
                } else {
                    break;
                }
            }
            // Timers are checked however many messages there are.
            if deadline.is_some_and(|at| at <= clock::now()) {
                sound &= self.guarded(Self::tick);
            }
            if !sound {
                not_before = clock::now() + RECOVERY;
            }
        }
    }

    /// Catches a panic in `act`, which must not end the task: no gate would be closed any more. Returns whether `act`
    /// succeeded; if not, callers that wait for its answer get [`super::RegistryError::Failed`].
    fn guarded(&mut self, act: impl FnOnce(&mut Self)) -> bool {
        let sound = catch_unwind(AssertUnwindSafe(|| act(self))).is_ok();
        if !sound {
            error!("a fault in lameduck itself: please report what the log says before this line");
            self.pools.iter_mut().for_each(|pool| pool.dirty = true);
        }
        sound
    }

    fn next_deadline(&self) -> Option<Time> {
        let pools = self.pools.iter();
        let deadlines = pools.filter_map(|pool| {
            [
                pool.core.next_deadline(),
                pool.pause_end(),
                pool.outlier_deadline(),
            ]
            .into_iter()
            .flatten()
            .min()
        });
        deadlines.chain(self.next_plan()).min()
    }

    fn publish_if_changed(&mut self) {
        if self.dirty || self.pools.iter().any(|pool| pool.dirty) {
            self.publish();
        }
    }

    /// Called after a batch, when its snapshot is published: saves the kept state, and sends messages.
    fn save_and_announce(&mut self) {
        let mut unsaved = std::mem::take(&mut self.unsaved);
        for pool in &mut self.pools {
            unsaved |= std::mem::take(&mut pool.unsaved);
        }
        if unsaved {
            self.observer.persist(self.state_to_keep());
        }
        self.pools.iter_mut().for_each(PoolState::forget_past);
        for message in std::mem::take(&mut self.outbox) {
            message();
        }
        let mut pools = self.pools.iter().filter(|pool| !pool.retired);
        if self.first_round
            && pools.all(PoolState::first_round_finished)
            && self.has_heard_all_sources()
        {
            self.first_round = false;
            let pools = self.pools.iter().filter(|pool| !pool.retired);
            let counts = pools.map(PoolState::ready_of_all);
            let (ready, all) = counts.fold((0, 0), |sum, pool| (sum.0 + pool.0, sum.1 + pool.1));
            self.observer.first_round_finished(ready, all);
        }
    }

    fn publish(&mut self) {
        self.dirty = false;
        self.relieve_outliers();
        let staying = self.pools.iter_mut().filter(|pool| !pool.retired);
        let pools = staying.map(PoolState::snapshot).collect();
        self.handle.snapshot.store(Arc::new(Snapshot {
            config: self.config.clone(),
            routes: self.routes.clone(),
            pools,
        }));
        // Pairs with the fence in `proxy::hold`.
        fence(Ordering::SeqCst);
        for pool in self.pools.iter_mut().filter(|pool| !pool.retired) {
            pool.published();
        }
        for queue in self.reconfigured.drain(..) {
            queue.reconfigured.notify_waiters();
        }
    }

    fn signal(&mut self, Wakeup(key): Wakeup) {
        let Some(endpoint) = self.endpoint(key) else {
            return;
        };
        let news = endpoint.take_news();
        if news.lost > 0 {
            let requests = news.lost;
            self.step(key, BackendEvent::Lost { requests });
        }
        if news.peer_closed {
            self.step(key, BackendEvent::PeerClosed);
        }
        if news.hint {
            self.step(key, BackendEvent::Hint);
        }
        if news.outlier {
            self.suspect_outlier(key);
        }
        if let Some(epoch) = news.quiet {
            self.step(key, BackendEvent::Quiesced { epoch });
        }
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.end_pauses(now);
        self.look_at_plans(now);
        let due: Vec<_> = self
            .pools
            .iter()
            .flat_map(|pool| pool.core.due(now))
            .collect();
        for key in due {
            self.step(key, BackendEvent::Tick);
        }
        self.judge_outliers(now);
    }

    /// Steps one backend and carries out the effects. The code that ends the last use of a backend reports it, if the
    /// backend is closed by then; if it is closed only afterwards, this function checks that itself.
    pub(super) fn step(&mut self, key: BackendKey, event: BackendEvent) {
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        let signs = StepSigns::of(&event);
        let effects = pool.step(key, event, clock::now());
        let closed = effects.iter().any(|(_, effect)| {
            matches!(
                effect,
                BackendEffect::CloseGate | BackendEffect::NewEpoch(_)
            )
        });
        self.watch_restarts(key, signs, &effects);
        for (key, effect) in effects {
            let opens = matches!(effect, BackendEffect::OpenGate);
            self.effect(key, effect);
            if opens {
                self.open_for_predecessor(key);
            }
        }
        if closed {
            self.hold_for_predecessor(key);
        }
        if closed && let Some(endpoint) = self.endpoint(key) {
            endpoint.tell_if_quiet();
        }
    }

    fn effect(&mut self, key: BackendKey, effect: BackendEffect) {
        let Some(pool) = self.home_mut(key) else {
            return;
        };
        let Some(member) = pool.members.get_mut(&key) else {
            return;
        };
        let endpoint = &member.endpoint;
        match effect {
            BackendEffect::OpenGate => {
                endpoint.mark_ready(clock::now());
                endpoint.gate.open();
            }
            BackendEffect::CloseGate => {
                let gate = &endpoint.gate;
                let finished = gate.is_closed() && !gate.is_closed_to_all();
                gate.close();
                if finished {
                    self.tell_sessions(key, false);
                }
            }
            BackendEffect::CloseGateToNew => {
                endpoint.gate.close_to_new();
                self.tell_sessions(key, true);
            }
            BackendEffect::NewEpoch(epoch) => {
                endpoint.begin_epoch(epoch);
                // Attempts of the previous epoch no longer count.
                endpoint.outcomes.forget();
            }
            BackendEffect::ProbeNow => member.prober.now(),
            BackendEffect::EndStreams {
                from,
                until,
                restarting,
            } => {
                let level = match restarting {
                    true => ShutdownLevel::EndRestart,
                    false => ShutdownLevel::End,
                };
                endpoint.connections.raise_spread(level, from, until);
            }
            BackendEffect::Cut => endpoint.connections.raise(ShutdownLevel::Cut),
            BackendEffect::Announce(outcome) => self.announce(key, outcome),
            BackendEffect::Unseen { actor, id } => self.tell_unseen(key, actor, &id),
            BackendEffect::Changed {
                from,
                to,
                reason,
                alert,
            } => {
                let draining = matches!(to, DerivedState::Draining | DerivedState::Drained);
                let since = member.draining_since.unwrap_or_else(clock::now);
                member.draining_since = draining.then_some(since);
                member.state_since = clock::now();
                let reason = match &member.last_probe {
                    // The core knows kinds of results; operators want the actual result.
                    Some(seen) if to == DerivedState::Down => format!("{reason}, the last: {seen}"),
                    _ => reason,
                };
                let (name, endpoint) = (pool.name.clone(), member.endpoint.clone());
                let actors = pool.actors(key);
                let actors = actors.as_deref();
                let (old, new) = (from.as_str(), to.as_str());
                if alert {
                    warn!(pool = %name, backend = %endpoint.name, from = old, to = new, actor = actors,
                          alert, reason, "state changed");
                } else {
                    info!(pool = %name, backend = %endpoint.name, from = old, to = new, actor = actors,
                          reason, "state changed");
                }
                let whom = Some((&*name, &*endpoint.name));
                self.tell_lease(key, |member| member.lease_state(to, &reason));
                self.event(EventKind::State, whom, Some(old), Some(new), reason);
            }
        }
    }

    /// Returns the pool that a backend is in.
    pub(super) fn home_mut(&mut self, key: BackendKey) -> Option<&mut PoolState> {
        let index = *self.homes.get(&key)?;
        self.pools.get_mut(index)
    }

    fn endpoint(&self, key: BackendKey) -> Option<Arc<Endpoint>> {
        let pool = self.pools.get(*self.homes.get(&key)?)?;
        pool.members.get(&key).map(|member| member.endpoint.clone())
    }
}
