//! Carries out what the core decides: drains and lifts drains at the proxy, runs commands, and reports each step.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use super::command::{self, CommandRun, CommandTemplate};
use crate::core::drain::DrainOutcome;
use crate::core::roll::{DrainEnd, PoolRoll, RollBackend, RollEffect, RollEnd, RollEvent};
use crate::registry::view::{BackendView, DrainResponse, PoolView};
use crate::rt::clock;

/// Error of a request to the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollError {
    /// Whether the proxy can't be reached (any more).
    pub gone: bool,
    /// Message for users.
    pub text: String,
}

/// The requests of a roll to the proxy.
pub trait RollProxy {
    /// Drains a backend until it has restarted; returns when the drain has ended.
    fn drain(&self, name: &str)
    -> impl Future<Output = Result<DrainResponse, RollError>> + 'static;
    /// Makes this roll's drain end when new probes pass (`restarted_when: probe`, from now on).
    fn await_probes(&self, name: &str) -> impl Future<Output = Result<(), RollError>>;
    /// Lifts this roll's drain, if it still exists.
    fn lift_drain(&self, name: &str) -> impl Future<Output = Result<(), RollError>>;
    /// Fetches the current state of the pool.
    fn fetch_pool(&self) -> impl Future<Output = Result<PoolView, RollError>>;
}

/// Source of changes in the pool.
pub trait RollWatch {
    /// Waits until something may have changed. Cancel-safe.
    fn changed(&mut self) -> impl Future<Output = Result<(), RollError>>;
}

/// Step of one backend, to be shown.
#[derive(Debug)]
pub enum RollStep<'a> {
    /// Its drain was requested.
    Draining,
    /// Nothing is in flight on it any more.
    Drained(&'a DrainResponse),
    /// Its command runs.
    Running(&'a [String]),
    /// Its command has ended, after this time.
    Ran(&'a CommandRun, Duration),
    /// A new process takes requests, this long after the command's end.
    Ready(Duration),
    /// Its command ended a while ago, and no new process was seen.
    Unseen,
    /// It has left the pool by itself.
    Gone,
    /// It waits until another backend is ready.
    Waiting,
    /// Its command is being stopped.
    Killing,
    /// The drain of this roll was lifted.
    Undone,
    /// The drain of this roll could not be lifted.
    NotUndone(&'a RollError),
}

/// Receiver of steps.
pub trait RollTeller {
    /// Handles a step of one backend.
    fn step(&mut self, name: &str, step: RollStep<'_>);
    /// Handles the current state of the pool.
    fn pool_seen(&mut self, pool: &PoolView);
    /// Handles an interrupt by the user; `again`: the second one.
    fn interrupted(&mut self, again: bool);
}

/// Result of a roll.
#[derive(Debug)]
pub struct RollReport {
    /// How it ended.
    pub end: RollEnd,
    /// First error of the proxy, if there was any.
    pub trouble: Option<RollError>,
    /// Name of the backend whose command failed, and the result of the command.
    pub failed: Option<(String, CommandRun)>,
    /// Last known state of the pool.
    pub pool: PoolView,
}

/// Name of a backend without `~2`.
pub fn base(shown: &str) -> &str {
    shown.rsplit_once('~').map_or(shown, |(base, _)| base)
}

/// State of a backend in the form of the core.
pub fn seen(backend: &BackendView) -> RollBackend {
    RollBackend {
        name: base(&backend.name).to_owned(),
        process: (backend.id, backend.incarnation),
        ready: backend.state == "ready",
        leaving: is_leaving(backend),
    }
}

/// Whether a backend is about to leave the pool.
pub fn is_leaving(backend: &BackendView) -> bool {
    backend.drains.iter().any(|drain| drain.actor == "config")
}

/// Address of the backends with this name; the newest, if there are several.
pub fn address<'a>(pool: &'a PoolView, name: &str) -> Option<&'a str> {
    let meant = pool.backends.iter().rev();
    let mut meant = meant.filter(|backend| base(&backend.name) == name && !is_leaving(backend));
    meant.next().map(|backend| backend.address.as_str())
}

enum Done {
    Drained(String, Result<DrainResponse, RollError>),
    Ran(String, CommandRun, Duration),
}

type Work = Pin<Box<dyn Future<Output = Done>>>;

/// Parameters of [`drive_roll`].
pub struct RollJob<'a, P, W> {
    /// The roll, which decides.
    pub roll: PoolRoll,
    /// State of the pool when the roll was planned.
    pub pool: PoolView,
    /// The proxy.
    pub proxy: &'a P,
    /// Source of changes.
    pub watch: &'a mut W,
    /// Id of this roll's drains.
    pub id: &'a str,
    /// The command.
    pub template: &'a CommandTemplate,
    /// Receiver of steps.
    pub teller: &'a mut dyn RollTeller,
    /// One message for each Ctrl-C.
    pub interrupts: mpsc::UnboundedReceiver<()>,
}

struct RollDriver<'a, P> {
    roll: PoolRoll,
    proxy: &'a P,
    id: &'a str,
    template: &'a CommandTemplate,
    teller: &'a mut dyn RollTeller,
    events: VecDeque<RollEvent>,
    work: FuturesUnordered<Work>,
    /// Senders that stop running commands.
    kills: HashMap<String, oneshot::Sender<()>>,
    /// Commands that were told to stop, and still run.
    killed: HashSet<String>,
    pool: PoolView,
    trouble: Option<RollError>,
    failed: Option<(String, CommandRun)>,
}

