//! What shows that a backend has restarted: by the next probe, or by a command's end. One vocabulary for drains that
//! end with a restart and for rolls.

use super::{DrainActor, DrainEntry, DrainSet, DrainUntil};
use crate::core::Time;
use crate::core::event::BackendEffect;

/// After this long without a sign of a restart, a warning says that none is seen, and why that may be. A restart that
/// no probe can show at all ([`RestartSign::Probe`]) is given the same time to happen.
pub const UNSEEN_AFTER: Time = Time::from_secs(5);

/// What shows that a backend has restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartSign {
    /// Another process is behind it: another listening socket, an answer after a refusal, a new registration.
    #[default]
    NewProcess,
    /// What was there has ended. In a drain: every process that accepted connections on the listening socket, where
    /// the edge can see them. In a roll: the command, if it ended well. Fresh probes pass after that.
    Exit,
    /// Fresh probes pass: after one that failed, or, where none failed, once [`UNSEEN_AFTER`] has passed since the
    /// backend was drained (in a roll: since the command ended).
    Probe,
}

impl RestartSign {
    /// Every sign.
    pub const ALL: [Self; 3] = [Self::NewProcess, Self::Exit, Self::Probe];

    /// As the API, the command line and the kept state write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewProcess => "new-process",
            Self::Exit => "exit",
            Self::Probe => "probe",
        }
    }

    /// The sign of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sign| sign.as_str() == name)
    }
}

/// One probe, and what is known of those before it.
#[derive(Debug, Clone, Copy)]
pub(in crate::core) struct Probed {
    /// It probed.
    pub well: bool,
    /// When it was begun.
    pub began: Time,
    /// When the last one that did not pass was begun.
    pub gap: Option<Time>,
    /// Since when nothing has been in flight and no connection open. `None`: something is.
    pub quiet: Option<Time>,
    /// The process, as far as it was told from others.
    pub incarnation: u64,
}

impl DrainEntry {
    /// Since when its restart may have happened; `None` if it waits for none (any more), or the probe shows nothing.
    fn awaits_since(&self, probed: Probed) -> Option<Time> {
        let waits = matches!(self.drain.until, DrainUntil::Restarted(_));
        let same = self.incarnation == probed.incarnation;
        let quiet = probed.quiet.filter(|_| probed.well && waits && same)?;
        Some(quiet.max(self.asked))
    }

    /// Whether this probe is another process's by the sign that its asker chose.
    fn shows_restart(&self, probed: Probed) -> bool {
        let Some(since) = self.awaits_since(probed) else {
            return false;
        };
        match self.drain.until {
            DrainUntil::Restarted(RestartSign::Exit) => {
                self.ended.is_some_and(|ended| ended <= probed.began)
            }
            DrainUntil::Restarted(RestartSign::Probe) => {
                let gap = probed.gap.is_some_and(|gap| gap >= since);
                gap || probed.began >= since.saturating_add(UNSEEN_AFTER)
            }
            DrainUntil::Restarted(RestartSign::NewProcess) | DrainUntil::Resumed => false,
        }
    }
}

impl DrainSet {
    /// Whether this probe is another process's, by the sign that some drain waits for.
    pub(in crate::core) fn show_restart(&self, probed: Probed) -> bool {
        self.0.values().any(|entry| entry.shows_restart(probed))
    }

    /// The processes that were there when this drain was asked for have ended.
    pub(in crate::core) fn note_end(&mut self, actor: DrainActor, id: &str, now: Time) {
        if let Some(entry) = self.0.get_mut(&(actor, id.to_owned())) {
            entry.ended = Some(now);
        }
    }

    /// Notes the drains that have waited too long for a restart while the same process goes on passing its probes;
    /// each once.
    pub(in crate::core) fn note_unseen(&mut self, probed: Probed) -> Vec<BackendEffect> {
        let mut noted = Vec::new();
        for ((actor, id), entry) in &mut self.0 {
            let since = entry.awaits_since(probed);
            let late = since.is_some_and(|at| probed.began >= at.saturating_add(UNSEEN_AFTER));
            if late && !std::mem::replace(&mut entry.drain.unseen, true) {
                noted.push(BackendEffect::Unseen {
                    actor: *actor,
                    id: id.clone(),
                });
            }
        }
        noted
    }
}
