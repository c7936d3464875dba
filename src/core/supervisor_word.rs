//! What a supervisor reports about one process, here called a *word*, and its effect on the backend. Words may come
//! twice, late and with gaps; each has the time at which it was true, and names its process if the supervisor
//! distinguishes processes.
//!
//! If a supervisor reports nothing, that has no effect: neither drains nor resumes follow from it.

use std::collections::VecDeque;

use super::Time;

/// Number of ended processes that are remembered, so that late words about them are recognised.
const REMEMBERED: usize = 8;

/// Identity of a process among those with the same name: the ID of an invocation, a PID with its start time, a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessMark(pub String);

/// A word about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessWord {
    /// It is to be stopped, but no signal has been sent yet: that can be withdrawn.
    StopPlanned,
    /// It is being stopped: its signal has been sent, or is about to be.
    Stopping,
    /// It runs.
    Running,
    /// It has ended, and its supervisor keeps its name.
    Ended,
    /// The supervisor knows no process with this name.
    Unknown,
}

impl ProcessWord {
    /// All words.
    pub const ALL: [Self; 5] = [
        Self::StopPlanned,
        Self::Stopping,
        Self::Running,
        Self::Ended,
        Self::Unknown,
    ];

    /// Returns the name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StopPlanned => "stop_planned",
            Self::Stopping => "stopping",
            Self::Running => "running",
            Self::Ended => "ended",
            Self::Unknown => "unknown",
        }
    }
}

/// A word as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardWord {
    /// The word.
    pub word: ProcessWord,
    /// The process; `None`: the present one.
    pub process: Option<ProcessMark>,
    /// Time at which it was true: when an event came, or when a query of the state was begun.
    pub at: Time,
}

/// Effect on the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WordEffect {
    /// Drain the backend.
    Drain,
    /// End that drain: the stop was withdrawn, or there is nothing left to stop.
    Lift,
    /// End that drain: another process runs.
    RunsAgain,
    /// Probe the backend now: the process has ended, or is another one, without an earlier word.
    Look,
}

/// What is known of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ProcessKnowledge {
    /// No word has been received yet.
    Nothing,
    Running(Option<ProcessMark>),
    Stopping {
        process: Option<ProcessMark>,
        signalled: bool,
    },
    Ended,
    Unknown,
}

/// One backend's process, according to its supervisor.
#[derive(Debug, Clone)]
pub struct WatchedProcess {
    known: ProcessKnowledge,
    /// Processes that have ended.
    past: VecDeque<ProcessMark>,
    /// Time at which the last word was true.
    last: Time,
}

impl Default for WatchedProcess {
    fn default() -> Self {
        Self {
            known: ProcessKnowledge::Nothing,
            past: VecDeque::new(),
            last: Time::ZERO,
        }
    }
}

impl WatchedProcess {
    /// Whether its stop was announced, and no process has run since.
    pub fn is_stopping(&self) -> bool {
        matches!(self.known, ProcessKnowledge::Stopping { .. })
    }

    /// Processes one word. A word that is older than the last one, or about a process that has ended, is ignored.
    pub fn hear(&mut self, heard: HeardWord) -> Option<WordEffect> {
        let HeardWord { word, process, at } = heard;
        let late = at < self.last;
        // "No such process" is about the name, whichever process had it last.
        let of_past = word != ProcessWord::Unknown
            && process.as_ref().is_some_and(|of| self.past.contains(of));
        if late || of_past {
            return None;
        }
        self.last = at;
        match word {
            ProcessWord::StopPlanned => self.stops(process, false),
            ProcessWord::Stopping => self.stops(process, true),
            ProcessWord::Running => self.runs(process),
            ProcessWord::Ended => self.ended(process),
            ProcessWord::Unknown => self.is_unknown(),
        }
    }