/// Runs a roll to its end.
pub async fn drive_roll<P: RollProxy, W: RollWatch>(job: RollJob<'_, P, W>) -> RollReport {
    let RollJob {
        watch,
        mut interrupts,
        ..
    } = job;
    let mut driver = RollDriver {
        roll: job.roll,
        proxy: job.proxy,
        id: job.id,
        template: job.template,
        teller: job.teller,
        events: VecDeque::from([RollEvent::Tick]),
        work: FuturesUnordered::new(),
        kills: HashMap::new(),
        killed: HashSet::new(),
        pool: job.pool,
        trouble: None,
        failed: None,
    };
    let (mut interrupted, mut watching) = (false, true);
    let end = loop {
        if let Some(end) = driver.process_events().await {
            break end;
        }
        let alarm = driver.roll.next_deadline().map(clock::instant);
        tokio::select! {
            biased;
            Some(()) = interrupts.recv() => {
                driver.teller.interrupted(std::mem::replace(&mut interrupted, true));
                driver.events.push_back(RollEvent::Interrupted);
            }
            Some(done) = driver.work.next() => driver.done(done).await,
            changed = watch.changed(), if watching => match changed {
                Ok(()) => driver.observe_pool().await,
                Err(trouble) => {
                    watching = false;
                    driver.broke(trouble);
                }
            },
            () = sleep_until(alarm) => driver.events.push_back(RollEvent::Tick),
        }
    };
    // Stopped commands must have ended before this returns.
    while !driver.killed.is_empty()
        && let Some(done) = driver.work.next().await
    {
        if let Done::Ran(name, ..) = done {
            driver.killed.remove(&name);
        }
    }
    RollReport {
        end,
        trouble: driver.trouble,
        failed: driver.failed,
        pool: driver.pool,
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl<P: RollProxy> RollDriver<'_, P> {
    /// Handles waiting events, and carries out their effects. Returns how the roll ended, if it has.
    async fn process_events(&mut self) -> Option<RollEnd> {
        while let Some(event) = self.events.pop_front() {
            for effect in self.roll.step(event, clock::now()) {
                if let RollEffect::Finish(end) = effect {
                    return Some(end);
                }
                self.perform_effect(effect).await;
            }
        }
        None
    }

    async fn perform_effect(&mut self, effect: RollEffect) {
        match effect {
            RollEffect::Drain(name) => {
                self.teller.step(&name, RollStep::Draining);
                let drain = self.proxy.drain(&name);
                let work = async move { Done::Drained(name, drain.await) };
                self.work.push(Box::pin(work));
            }
            RollEffect::Run(name) => self.start(name),
            RollEffect::Kill(name) => {
                self.teller.step(&name, RollStep::Killing);
                if self.kills.remove(&name).is_some() {
                    self.killed.insert(name);
                }
            }
            RollEffect::AwaitProbes(name) => {
                if let Err(trouble) = self.proxy.await_probes(&name).await {
                    self.broke(trouble);
                }
            }
            RollEffect::Undo(name) => match self.proxy.lift_drain(&name).await {
                Ok(()) => self.teller.step(&name, RollStep::Undone),
                Err(trouble) => {
                    self.teller.step(&name, RollStep::NotUndone(&trouble));
                    self.trouble.get_or_insert(trouble);
                }
            },
            RollEffect::Ready(name, took) => self.teller.step(&name, RollStep::Ready(took)),
            RollEffect::Unseen(name) => self.teller.step(&name, RollStep::Unseen),
            RollEffect::Gone(name) => self.teller.step(&name, RollStep::Gone),
            RollEffect::Waiting(name) => self.teller.step(&name, RollStep::Waiting),
            RollEffect::Finish(_) => {}
        }
    }

    fn start(&mut self, name: String) {
        let address = address(&self.pool, &name).unwrap_or_default();
        let words = self.template.for_backend(&self.pool.name, &name, address);
        let words = match words {
            Ok(words) => words,
            Err(text) => return self.broke(RollError { gone: false, text }),
        };
        self.teller.step(&name, RollStep::Running(&words));
        let (kill, killed) = oneshot::channel();
        self.kills.insert(name.clone(), kill);
        self.work.push(Box::pin(async move {
            let began = clock::now();
            let ran = command::run_command(words, killed).await;
            Done::Ran(name, ran, clock::now().saturating_sub(began))
        }));
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Drained(_, Err(trouble)) => self.broke(trouble),
            Done::Drained(name, Ok(answer)) => {
                // The command will stop the process that the backend has now.
                self.observe_pool().await;
                let ours = |backend: &&BackendView| {
                    base(&backend.name) == name
                        && backend.drains.iter().any(|drain| drain.id == self.id)
                };
                let held = self.pool.backends.iter().any(|backend| ours(&backend));
                let drained = match answer.ending() {
                    Some(DrainOutcome::Drained) if held => DrainEnd::Quiet,
                    Some(DrainOutcome::TimedOut { cut }) => DrainEnd::Cut(cut),
                    Some(DrainOutcome::Died { lost }) => DrainEnd::Died(lost),
                    Some(DrainOutcome::Drained | DrainOutcome::Resumed) | None => DrainEnd::Lifted,
                };
                if drained == DrainEnd::Quiet {
                    self.teller.step(&name, RollStep::Drained(&answer));
                }
                self.events.push_back(RollEvent::Drained(name, drained));
            }
            Done::Ran(name, ran, took) => {
                self.kills.remove(&name);
                if !self.killed.remove(&name) {
                    self.teller.step(&name, RollStep::Ran(&ran, took));
                    self.events
                        .push_back(RollEvent::Ran(name.clone(), ran.is_well()));
                }
                if !ran.is_well() {
                    self.failed.get_or_insert((name, ran));
                }
                self.observe_pool().await;
            }
        }
    }

    async fn observe_pool(&mut self) {
        match self.proxy.fetch_pool().await {
            Ok(pool) => {
                self.teller.pool_seen(&pool);
                let seen = pool.backends.iter().map(seen).collect();
                self.pool = pool;
                self.events.push_back(RollEvent::Looked(seen));
            }
            Err(trouble) => self.broke(trouble),
        }
    }

    fn broke(&mut self, trouble: RollError) {
        self.events
            .push_back(RollEvent::Broke(trouble.text.clone()));
        self.trouble.get_or_insert(trouble);
    }
}
