//! What supervisors say of backends: the drains that follow from their words, and whether they can be heard.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::command::RegistryCommand;
use super::handle::RegistryHandle;
use super::view::EventView;
use super::writer::RegistryWriter;
use crate::core::Time;
use crate::core::backend::BackendEvent;
use crate::core::drain::{DrainActor, DrainSpec, DrainUntil, RestartSign};
use crate::core::supervisor_word::{ProcessWord, WordEffect};
use crate::rt::clock;

/// How the ids of these drains begin; the kind of the supervisor follows.
pub const WATCH: &str = "watch:";

/// What follows from a supervisor's word for the backends of one name.
#[derive(Debug, Clone)]
pub struct SupervisedChange {
    /// The pool.
    pub pool: String,
    /// The backend's name.
    pub backend: String,
    /// The drain's id: [`WATCH`] and the supervisor's kind.
    pub id: String,
    /// What is to be done.
    pub effect: WordEffect,
    /// Why, for people.
    pub reason: String,
}

/// A pool's supervisor as people see it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct SupervisorView {
    /// As `type` in the configuration.
    #[serde(rename = "type")]
    pub kind: String,
    /// `listening`, or `away`: it can't be heard, and what it does is not known.
    pub state: String,
    /// Since when; RFC 3339, UTC.
    pub since: String,
    /// Why it can't be heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Processes that it says nothing of, each with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unheard: BTreeMap<String, String>,
}

/// What is known of one pool's supervisor.
#[derive(Debug, Clone)]
pub struct SupervisorRecord {
    /// As `type` in the configuration.
    pub kind: &'static str,
    /// Whether it can be heard.
    pub listening: bool,
    /// Since when that is so.
    pub since: Time,
    /// Why not.
    pub why: Option<String>,
    /// Processes that it says nothing of, each with the reason.
    pub unheard: BTreeMap<String, String>,
    /// Words heard, in the order of [`ProcessWord::ALL`].
    pub words: [u64; ProcessWord::ALL.len()],
}

impl SupervisorRecord {
    /// A supervisor that has not been heard yet.
    pub fn new(kind: &'static str) -> Self {
        Self {
            kind,
            listening: false,
            since: clock::now(),
            why: Some("not connected yet".to_owned()),
            unheard: BTreeMap::new(),
            words: [0; ProcessWord::ALL.len()],
        }
    }

    /// Counts a word.
    pub fn count(&mut self, word: ProcessWord) {
        let place = ProcessWord::ALL.iter().position(|one| *one == word);
        if let Some(count) = place.and_then(|place| self.words.get_mut(place)) {
            *count += 1;
        }
    }

    fn view(&self) -> SupervisorView {
        SupervisorView {
            kind: self.kind.to_owned(),
            state: if self.listening { "listening" } else { "away" }.to_owned(),
            since: clock::rfc3339(clock::wall(self.since)),
            why: self.why.clone(),
            unheard: self.unheard.clone(),
        }
    }
}

/// Every pool's supervisor, by pool. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SupervisorBoard(Arc<Mutex<BTreeMap<String, SupervisorRecord>>>);

impl SupervisorBoard {
    /// Changes what is known of a pool's supervisor. Where it was another kind, or none, it begins anew.
    pub fn note(&self, pool: &str, kind: &'static str, change: impl FnOnce(&mut SupervisorRecord)) {
        let mut board = self.0.lock();
        let record = board
            .entry(pool.to_owned())
            .or_insert_with(|| SupervisorRecord::new(kind));
        if record.kind != kind {
            *record = SupervisorRecord::new(kind);
        }
        change(record);
    }

    /// The pool's supervisor is no longer listened to.
    pub fn forget(&self, pool: &str) {
        self.0.lock().remove(pool);
    }

    /// All of them, by pool.
    pub fn records(&self) -> BTreeMap<String, SupervisorRecord> {
        self.0.lock().clone()
    }

    /// One pool's, for people.
    pub(super) fn view(&self, pool: &str) -> Option<SupervisorView> {
        self.0.lock().get(pool).map(SupervisorRecord::view)
    }
}

impl RegistryHandle {
    /// What is known of supervisors.
    pub fn supervisors(&self) -> &SupervisorBoard {
        &self.supervisors
    }

    /// Does what follows from a supervisor's word.
    pub fn heed_supervisor(&self, change: SupervisedChange) {
        let _ = self.commands.send(RegistryCommand::Heed(change));
    }

    /// Tells everybody who listens that a pool's supervisor can be heard, or no longer.
    pub fn tell_supervisor(&self, pool: &str, state: &str, reason: String) {
        let event = EventView {
            kind: "supervisor".to_owned(),
            time: clock::rfc3339(clock::wall(clock::now())),
            pool: Some(pool.to_owned()),
            backend: None,
            from: None,
            to: Some(state.to_owned()),
            reason,
        };
        let _ = self.events.send(Arc::new(event));
    }
}

impl RegistryWriter {
    /// Does what follows from a supervisor's word, for every backend of that name that no launcher holds: a launcher is
    /// in its place in the process's life already.
    pub(super) fn apply_supervised_change(&mut self, change: SupervisedChange) {
        let SupervisedChange {
            pool,
            backend,
            id,
            effect,
            reason,
        } = change;
        let Ok((index, mut keys)) = self.find(&pool, &backend) else {
            return;
        };
        let state = &self.pools[index];
        keys.retain(|key| !state.is_lease(*key));
        let actor = DrainActor::Supervisor;
        let eligible_before = state.core.eligible();
        let deadline = clock::now() + state.config.drain.deadline;
        for key in keys {
            let state = &self.pools[index];
            let is_drained = state.core.get(&key).is_some_and(|backend| {
                let mut drains = backend.drains();
                drains.any(|((whose, which), _)| *whose == actor && *which == id)
            });
            let event = match effect {
                WordEffect::Drain => BackendEvent::Drain(DrainSpec {
                    actor,
                    id: id.clone(),
                    reason: reason.clone(),
                    deadline: Some(deadline),
                    until: DrainUntil::Restarted(RestartSign::NewProcess),
                    expires: None,
                }),
                WordEffect::Lift if is_drained => BackendEvent::Withdrawn {
                    actor,
                    id: id.clone(),
                },
                WordEffect::RunsAgain if is_drained => BackendEvent::RunsAgain {
                    actor,
                    id: id.clone(),
                },
                WordEffect::Lift | WordEffect::RunsAgain => continue,
                WordEffect::Look => BackendEvent::PeerClosed,
            };
            if effect == WordEffect::Look {
                if let Some(member) = self.pools[index].members.get(&key) {
                    member.endpoint.suspicion.raise();
                }
            } else {
                self.pools[index].unsaved = true;
            }
            self.step(key, event);
        }
        if effect == WordEffect::Drain {
            self.warn_if_none_ready(index, eligible_before, &backend);
        }
    }
}