    fn stops(&mut self, process: Option<ProcessMark>, signalled: bool) -> Option<WordEffect> {
        let (before, was_signalled) = match &self.known {
            // There is nothing to stop: the word is about the process that has ended.
            ProcessKnowledge::Ended if process.is_none() => return None,
            ProcessKnowledge::Nothing | ProcessKnowledge::Ended | ProcessKnowledge::Unknown => {
                (None, None)
            }
            ProcessKnowledge::Running(before) => (before.clone(), None),
            ProcessKnowledge::Stopping { process, signalled } => {
                (process.clone(), Some(*signalled))
            }
        };
        let is_another = differ(&before, &process);
        if is_another {
            self.remember(before.clone());
        }
        let same = was_signalled.filter(|_| !is_another);
        self.known = ProcessKnowledge::Stopping {
            process: process.or(before),
            signalled: signalled || same.unwrap_or(false),
        };
        same.is_none().then_some(WordEffect::Drain)
    }

    fn runs(&mut self, process: Option<ProcessMark>) -> Option<WordEffect> {
        let running = ProcessKnowledge::Running(process.clone());
        match std::mem::replace(&mut self.known, running) {
            // There may be a drain that an earlier run of the proxy has kept.
            ProcessKnowledge::Nothing => Some(WordEffect::Lift),
            ProcessKnowledge::Running(before) => {
                if process.is_none() {
                    self.known = ProcessKnowledge::Running(before);
                    return None;
                }
                let is_another = differ(&before, &process);
                if is_another {
                    self.remember(before);
                }
                is_another.then_some(WordEffect::Look)
            }
            ProcessKnowledge::Stopping {
                process: before,
                signalled,
            } => {
                let is_same = before.is_some() && !differ(&before, &process);
                match (is_same, signalled) {
                    // A signal can't be withdrawn.
                    (true, true) => {
                        self.known = ProcessKnowledge::Stopping {
                            process: before,
                            signalled,
                        };
                        None
                    }
                    (true, false) => {
                        self.known = ProcessKnowledge::Running(process.or(before));
                        Some(WordEffect::Lift)
                    }
                    (false, _) => {
                        self.remember(before);
                        Some(WordEffect::RunsAgain)
                    }
                }
            }
            ProcessKnowledge::Ended | ProcessKnowledge::Unknown => Some(WordEffect::RunsAgain),
        }
    }

    fn ended(&mut self, process: Option<ProcessMark>) -> Option<WordEffect> {
        let before = match &self.known {
            ProcessKnowledge::Running(before) => before.clone(),
            ProcessKnowledge::Stopping {
                process: before, ..
            } => before.clone(),
            ProcessKnowledge::Nothing => {
                self.known = ProcessKnowledge::Ended;
                self.remember(process);
                return None;
            }
            ProcessKnowledge::Ended | ProcessKnowledge::Unknown => {
                self.known = ProcessKnowledge::Ended;
                return None;
            }
        };
        let is_another = differ(&before, &process);
        self.remember(process);
        if is_another {
            return None;
        }
        self.remember(before);
        self.known = ProcessKnowledge::Ended;
        Some(WordEffect::Look)
    }

    fn is_unknown(&mut self) -> Option<WordEffect> {
        match std::mem::replace(&mut self.known, ProcessKnowledge::Unknown) {
            ProcessKnowledge::Unknown => None,
            ProcessKnowledge::Running(before) => {
                self.remember(before);
                Some(WordEffect::Look)
            }
            ProcessKnowledge::Stopping { process, .. } => {
                self.remember(process);
                Some(WordEffect::Lift)
            }
            ProcessKnowledge::Nothing | ProcessKnowledge::Ended => Some(WordEffect::Lift),
        }
    }

    fn remember(&mut self, process: Option<ProcessMark>) {
        let Some(process) = process.filter(|process| !self.past.contains(process)) else {
            return;
        };
        if self.past.len() == REMEMBERED {
            self.past.pop_front();
        }
        self.past.push_back(process);
    }
}

/// Whether these are known to be two processes.
fn differ(one: &Option<ProcessMark>, other: &Option<ProcessMark>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

#[cfg(test)]
mod tests;
