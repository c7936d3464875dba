//! Receives reports of a source, has the core judge them, and applies the effects.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::core::Time;
use crate::core::supervisor_word::{
    HeardWord, ProcessMark, ProcessWord, WatchedProcess, WordEffect,
};
use crate::registry::RegistryHandle;
use crate::registry::supervised::{SupervisedChange, WATCH};
use crate::rt::clock;

/// A backend and its process at the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchedBackend {
    /// Name of the process at the supervisor.
    pub process: String,
    /// Name of the backend.
    pub backend: String,
}

/// Listener for one pool's supervisor.
pub struct WordListener {
    handle: RegistryHandle,
    pool: String,
    kind: &'static str,
    watched: BTreeMap<String, (String, WatchedProcess)>,
    /// Whether the source has reported the state of every process, on this connection.
    caught_up: bool,
}

impl WordListener {
    /// A listener that watches nothing yet.
    pub fn new(handle: RegistryHandle, pool: &str, kind: &'static str) -> Self {
        Self {
            handle,
            pool: pool.to_owned(),
            kind,
            watched: BTreeMap::new(),
            caught_up: false,
        }
    }

    /// Watches these backends from now on. The state of those that were watched before is kept. Drains because of
    /// processes that are no longer watched are lifted.
    pub fn watch(&mut self, backends: &[WatchedBackend]) {
        let mut before = std::mem::take(&mut self.watched);
        for WatchedBackend { process, backend } in backends {
            let known = before.remove(process).filter(|(of, _)| of == backend);
            let known = known.unwrap_or_else(|| (backend.clone(), WatchedProcess::default()));
            self.watched.insert(process.clone(), known);
        }
        for (process, (backend, _)) in before {
            let why = format!("{} is no longer watched for {process}", self.kind);
            self.act(&backend, WordEffect::Lift, why);
        }
        self.caught_up = false;
        let watched = &self.watched;
        self.handle
            .supervisors()
            .note(&self.pool, self.kind, |record| {
                record
                    .unheard
                    .retain(|process, _| watched.contains_key(process));
            });
    }

    /// Lifts all drains that reports have caused, because lameduck stops listening to the supervisor.
    pub fn stop(&mut self) {
        self.watch(&[]);
        self.handle.supervisors().forget(&self.pool);
    }

    /// Names of the watched processes.
    pub fn processes(&self) -> Vec<String> {
        self.watched.keys().cloned().collect()
    }

    /// Whether this process is watched.
    pub fn watches(&self, process: &str) -> bool {
        self.watched.contains_key(process)
    }

    /// Whether the source has caught up on this connection.
    pub fn has_caught_up(&self) -> bool {
        self.caught_up
    }

    /// Handles a report about one process, as it was at `at`.
    pub fn hear(&mut self, process: &str, word: ProcessWord, mark: Option<String>, at: Time) {
        let Some((backend, known)) = self.watched.get_mut(process) else {
            return;
        };
        let heard = HeardWord {
            word,
            process: mark.map(ProcessMark),
            at,
        };
        debug!(pool = %self.pool, process, ?heard, "supervisor's word");
        let effect = known.hear(heard);
        let mut is_back = false;
        self.handle
            .supervisors()
            .note(&self.pool, self.kind, |record| {
                record.count(word);
                if word != ProcessWord::Unknown {
                    is_back = record.unheard.remove(process).is_some();
                }
            });
        if is_back {
            info!(pool = %self.pool, supervisor = self.kind, process, "the supervisor says how it is again");
        }
        if let Some(effect) = effect {
            let backend = backend.clone();
            let why = match effect {
                WordEffect::Drain => format!("{} is stopping {process}", self.kind),
                WordEffect::Lift => format!("{} is not stopping {process}", self.kind),
                WordEffect::RunsAgain => format!("{} runs {process} again", self.kind),
                WordEffect::Look => format!("{process} has ended, says {}", self.kind),
            };
            self.act(&backend, effect, why);
        }
    }

    /// Handles a report that the supervisor knows no such process.
    pub fn unknown(&mut self, process: &str, why: &str, at: Time) {
        self.hear(process, ProcessWord::Unknown, None, at);
        self.silent(process, why);
    }

    /// Handles that the state of this process is unknown, for this reason. The backend is not affected.
    pub fn silent(&mut self, process: &str, why: &str) {
        if !self.watches(process) {
            return;
        }
        let mut is_news = false;
        self.handle
            .supervisors()
            .note(&self.pool, self.kind, |record| {
                let before = record.unheard.insert(process.to_owned(), why.to_owned());
                is_news = before.as_deref() != Some(why);
            });
        if is_news {
            warn!(
                pool = %self.pool, supervisor = self.kind, process,
                "the supervisor says nothing of it: {why}; its backend is neither drained nor resumed by that"
            );
        }
    }

    /// Handles that the state of every process was reported.
    pub fn catch_up(&mut self) {
        if std::mem::replace(&mut self.caught_up, true) {
            return;
        }
        let mut away = None;
        self.handle
            .supervisors()
            .note(&self.pool, self.kind, |record| {
                if !record.listening {
                    away = Some(clock::now().saturating_sub(record.since));
                    record.listening = true;
                    record.since = clock::now();
                    record.why = None;
                }
            });
        if let Some(away) = away {
            let processes = self.watched.len();
            info!(pool = %self.pool, supervisor = self.kind, processes, away_ms = away.as_millis() as u64,
                  "listening to the supervisor");
            self.handle
                .tell_supervisor(&self.pool, "listening", format!("{} is heard", self.kind));
        }
    }

    /// Handles that the supervisor can't be reached.
    pub fn lose(&mut self, why: &str, next: Duration) {
        self.caught_up = false;
        let mut was_heard = false;
        let mut is_news = false;
        self.handle
            .supervisors()
            .note(&self.pool, self.kind, |record| {
                was_heard = std::mem::replace(&mut record.listening, false);
                is_news = record.why.as_deref() != Some(why);
                record.why = Some(why.to_owned());
                if was_heard {
                    record.since = clock::now();
                }
            });
        if was_heard || is_news {
            warn!(
                pool = %self.pool, supervisor = self.kind, retry_ms = next.as_millis() as u64,
                "the supervisor can't be heard: {why}; until it is, its backends are drained by their health checks, hooks \
                 and people only"
            );
            self.handle
                .tell_supervisor(&self.pool, "away", why.to_owned());
        }
    }

    fn act(&self, backend: &str, effect: WordEffect, reason: String) {
        self.handle.heed_supervisor(SupervisedChange {
            pool: self.pool.clone(),
            backend: backend.to_owned(),
            id: format!("{WATCH}{}", self.kind),
            effect,
            reason,
        });
    }
}
