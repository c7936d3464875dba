//! Commands of the registry's task: probe results, queries and changes.

use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::warn;

use super::backend_entry::shown_ejection;
use super::changes::ChangeAuthor;
use super::discovery::{self, SourceSet};
use super::endpoint::BackendKey;
use super::hand_over::HandOverCommand;
use super::handle::RegistryError;
use super::lease::{self, LeaseHandle};
use super::plan_view::PlanView;
use super::pool::PoolState;
use super::pool_views::ViewQuestion;
use super::request::{self, ResumeScope};
use super::split_plans::PlanAct;
use super::splits::SplitChange;
use super::supervised::SupervisedChange;
use super::view::{
    DrainRequest, DrainResponse, EjectionView, LeaseDrainRequest, LeaseEvent, LeaseRequest,
    PauseRequest, PauseResponse, RegisterRequest, SplitView,
};
use super::writer::RegistryWriter;
use crate::config::{self, Config, OnEmptyConfig};
use crate::core::backend::BackendEvent;
use crate::net::serving::ServingProcesses;
use crate::rt::clock;

/// A command to the registry's task.
#[derive(Debug)]
pub(super) enum RegistryCommand {
    Drain {
        pool: String,
        name: String,
        request: DrainRequest,
        remove: bool,
        /// If the drain waits for the end of processes: those that serve the backends now.
        serving: Vec<(BackendKey, ServingProcesses)>,
        owner: Option<u32>,
        reply: oneshot::Sender<Result<Vec<oneshot::Receiver<DrainResponse>>, RegistryError>>,
    },
    Resume {
        pool: String,
        name: String,
        which: ResumeScope,
        owner: Option<u32>,
        reply: oneshot::Sender<Result<Option<EjectionView>, RegistryError>>,
    },
    Register {
        pool: String,
        name: String,
        request: RegisterRequest,
        owner: Option<u32>,
        reply: oneshot::Sender<Result<(), RegistryError>>,
    },
    Lease {
        pool: String,
        name: String,
        request: LeaseRequest,
        owner: Option<u32>,
        reply: oneshot::Sender<Result<LeaseHandle, RegistryError>>,
    },
    LeaseStatus {
        key: BackendKey,
        reply: oneshot::Sender<Option<LeaseEvent>>,
    },
    LeaseDrain {
        lease: String,
        request: LeaseDrainRequest,
        owner: Option<u32>,
        reply: oneshot::Sender<Result<oneshot::Receiver<DrainResponse>, RegistryError>>,
    },
    LeaseBroken {
        key: BackendKey,
    },
    Ping {
        reply: oneshot::Sender<()>,
    },
    OwnsLease {
        lease: String,
        owner: Option<u32>,
        reply: oneshot::Sender<bool>,
    },
    View(ViewQuestion),
    Discovered(SourceSet),
    Apply {
        config: Arc<Config>,
        reply: oneshot::Sender<Vec<String>>,
    },
    Renew {
        pool: String,
        tls: config::UpstreamTls,
        reply: oneshot::Sender<bool>,
    },
    BeginRoll {
        pool: String,
        by: String,
        reply: oneshot::Sender<Result<String, RegistryError>>,
    },
    Pause {
        pool: String,
        request: PauseRequest,
        reply: oneshot::Sender<Result<PauseResponse, RegistryError>>,
    },
    EndPause {
        pool: String,
        reply: oneshot::Sender<Result<PauseResponse, RegistryError>>,
    },
    Split {
        route: String,
        change: SplitChange,
        reply: oneshot::Sender<Result<SplitView, RegistryError>>,
    },
    Splits {
        reply: oneshot::Sender<Vec<SplitView>>,
    },
    Plan {
        route: String,
        act: PlanAct,
        reply: oneshot::Sender<Result<PlanView, RegistryError>>,
    },
    SaveAgain,
    Heed(SupervisedChange),
    HandOver(HandOverCommand),
    EndRoll {
        pool: String,
        id: String,
    },
    Report {
        key: BackendKey,
        event: BackendEvent,
        detail: String,
    },
}

