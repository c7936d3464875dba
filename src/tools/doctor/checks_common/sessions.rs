//! Checks whether sessions that a drain lets finish have enough time.

use super::super::checks as check;
use super::super::model::{ExpectedDrain, Supervisor};
use super::times::SIGTERM_CAP;
use super::{Help, ProcessJudge};
use crate::config::duration::format;
use crate::config::{OnDrain, PoolConfig, Severity};

/// Whether sessions stay on a backend that drains.
pub(super) fn finishes(pool: &PoolConfig) -> bool {
    let sticky = pool.sticky.as_ref();
    sticky.is_some_and(|sticky| sticky.on_drain == OnDrain::Finish)
}

impl ProcessJudge<'_> {
    /// Checks whether a process is stopped before its sessions may have finished, as long as the pool's drain lasts.
    /// Made after the checks of other times: if one of those is too short, it has to be corrected first, and says the
    /// same.
    pub(super) fn sessions(&mut self) {
        const TIMES: [&str; 3] = [
            check::KILL_TIMEOUT.code,
            check::SIGTERM_CAP.code,
            check::GRACE_PERIOD.code,
        ];
        let process = self.process;
        let Some(pool) = self.pool.filter(|pool| finishes(pool)) else {
            return;
        };
        let launch = process.launch();
        let is_other = launch.is_some_and(|launch| launch.no_port || launch.is_unknown);
        let is_told = (self.pending.iter()).any(|(_, check, ..)| TIMES.contains(&check.code));
        // The drain of a hook has the time that the hook says, before the signal.
        let is_hooked = !process.hooks.is_empty() || process.expected == ExpectedDrain::Nothing;
        if is_other || is_told || (is_hooked && process.launch().is_none()) {
            return;
        }
        let Some(written) = process.kill.after else {
            return;
        };
        let is_term = process.supervisor == Supervisor::Oxmgr && process.stop_signal() == "TERM";
        let after = match is_term {
            true => written.min(SIGTERM_CAP),
            false => written,
        };
        if after >= pool.drain.deadline {
            return;
        }
        let what = format!(
            "{}, and its pool `{}` lets sessions finish for {}",
            super::times::killed(process, after),
            pool.name,
            format(pool.drain.deadline)
        );
        let place = process.kill.place.clone();
        let needs_int = is_term && pool.drain.deadline > SIGTERM_CAP;
        let before = match needs_int {
            true => super::times::INT,
            false => "",
        };
        self.fix.drain.get_or_insert(pool.drain.deadline);
        self.add(
            Severity::Warning,
            check::SESSION_CUT,
            &place,
            what,
            Help::Time(before),
        );
    }
}
