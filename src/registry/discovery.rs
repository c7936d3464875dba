//! Backends from discovery sources: one command makes a source's backends agree with its present set.
//!
//! Every backend has one owner, and a source changes only its own backends. It can't use a name that belongs to the
//! configuration, a registration, a lease or another source, for as long as the other backend stays. If a source is
//! removed from the configuration, its backends stay until they are withdrawn or another source of the pool names
//! them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::backend_entry::BackendSource;
use super::changes::place;
use super::command::RegistryCommand;
use super::endpoint::BackendKey;
use super::handle::{RegistryError, RegistryHandle};
use super::pool::{JoiningBackend, PoolState};
use super::request;
use super::view::{ChangeView, ChangedValue};
use super::writer::RegistryWriter;
use crate::config::{Address, check_name};
use crate::core::backend::BackendEvent;
use crate::core::discovery::{DiscoveredBackend, DiscoveredSet, DiscoveredState};
use crate::core::drain::{DrainActor, DrainSpec, DrainUntil, OpenDrain};
use crate::rt::clock;

/// ID of the drain of a backend that, according to its source, is terminating or not ready.
pub(super) const TERMINATING: &str = "discovery";

/// The present set of a source.
#[derive(Debug)]
pub(super) struct SourceSet {
    pub pool: String,
    pub source: Arc<str>,
    pub set: Arc<DiscoveredSet<Address>>,
    /// Whether backends that are no longer in the set stay until a new one is ready, if no other backend is ready.
    pub is_patient: bool,
    pub reply: oneshot::Sender<Result<AppliedSet, RegistryError>>,
}

/// Result of applying a source's set.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AppliedSet {
    /// Number of the source's backends that are there now.
    pub backends: usize,
    /// Number of backends that stay, though no longer in the set, until a new one is ready: the set must be sent
    /// again.
    pub waiting: usize,
    /// Names that the source can't use, each with the reason, which may end later.
    pub refused: Vec<(String, String)>,
}

impl RegistryHandle {
    /// Makes a source's backends agree with `set`. New backends are probed before they get requests; backends that
    /// are no longer in the set drain first; a backend with a new address counts as another process. With
    /// `is_patient`, backends that are no longer in the set stay, if no other is ready, until a new one is ready.
    ///
    /// # Errors
    /// [`RegistryError::UnknownPool`]; [`RegistryError::Conflict`] if the pool's configuration doesn't have the
    /// source (any more), unless the set is empty; the errors of [`RegistryHandle::pools`].
    pub async fn discovered(
        &self,
        pool: &str,
        source: &Arc<str>,
        set: Arc<DiscoveredSet<Address>>,
        is_patient: bool,
    ) -> Result<AppliedSet, RegistryError> {
        let (pool, source) = (pool.to_owned(), source.clone());
        self.ask(|reply| {
            RegistryCommand::Discovered(SourceSet {
                pool,
                source,
                set,
                is_patient,
                reply,
            })
        })
        .await?
    }
}

/// Describes the owner of a name that a source asks for.
fn holder(source: BackendSource, of: Option<&Arc<str>>) -> String {
    match (source, of) {
        (BackendSource::Config, _) => {
            "the configuration file has a backend of this name".to_owned()
        }
        (BackendSource::Api, _) => "a registered backend has this name".to_owned(),
        (BackendSource::Lease, _) => "a launcher holds a backend of this name".to_owned(),
        (BackendSource::Discovery, Some(other)) => format!("`{other}` has a backend of this name"),
        (BackendSource::Discovery, None) => "another source has a backend of this name".to_owned(),
    }
}

/// Returns the error for a caller that tries to change a backend of a source.
pub(super) fn is_discovered(pool: &str, name: &str, source: Option<&Arc<str>>) -> RegistryError {
    let source = source.map_or("discovery", |source| source);
    RegistryError::Conflict(format!(
        "`{pool}/{name}` comes from `{source}`: change it there, or `lameduck drain` it; registered backends need a \
         name of their own"
    ))
}

impl PoolState {
    /// Whether the configuration contains this source.
    pub(super) fn has_source(&self, source: &str) -> bool {
        let mut all = self.config.discovery.iter();
        !self.retired && all.any(|one| one.label() == source)
    }

    /// Returns the source of the backend with this name that is not leaving, if it has one.
    pub(super) fn source_of(&self, name: &str) -> Option<Arc<str>> {
        let member = self.members.get(&self.current(name)?)?;
        member.discovery.clone()
    }
}