impl RegistryWriter {
    pub(super) fn command(&mut self, command: RegistryCommand) {
        let Some(command) = self.hand_over.holds_back(command) else {
            return;
        };
        match command {
            RegistryCommand::HandOver(command) => self.hand_over_command(command),
            RegistryCommand::Report { key, event, detail } => self.report(key, event, detail),
            RegistryCommand::Ping { reply } => self.reply(reply, ()),
            RegistryCommand::View(question) => self.answer_view(question),
            RegistryCommand::Drain {
                pool,
                name,
                request,
                remove,
                serving,
                owner,
                reply,
            } => {
                let endings = self.drain(&pool, &name, &request, remove, owner);
                if endings.is_ok() {
                    self.note_awaited(&request, serving);
                }
                self.reply(reply, endings);
            }
            RegistryCommand::Resume {
                pool,
                name,
                which,
                owner,
                reply,
            } => {
                let outcome = self.resume(&pool, &name, &which, owner);
                self.reply(reply, outcome);
            }
            RegistryCommand::Register {
                pool,
                name,
                request,
                owner,
                reply,
            } => {
                let outcome = self.register(&pool, &name, &request, owner);
                self.reply(reply, outcome);
            }
            RegistryCommand::BeginRoll { pool, by, reply } => {
                let outcome = self.begin_roll(&pool, &by);
                self.reply(reply, outcome);
            }
            RegistryCommand::Pause {
                pool,
                request,
                reply,
            } => {
                let outcome = self.pause(&pool, request);
                self.reply(reply, outcome);
            }
            RegistryCommand::EndPause { pool, reply } => {
                let outcome = self.end_pause(&pool);
                self.reply(reply, outcome);
            }
            RegistryCommand::Split {
                route,
                change,
                reply,
            } => {
                let outcome = self.change_split(&route, change);
                self.reply(reply, outcome);
            }
            RegistryCommand::Splits { reply } => {
                let views = self.split_views();
                self.reply(reply, views);
            }
            RegistryCommand::Plan { route, act, reply } => {
                let outcome = self.plan_split(&route, act);
                self.reply(reply, outcome);
            }
            RegistryCommand::SaveAgain => self.unsaved = true,
            RegistryCommand::Heed(change) => self.apply_supervised_change(change),
            RegistryCommand::EndRoll { pool, id } => self.end_roll(&pool, &id),
            RegistryCommand::Lease {
                pool,
                name,
                request,
                owner,
                reply,
            } => {
                let outcome = self.lease(&pool, &name, &request, owner);
                self.reply(reply, outcome);
            }
            RegistryCommand::LeaseStatus { key, reply } => {
                let status = self.lease_status(key);
                self.reply(reply, status);
            }
            RegistryCommand::LeaseDrain {
                lease,
                request,
                owner,
                reply,
            } => {
                let ending = self.lease_drain(&lease, &request, owner);
                self.reply(reply, ending);
            }
            RegistryCommand::LeaseBroken { key } => self.lease_broken(key),
            RegistryCommand::OwnsLease {
                lease,
                owner,
                reply,
            } => {
                let owns = self.owns_lease(&lease, owner);
                self.reply(reply, owns);
            }
            RegistryCommand::Renew { pool, tls, reply } => {
                let renewed = self
                    .index(&pool)
                    .is_ok_and(|index| self.pools[index].renew(tls, &*self.probing));
                self.reply(reply, renewed);
            }
            RegistryCommand::Discovered(news) => self.take_source_set(news),
            RegistryCommand::Apply { config, reply } => {
                let changes = self.apply(config);
                self.tell_reloaded(&changes);
                self.reply(reply, changes.iter().map(ToString::to_string).collect());
            }
        }
    }

    fn report(&mut self, key: BackendKey, event: BackendEvent, detail: String) {
        let member = self
            .home_mut(key)
            .and_then(|pool| pool.members.get_mut(&key));
        // A `Tick` comes with the detail of a probe that could not be made.
        let seen = matches!(event, BackendEvent::Probed { .. } | BackendEvent::Tick);
        if let Some(member) = member {
            member.probed |= matches!(event, BackendEvent::Probed { .. });
            if seen {
                member.last_probe = Some(detail);
            }
        }
        self.step(key, event);
        if seen && let Some(pool) = self.home_mut(key) {
            pool.note_last_probe(key);
        }
    }

    fn drain(
        &mut self,
        pool: &str,
        name: &str,
        request: &DrainRequest,
        remove: bool,
        owner: Option<u32>,
    ) -> Result<Vec<oneshot::Receiver<DrainResponse>>, RegistryError> {
        let (index, mut keys) = self.find_own(pool, name, owner)?;
        let state = &self.pools[index];
        let mut order = request::order(request, state.config.drain.deadline, clock::now())?;
        if remove {
            if keys.iter().any(|key| state.is_configured(*key)) {
                return Err(RegistryError::Conflict(format!(
                    "`{pool}/{name}` is in the configuration file: remove it there and reload, or `lameduck drain` it"
                )));
            }
            if let Some(source) = state.source_of(name) {
                return Err(discovery::is_discovered(pool, name, Some(&source)));
            }
            keys.retain(|key| !state.is_lease(*key));
            if keys.is_empty() {
                return Err(lease::held(pool, name));
            }
            let deadline = order.deadline.unwrap_or_else(clock::now);
            order = request::leaving(order.reason, deadline);
        }
        for key in &keys {
            self.check_drains(*key, &order)?;
        }
        self.pools[index].unsaved = true;
        let eligible_before = self.pools[index].core.eligible();
        let mut endings = Vec::new();
        for key in keys {
            let (sender, receiver) = oneshot::channel();
            endings.push(receiver);
            if remove {
                self.remember_leaving(ChangeAuthor::Api, key);
            }
            if let Some(member) = self.pools[index].members.get_mut(&key) {
                member.leaving |= remove;
                member.wait(sender);
            }
            self.step(key, BackendEvent::Drain(order.clone()));
            self.answer_if_drained(key);
        }
        self.warn_if_none_ready(index, eligible_before, name);
        Ok(endings)
    }

