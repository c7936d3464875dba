//! The handle through which all other code uses the registry.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::command::RegistryCommand;
use super::endpoint::BackendKey;
pub use super::error::RegistryError;
use super::live_figures::LiveFigures;
use super::names;
use super::own_listeners::OwnListeners;
use super::owner;
use super::request::{self, parse_duration};
use super::restart_board::RestartBoard;
use super::saves::SaveLedger;
use super::snapshot::Snapshot;
use super::supervised::SupervisorBoard;
use super::view::{
    BackendView, DrainRequest, DrainResponse, EventView, RegisterRequest, ResumeRequest,
};
use crate::config::{self, Config};
use crate::core::backend::BackendEvent;
use crate::core::drain::DrainOutcome;
use crate::rt::clock;

/// Talks to the registry's task. Cheap to clone.
#[derive(Clone)]
pub struct RegistryHandle {
    pub(super) commands: mpsc::UnboundedSender<RegistryCommand>,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) events: broadcast::Sender<Arc<EventView>>,
    /// User whose apps the handle may see and change; `None`: everything.
    pub(super) owner: Option<u32>,
    pub(super) own: OwnListeners,
    pub(super) saves: Option<Arc<SaveLedger>>,
    pub(super) live: LiveFigures,
    pub(super) restarts: RestartBoard,
    pub(super) supervisors: SupervisorBoard,
    /// Whether another process has the changes.
    pub(super) handed_over: watch::Receiver<bool>,
}

impl RegistryHandle {
    /// Returns the record of what was saved for the next process; `None`: nothing is kept.
    pub fn saves(&self) -> Option<&SaveLedger> {
        self.saves.as_deref()
    }

    /// Has all kept state saved once more, because the wall clock was set and the times in the file are no longer
    /// right.
    pub fn save_again(&self) {
        let _ = self.commands.send(RegistryCommand::SaveAgain);
    }

    /// Returns why the change that was just made would not survive the process, if so.
    pub(super) async fn unsaved(&self) -> Option<String> {
        let settled = self.saves()?.settled().await;
        settled.err().map(|error| error.to_string())
    }