impl RegistryWriter {
    pub(super) fn take_source_set(&mut self, news: SourceSet) {
        let SourceSet {
            pool,
            source,
            set,
            is_patient,
            reply,
        } = news;
        let outcome = self.discovered(&pool, &source, &set, is_patient);
        self.reply(reply, outcome);
    }

    fn discovered(
        &mut self,
        pool: &str,
        source: &Arc<str>,
        set: &DiscoveredSet<Address>,
        is_patient: bool,
    ) -> Result<AppliedSet, RegistryError> {
        let index = self.index(pool)?;
        let state = &self.pools[index];
        if !set.is_empty() && !state.has_source(source) {
            return Err(RegistryError::Conflict(format!(
                "pool `{pool}` has no `{source}` (any more)"
            )));
        }
        let deadline = clock::now() + state.config.drain.deadline;
        let others: HashSet<String> = state
            .config
            .discovery
            .iter()
            .map(|one| one.label())
            .collect();
        let staying = state.members.iter().filter(|(_, member)| !member.leaving);
        let staying: HashMap<String, BackendKey> = staying
            .map(|(key, member)| (member.base.clone(), *key))
            .collect();
        let mut applied = AppliedSet::default();
        let mut change = ChangeView::default();
        let mut leaving: Vec<(BackendKey, String)> = Vec::new();
        for (name, backend) in set.iter() {
            let Some(key) = staying.get(name).copied() else {
                if backend.is_serving() {
                    match self.add_discovered(index, source, name, backend, Vec::new()) {
                        Ok(()) => change.added.push(place(pool, name, &backend.address)),
                        Err(why) => applied.refused.push((name.to_owned(), why)),
                    }
                }
                continue;
            };
            let Some(member) = self.pools[index].members.get_mut(&key) else {
                continue;
            };
            let held = member.discovery.as_ref();
            let is_free = member.source == BackendSource::Discovery
                && held.is_none_or(|other| other == source || !others.contains(&**other));
            if !is_free {
                let why = holder(member.source, held);
                applied.refused.push((name.to_owned(), why));
                continue;
            }
            member.discovery = Some(source.clone());
            if member.endpoint.address == backend.address {
                self.adjust_discovered(index, key, name, backend, deadline, &mut change);
                continue;
            }
            // A new address means another process under the same name, as if it had been registered again.
            let from = member.endpoint.address.to_string();
            if backend.is_serving() {
                let drains = self.pools[index].inheritance(key);
                if let Err(why) = self.add_discovered(index, source, name, backend, drains) {
                    applied.refused.push((name.to_owned(), why));
                    continue;
                }
            }
            change.changed.push(ChangedValue {
                what: format!("{pool}/{name}: address"),
                from,
                to: backend.address.to_string(),
            });
            let reason = format!("`{source}` has it at {} now", backend.address);
            self.leave_by(DrainActor::Discovery, key, deadline, reason);
        }
        for (name, key) in staying {
            let Some(member) = self.pools[index].members.get(&key) else {
                continue;
            };
            let is_own = member.source == BackendSource::Discovery
                && member.discovery.as_ref() == Some(source);
            if is_own && set.get(&name).is_none() {
                leaving.push((key, place(pool, &name, &member.endpoint.address)));
            }
        }
        if is_patient && self.has_no_successor_yet(index, source, &leaving) {
            applied.waiting = leaving.len();
            leaving.clear();
        }
        leaving.sort_unstable_by(|one, other| one.1.cmp(&other.1));
        for (key, shown) in leaving {
            change.removed.push(shown);
            let reason = format!("`{source}` no longer names it");
            self.leave_by(DrainActor::Discovery, key, deadline, reason);
        }
        let members = self.pools[index].members.values();
        let own =
            members.filter(|member| !member.leaving && member.discovery.as_ref() == Some(source));
        applied.backends = own.count();
        // If the proxy restarts while the source can't be reached, it begins with these backends.
        self.unsaved |= !change.is_empty();
        self.tell_discovered(pool, source, change);
        Ok(applied)
    }

    /// Adds a backend that was not there. The error says why it can't be added.
    pub(super) fn add_discovered(
        &mut self,
        index: usize,
        source: &Arc<str>,
        name: &str,
        backend: &DiscoveredBackend<Address>,
        drains: Vec<OpenDrain>,
    ) -> Result<(), String> {
        check_name(name)?;
        let own = self.handle.own_listeners();
        own.check_address(&backend.address)
            .map_err(|error| format!("`{}`: {error}", backend.address))?;
        self.check_room(None).map_err(|error| error.to_string())?;
        let joining = JoiningBackend {
            name: name.to_owned(),
            address: backend.address.clone(),
            weight: backend.weight,
            is_backup: backend.is_backup,
            zone: backend.zone.clone(),
            source: BackendSource::Discovery,
            discovery: Some(source.clone()),
            drains,
            tenure: None,
            owner: None,
        };
        self.add(index, joining);
        Ok(())
    }

