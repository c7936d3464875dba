//! Signs of a backend's restart: in the next probe, or in the end of a command. Both drains that end with a restart
//! and rolls use them.

use super::{DrainActor, DrainEntry, DrainSet, DrainUntil};
use crate::core::Time;
use crate::core::event::BackendEffect;

/// Time without a sign of a restart after which a warning says that none is seen, and why that may be. A restart that
/// no probe can show at all ([`RestartSign::Probe`]) is given the same time to happen.
pub const UNSEEN_AFTER: Time = Time::from_secs(5);

/// The sign by which a backend's restart is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartSign {
    /// Another process is behind the backend: another listening socket, an answer after a refusal, a new
    /// registration.
    #[default]
    NewProcess,
    /// The old process has ended. In a drain: every process that accepted connections on the listening socket, if the
    /// edge can see them. In a roll: the command, if it succeeded. Fresh probes pass after that.
    Exit,
    /// Fresh probes pass: after a failed one, or, if none failed, once [`UNSEEN_AFTER`] has passed since the backend
    /// was drained (in a roll: since the command ended).
    Probe,
}

impl RestartSign {
    /// All signs.
    pub const ALL: [Self; 3] = [Self::NewProcess, Self::Exit, Self::Probe];

    /// Returns the name in the API, on the command line and in the kept state.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewProcess => "new-process",
            Self::Exit => "exit",
            Self::Probe => "probe",
        }
    }

    /// Returns the sign with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sign| sign.as_str() == name)
    }
}

/// One probe, with the history that matters for restarts.
#[derive(Debug, Clone, Copy)]
pub(in crate::core) struct Probed {
    /// Whether it passed.
    pub well: bool,
    /// When it began.
    pub began: Time,
    /// When the last probe that did not pass began.
    pub gap: Option<Time>,
    /// Time since which nothing has been in flight and no connection open. `None`: something is.
    pub quiet: Option<Time>,
    /// Number of the process, as far as it could be told from others.
    pub incarnation: u64,
}

impl DrainEntry {
    /// Returns the time since which the restart may have happened; `None` if the drain waits for none (any more), or
    /// the probe shows nothing.
    fn awaits_since(&self, probed: Probed) -> Option<Time> {
        let waits = matches!(self.drain.until, DrainUntil::Restarted(_));
        let same = self.incarnation == probed.incarnation;
        let quiet = probed.quiet.filter(|_| probed.well && waits && same)?;
        Some(quiet.max(self.asked))
    }

    /// Whether this probe reached another process, by the sign that the drain's order has chosen.
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
    /// Whether this probe reached another process, by the sign of any drain.
    pub(in crate::core) fn show_restart(&self, probed: Probed) -> bool {
        self.0.values().any(|entry| entry.shows_restart(probed))
    }

    /// Notes that the processes that were there at the time of this drain's order have ended.
    pub(in crate::core) fn note_end(&mut self, actor: DrainActor, id: &str, now: Time) {
        if let Some(entry) = self.0.get_mut(&(actor, id.to_owned())) {
            entry.ended = Some(now);
        }
    }

    /// Marks the drains that have waited too long for a restart while the same process still passes its probes; each
    /// is reported once.
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