    /// Returns why the present state would not survive the process, if so.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.saves()?.trouble()?;
        Some(format!(
            "not saved since {}: {}",
            clock::rfc3339(clock::wall(trouble.since)),
            trouble.why
        ))
    }

    /// Returns figures of discovery sources, and recent changes.
    pub fn live_figures(&self) -> &LiveFigures {
        &self.live
    }

    /// Returns the last restarts of backends.
    pub fn restarts(&self) -> &RestartBoard {
        &self.restarts
    }

    /// Returns the addresses at which this process listens, which no backend may have.
    pub fn own_listeners(&self) -> &OwnListeners {
        &self.own
    }

    /// Returns the data plane's view of pools and routes. Never blocks.
    pub fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Returns a receiver of every state change from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<EventView>> {
        self.events.subscribe()
    }

    /// Reports the result of a probe, with a text for operators.
    pub fn report(&self, key: BackendKey, event: BackendEvent, detail: String) {
        let _ = self
            .commands
            .send(RegistryCommand::Report { key, event, detail });
    }

    /// Waits until the registry's task has processed all commands before this one.
    ///
    /// # Errors
    /// The task has ended.
    pub async fn answers(&self) -> Result<(), RegistryError> {
        self.ask(|reply| RegistryCommand::Ping { reply }).await
    }

    /// Waits until the registry's task has ended, which happens only together with its runtime.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }

    /// Drains a backend; with `wait` (the default), returns when the drain has ended.
    ///
    /// # Errors
    /// As [`RegistryHandle::backends`]; [`RegistryError::Invalid`] for a value that is not valid.
    pub async fn drain(
        &self,
        pool: &str,
        name: &str,
        request: DrainRequest,
    ) -> Result<DrainResponse, RegistryError> {
        self.drain_or_remove(pool, name, request, false).await
    }

    /// Drains a registered backend, then removes it.
    ///
    /// # Errors
    /// As [`RegistryHandle::drain`]; [`RegistryError::Conflict`] for a backend that the configuration names.
    pub async fn deregister(
        &self,
        pool: &str,
        name: &str,
        request: DrainRequest,
    ) -> Result<DrainResponse, RegistryError> {
        self.drain_or_remove(pool, name, request, true).await
    }

    async fn drain_or_remove(
        &self,
        pool: &str,
        name: &str,
        request: DrainRequest,
        remove: bool,
    ) -> Result<DrainResponse, RegistryError> {
        let began = clock::now();
        let wait = request.wait.unwrap_or(true);
        let (pool, name) = (pool.to_owned(), name.to_owned());
        let (asked_pool, asked_name) = (pool.clone(), name.clone());
        let owner = self.owner;
        let request = match owner {
            Some(uid) => owner::own_drain(uid, request),
            None => request,
        };
        let (asked, found) = (
            request.clone(),
            self.find_serving(&pool, &name, &request).await?,
        );
        let endings = self
            .ask(|reply| RegistryCommand::Drain {
                pool,
                name,
                request,
                remove,
                serving: found.clone(),
                owner,
                reply,
            })
            .await??;
        self.watch_serving(&asked_pool, &asked_name, &asked, found);
        let mut answer = DrainResponse::asked();
        if wait {
            for ending in endings {
                answer = worse(answer, ending.await.map_err(|_| self.no_answer())?);
            }
        } else if let Ok(views) = self.backends(&asked_pool, &asked_name).await {
            answer.in_flight = views.iter().map(|view| view.in_flight).sum();
            let sessions = views.iter().map(|view| view.sessions);
            answer.sessions = sessions.fold(None, sum_if_any);
        }
        answer.warning = self.warning(&asked_pool, &asked_name, &asked).await;
        answer.waited_ms = (clock::now() - began).as_millis() as u64;
        Ok(answer)
    }

    /// Lifts drains; with `wait`, returns when the backend is ready, and also waits for one that is not there yet.
    ///
    /// # Errors
    /// As [`RegistryHandle::drain`]; [`RegistryError::NotReady`] or [`RegistryError::NotCome`] if the wait timed out.
    pub async fn resume(
        &self,
        pool: &str,
        name: &str,
        request: ResumeRequest,
    ) -> Result<BackendView, RegistryError> {
        let wait = request.wait.as_deref().map(parse_duration).transpose()?;
        let which = match self.owner {
            Some(uid) => owner::own_resume(uid, &request)?,
            None => request::which(&request)?,
        };
        let patience = wait.map(ReadyPatience::from_now);
        // Subscribed before the request, so that no addition is missed in between.
        let mut events = self.subscribe();
        let ended_ejection = loop {
            let asked = self.ask(|reply| RegistryCommand::Resume {
                pool: pool.to_owned(),
                name: name.to_owned(),
                which: which.clone(),
                owner: self.owner,
                reply,
            });
            match (asked.await?, patience) {
                (Err(error), Some(patience)) if error.may_come() => {
                    if Instant::now() >= patience.until {
                        return Err(error.not_come_within(patience.whole));
                    }
                    let look = patience.until.min(Instant::now() + ADDED_CHECK_INTERVAL);
                    self.changes_before(&mut events, look, pool, name).await?;
                }
                (resumed, _) => break resumed?,
            }
        };
        Ok(BackendView {
            ended_ejection,
            ..self.done(pool, name, patience).await?
        })
    }

    /// Registers a backend, or moves it to another address (a new incarnation; the old one drains).
    ///
    /// # Errors
    /// As [`RegistryHandle::resume`]; [`RegistryError::Conflict`] if it contradicts the configuration;
    /// [`RegistryError::Full`].
    pub async fn register(
        &self,
        pool: &str,
        name: &str,
        request: RegisterRequest,
    ) -> Result<BackendView, RegistryError> {
        let wait = request.wait.as_deref().map(parse_duration).transpose()?;
        self.ask(|reply| RegistryCommand::Register {
            pool: pool.to_owned(),
            name: name.to_owned(),
            request,
            owner: self.owner,
            reply,
        })
        .await??;
        self.done(pool, name, wait.map(ReadyPatience::from_now))
            .await
    }

    async fn done(
        &self,
        pool: &str,
        name: &str,
        patience: Option<ReadyPatience>,
    ) -> Result<BackendView, RegistryError> {
        let mut view = self.wait_ready(pool, name, patience).await?;
        view.warning = self.unsaved().await;
        Ok(view)
    }

    /// Makes the registry agree with a configuration, and returns what changed.
    ///
    /// # Errors
    /// As [`RegistryHandle::pools`].
    pub async fn apply(&self, config: Arc<Config>) -> Result<Vec<String>, RegistryError> {
        self.ask(|reply| RegistryCommand::Apply { config, reply })
            .await
    }

    /// Applies the present contents of the files of a pool's `[pool.tls]`. Returns whether anything has changed:
    /// `false` if the pool's settings have changed since the files were read, or the contents are the same.
    ///
    /// # Errors
    /// As [`RegistryHandle::pools`].
    pub async fn renew(&self, pool: &str, tls: config::UpstreamTls) -> Result<bool, RegistryError> {
        let pool = pool.to_owned();
        self.ask(|reply| RegistryCommand::Renew { pool, tls, reply })
            .await
    }

    async fn wait_ready(
        &self,
        pool: &str,
        name: &str,
        patience: Option<ReadyPatience>,
    ) -> Result<BackendView, RegistryError> {
        // Subscribed before the first check, so that no change is missed in between.
        let mut events = self.subscribe();
        loop {
            let newest = self.backends(pool, name).await?.pop();
            let view = newest.ok_or(RegistryError::ShuttingDown)?;
            let Some(ReadyPatience { until, whole }) = patience else {
                return Ok(view);
            };
            if view.state == "ready" {
                return Ok(view);
            }
            if !self.changes_before(&mut events, until, pool, name).await? {
                return Err(RegistryError::NotReady {
                    pool: pool.to_owned(),
                    name: name.to_owned(),
                    waited: whole,
                    state: view.state,
                });
            }
        }
    }

    /// Waits for an event about these backends until a time; returns whether there was one.
    async fn changes_before(
        &self,
        events: &mut broadcast::Receiver<Arc<EventView>>,
        until: Instant,
        pool: &str,
        name: &str,
    ) -> Result<bool, RegistryError> {
        let mut handed_over = self.handed_over.clone();
        tokio::select! {
            biased;
            _ = handed_over.wait_for(|is_it| *is_it) => Err(self.no_answer()),
            changed = tokio::time::timeout_at(until, change(events, pool, name)) => Ok(changed.is_ok()),
        }
    }

    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> RegistryCommand,
    ) -> Result<T, RegistryError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .map_err(|_| RegistryError::ShuttingDown)?;
        answer.await.map_err(|_| self.no_answer())
    }

    /// Returns the error for an answer that did not come.
    pub(super) fn no_answer(&self) -> RegistryError {
        if self.commands.is_closed() {
            return RegistryError::ShuttingDown;
        }
        match *self.handed_over.borrow() {
            true => RegistryError::HandedOver,
            false => RegistryError::Failed,
        }
    }
}