    /// Updates a backend that is there already, at the same address.
    fn adjust_discovered(
        &mut self,
        index: usize,
        key: BackendKey,
        name: &str,
        backend: &DiscoveredBackend<Address>,
        deadline: crate::core::Time,
        change: &mut ChangeView,
    ) {
        let state = &mut self.pools[index];
        let Some(member) = state.members.get_mut(&key) else {
            return;
        };
        let pool = state.name.clone();
        let mut changed = |what: &str, from: String, to: String| {
            if from != to {
                let what = format!("{pool}/{name}: {what}");
                change.changed.push(ChangedValue { what, from, to });
            }
        };
        let zone = |zone: &Option<String>| zone.clone().unwrap_or_else(|| "(none)".to_owned());
        changed(
            "weight",
            member.endpoint.weight().to_string(),
            backend.weight.to_string(),
        );
        changed(
            "backup",
            member.is_backup.to_string(),
            backend.is_backup.to_string(),
        );
        changed("zone", zone(&member.zone), zone(&backend.zone));
        if member.endpoint.weight() != backend.weight
            || member.is_backup != backend.is_backup
            || member.zone != backend.zone
        {
            member.endpoint.set_weight(backend.weight);
            member.is_backup = backend.is_backup;
            member.zone.clone_from(&backend.zone);
            state.dirty = true;
        }
        let drains = state.core.get(&key).into_iter();
        let was = drains
            .flat_map(|backend| backend.drains())
            .find(|((actor, id), _)| (*actor, &**id) == (DrainActor::Supervisor, TERMINATING))
            .map_or(DiscoveredState::Serving, |(_, drain)| {
                DiscoveredState::of_drain_reason(&drain.reason)
            });
        let is = backend.state;
        changed("state", was.as_str().to_owned(), is.as_str().to_owned());
        if was == is {
            return;
        }
        let event = match is.drain_reason() {
            Some(reason) => BackendEvent::Drain(DrainSpec {
                actor: DrainActor::Supervisor,
                id: TERMINATING.to_owned(),
                reason: reason.to_owned(),
                deadline: (is == DiscoveredState::Terminating).then_some(deadline),
                until: DrainUntil::Resumed,
                // The drain ends with the source's next answer.
                expires: None,
            }),
            None => BackendEvent::Withdrawn {
                actor: DrainActor::Supervisor,
                id: TERMINATING.to_owned(),
            },
        };
        self.step(key, event);
    }

    /// Whether no backend would take requests if the leaving ones left now, while a new backend of the same source is
    /// about to become ready.
    fn has_no_successor_yet(
        &self,
        index: usize,
        source: &Arc<str>,
        leaving: &[(BackendKey, String)],
    ) -> bool {
        let state = &self.pools[index];
        let goes: HashSet<BackendKey> = leaving.iter().map(|(key, _)| *key).collect();
        let is_eligible =
            |key: &BackendKey| state.core.get(key).is_some_and(|one| one.is_eligible());
        if leaving.is_empty() || !goes.iter().any(is_eligible) {
            return false;
        }
        let mut others = state.members.iter().filter(|(key, _)| !goes.contains(key));
        if others.clone().any(|(key, _)| is_eligible(key)) {
            return false;
        }
        others.any(|(_, member)| !member.leaving && member.discovery.as_ref() == Some(source))
    }

    /// Whether each source in the configuration has answered or failed.
    pub(super) fn has_heard_all_sources(&self) -> bool {
        let mut pools = self.config.pools.iter();
        pools.all(|pool| {
            let heard = self.handle.live.heard_of_pool(&pool.name);
            let mut sources = pool.discovery.iter();
            sources.all(|source| heard.contains(&source.label()))
        })
    }
}

/// Whether a drain came from a backend's source. It ends with the backend that it was for.
pub(super) fn is_word_of_source(drain: &OpenDrain) -> bool {
    drain.actor == DrainActor::Supervisor && drain.id == TERMINATING
}

/// Returns the order by which a backend drains and is then removed, as `actor` orders.
pub(super) fn leaving_by(
    actor: DrainActor,
    reason: String,
    deadline: crate::core::Time,
) -> DrainSpec {
    DrainSpec {
        actor,
        ..request::leaving(reason, deadline)
    }
}
