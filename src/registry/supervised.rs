//! Supervisors: the drains that follow from their messages about backends, and whether they can be reached.

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
use crate::registry::event_kind::EventKind;
use crate::rt::clock;

/// Prefix of the IDs of these drains; the kind of the supervisor follows.
pub const WATCH: &str = "watch:";

/// Effect of a supervisor's message on the backends with one name.
#[derive(Debug, Clone)]
pub struct SupervisedChange {
    /// The pool.
    pub pool: String,
    /// The backend's name.
    pub backend: String,
    /// ID of the drain: [`WATCH`] and the supervisor's kind.
    pub id: String,
    /// The effect.
    pub effect: WordEffect,
    /// Reason, as text.
    pub reason: String,
}

/// A pool's supervisor as the API shows it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct SupervisorView {
    /// Kind, as `type` in the configuration.
    #[serde(rename = "type")]
    pub kind: String,
    /// `listening`, or `away`: the supervisor can't be reached, and its actions are unknown.
    pub state: String,
    /// Time since which this is so, in RFC 3339, UTC.
    pub since: String,
    /// Why it can't be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Processes of which it sends no messages, each with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unheard: BTreeMap<String, String>,
}

/// Status of one pool's supervisor.
#[derive(Debug, Clone)]
pub struct SupervisorRecord {
    /// Kind, as `type` in the configuration.
    pub kind: &'static str,
    /// Whether it can be reached.
    pub listening: bool,
    /// Time since which this is so.
    pub since: Time,
    /// Why it can't be reached.
    pub why: Option<String>,
    /// Processes of which it sends no messages, each with the reason.
    pub unheard: BTreeMap<String, String>,
    /// Numbers of messages received, in the order of [`ProcessWord::ALL`].
    pub words: [u64; ProcessWord::ALL.len()],
}

impl SupervisorRecord {
    /// Creates the record of a supervisor that has not been reached yet.
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

    /// Counts a message.
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

/// The supervisors of all pools, by pool. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SupervisorBoard(Arc<Mutex<BTreeMap<String, SupervisorRecord>>>);

impl SupervisorBoard {
    /// Changes the record of a pool's supervisor. If the pool had a supervisor of another kind, or none, the record
    /// is new.
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

    /// Removes the record of a pool whose supervisor is no longer followed.
    pub fn forget(&self, pool: &str) {
        self.0.lock().remove(pool);
    }

    /// Returns all records, by pool.
    pub fn records(&self) -> BTreeMap<String, SupervisorRecord> {
        self.0.lock().clone()
    }

    /// Returns the view of one pool's supervisor.
    pub(super) fn view(&self, pool: &str) -> Option<SupervisorView> {
        self.0.lock().get(pool).map(SupervisorRecord::view)
    }
}

impl RegistryHandle {
    /// Returns the status of supervisors.
    pub fn supervisors(&self) -> &SupervisorBoard {
        &self.supervisors
    }

    /// Applies the effect of a supervisor's message.
    pub fn heed_supervisor(&self, change: SupervisedChange) {
        let _ = self.commands.send(RegistryCommand::Heed(change));
    }

    /// Sends an event to subscribers that a pool's supervisor can be reached, or no longer.
    pub fn tell_supervisor(&self, pool: &str, state: &str, reason: String) {
        let event = EventView {
            kind: EventKind::Supervisor.as_str().to_owned(),
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
    /// Applies the effect of a supervisor's message to every backend of that name that no launcher holds: a launcher
    /// reports the stop of its process itself.
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