/// Time between two checks whether a backend was added: not every addition has an event.
const ADDED_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a caller waits until a backend is ready.
#[derive(Debug, Clone, Copy)]
struct ReadyPatience {
    until: Instant,
    whole: Duration,
}

impl ReadyPatience {
    fn from_now(whole: Duration) -> Self {
        Self {
            until: Instant::now() + whole,
            whole,
        }
    }
}

/// Waits for an event about these backends. If this receiver lags behind, it returns too, and the caller should check
/// again.
async fn change(events: &mut broadcast::Receiver<Arc<EventView>>, pool: &str, name: &str) {
    while let Ok(event) = events.recv().await {
        let shown = event.backend.as_deref().unwrap_or_default();
        if event.pool.as_deref() == Some(pool) && names::matches_name(name, shown) {
            return;
        }
    }
}

fn sum_if_any(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}

fn worse(one: DrainResponse, other: DrainResponse) -> DrainResponse {
    let rank = |response: &DrainResponse| match response.ending() {
        None => 0,
        Some(DrainOutcome::Drained) => 1,
        Some(DrainOutcome::Resumed) => 2,
        Some(DrainOutcome::TimedOut { .. }) => 3,
        Some(DrainOutcome::Died { .. }) => 4,
    };
    let outcome = if rank(&other) > rank(&one) {
        other.outcome.clone()
    } else {
        one.outcome.clone()
    };
    DrainResponse {
        outcome,
        in_flight: one.in_flight + other.in_flight,
        cut: one.cut + other.cut,
        cut_by_kind: one.cut_by_kind + other.cut_by_kind,
        lost: one.lost + other.lost,
        sessions: sum_if_any(one.sessions, other.sessions),
        waited_ms: one.waited_ms.max(other.waited_ms),
        warning: one.warning.or(other.warning),
    }
}