    /// Logs a warning if the drain of `name` has taken the pool's last ready backend.
    pub(super) fn warn_if_none_ready(&self, index: usize, eligible_before: usize, name: &str) {
        let state = &self.pools[index];
        if eligible_before > 0 && state.core.eligible() == 0 {
            let then = match state.config.hold.on_empty {
                OnEmptyConfig::Hold => {
                    "requests wait until one is ready, and after [pool.hold] timeout get 503"
                }
                OnEmptyConfig::Fail => "requests get 503 until one is ready",
                OnEmptyConfig::FailOpen => "requests go to backends that are not ready",
            };
            warn!(
                pool = %state.name, backend = name,
                "the last ready backend of the pool is drained: {then}"
            );
        }
    }

    fn resume(
        &mut self,
        pool: &str,
        name: &str,
        which: &ResumeScope,
        owner: Option<u32>,
    ) -> Result<Option<EjectionView>, RegistryError> {
        self.unsaved |= self.kept.lift(pool, name, |kept| {
            let drain = kept.order();
            which.covers_drain(drain.actor, &drain.id)
        });
        let (index, keys) = self.find_own(pool, name, owner)?;
        let state = &self.pools[index];
        let stays = |key: &BackendKey| state.members.get(key).is_some_and(|member| !member.leaving);
        let staying: Vec<_> = keys.into_iter().filter(stays).collect();
        if staying.is_empty() {
            return Err(RegistryError::Conflict(format!(
                "`{pool}/{name}` is leaving and can't be resumed: register it again, or put it back into the \
                 configuration file and reload"
            )));
        }
        let mut ended = None;
        for key in staying {
            let member = self.pools[index].members.get(&key);
            let ejection = member.and_then(|member| member.ejection.as_ref().map(shown_ejection));
            let backend = self.pools[index].core.get(&key);
            for event in backend.map_or_else(Vec::new, |backend| which.events(backend)) {
                self.step(key, event);
            }
            if which.covers_ejections() {
                self.lift_ejection(index, key);
                ended = ended.or(ejection);
            }
        }
        Ok(ended)
    }

    /// Returns the index of the pool with this name.
    pub(super) fn index(&self, name: &str) -> Result<usize, RegistryError> {
        let is = |pool: &PoolState| &*pool.name == name && !pool.retired;
        self.pools.iter().position(is).ok_or_else(|| {
            let staying = self.pools.iter().filter(|pool| !pool.retired);
            let names = staying.map(|pool| &*pool.name);
            RegistryError::UnknownPool {
                name: name.to_owned(),
                known: with_nearest(name, names.clone(), listed(names)),
            }
        })
    }

    /// Returns the backends that `name` refers to.
    pub(super) fn find(
        &self,
        pool: &str,
        name: &str,
    ) -> Result<(usize, Vec<BackendKey>), RegistryError> {
        let index = self.index(pool)?;
        let keys = self.pools[index].keys_meant(name);
        if keys.is_empty() {
            let state = &self.pools[index];
            let members = &state.members;
            return Err(RegistryError::UnknownBackend {
                pool: pool.to_owned(),
                name: name.to_owned(),
                known: listed(members.values().map(|member| &*member.endpoint.name)),
                may_come: state.takes_arrivals(),
            });
        }
        Ok((index, keys))
    }
}

/// Most pools whose names are compared with a wrong name.
const COMPARED: usize = 100;

/// Returns the list of names, with the one most similar to `wrong`, if any is similar enough.
pub(super) fn with_nearest<'a>(
    wrong: &str,
    names: impl Iterator<Item = &'a str>,
    listed: String,
) -> String {
    match config::suggest::nearest(wrong, names.take(COMPARED)) {
        Some(near) => format!("{listed} (did you mean `{near}`?)"),
        None => listed,
    }
}

pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}
