//! Checks the time between the signal and SIGKILL against the duration of a stop.

use std::time::Duration;

use super::super::arithmetic::StopTimeSum;
use super::super::checks as check;
use super::super::command_line::ExecLaunch;
use super::super::finding::DoctorFindings;
use super::super::model::{ExpectedDrain, KillTimeout, SupervisedProcess, Supervisor};
use super::super::programs;
use super::super::proxy::ProxySide;
use super::sessions::finishes;
use super::{AssumedTimes, Corrections, Help, ProcessJudge};
use crate::config::Severity;
use crate::config::duration::format;

/// Longest time that Oxmgr waits after SIGTERM.
pub(super) const SIGTERM_CAP: Duration = Duration::from_secs(15);

/// Setting with which Oxmgr waits longer.
pub(super) const INT: &str = "stop_signal = \"SIGINT\"";

/// Time that a stop needs.
#[derive(Debug, Clone, Default)]
pub(super) struct StopNeeds {
    /// With less than this, requests are cut.
    must: StopTimeSum,
    /// With less than this, requests may be cut.
    all: StopTimeSum,
}

impl StopNeeds {
    /// Time after all corrections: a longer drain needs more.
    pub(super) fn of(
        process: &SupervisedProcess,
        launch: Option<&ExecLaunch>,
        fix: &Corrections,
        proxy: &ProxySide,
        assumed: AssumedTimes,
    ) -> Self {
        let mut must = StopTimeSum::default().and(process.slept, "sleep before the signal");
        match launch {
            Some(launch) if launch.no_port => {}
            Some(launch) => {
                let written = launch.drain.is_some() || fix.drain.is_some();
                let pool = launch.pool.as_deref().and_then(|pool| proxy.pool(pool));
                let drains = match written {
                    true if pool.is_some_and(finishes) => "drain, in which sessions finish",
                    true => "drain",
                    false => "drain (--drain-timeout's default)",
                };
                must = must
                    .and(fix.lame_duck().unwrap_or(launch.lame_duck), "lame duck")
                    .and(fix.drain.unwrap_or(launch.drains_for()), drains);
            }
            None if fix.wrap => {
                must = must
                    .and(fix.lame_duck().unwrap_or_default(), "lame duck")
                    .and(fix.drain.unwrap_or(Duration::from_secs(30)), "drain");
            }
            None => {
                if let Some(hook) = process
                    .hooks
                    .iter()
                    .find(|hook| hook.call.verb == "drain" || hook.call.verb == "deregister")
                {
                    let pool = hook.call.pool.as_deref().and_then(|pool| proxy.pool(pool));
                    let lame_duck = fix.lame_duck().unwrap_or(hook.call.lame_duck);
                    // systemd counts the hook's time separately from the stop's.
                    must = must
                        .and(lame_duck, "lame duck")
                        .and(hook.call.timeout.unwrap_or(proxy.drain(pool)), "drain");
                }
            }
        }
        let slack = Duration::from_secs(if process.supervisor == Supervisor::Kubernetes {
            2
        } else {
            1
        });
        let mut all = must.clone();
        if !(process.supervisor == Supervisor::Systemd && launch.is_none() && !fix.wrap) {
            all = match programs::graceful(&process.app()) {
                Some((option, time)) if time > assumed.app_stop => all.and(time, option),
                _ => all.and(assumed.app_stop, "for the app to stop"),
            };
        }
        StopNeeds {
            must,
            all: all.and(slack, "slack"),
        }
    }

    /// A round time that is enough.
    pub(super) fn enough(&self) -> Duration {
        self.all.total()
    }

    pub(super) fn exceed(&self, kill: &KillTimeout) -> bool {
        kill.after.is_some_and(|after| after < self.all.total())
    }
}

/// Description of the time between the signal and SIGKILL.
pub(super) fn killed(process: &SupervisedProcess, after: Duration) -> String {
    let default = if process.kill.written {
        ""
    } else {
        ", the default"
    };
    let from = match process.supervisor {
        Supervisor::Kubernetes => "its pod's deletion",
        _ => "its signal",
    };
    format!(
        "`{}` is killed {} after {from} ({}{default})",
        process.name,
        format(after),
        process.supervisor.kill_key(),
    )
}

impl ProcessJudge<'_> {
    /// Checks whether the supervisor waits long enough.
    pub(super) fn times(&mut self, launch: Option<&ExecLaunch>) {
        let process = self.process;
        if launch.is_some_and(|launch| launch.no_port || launch.is_unknown) {
            return;
        }
        let waits = process.hooks.iter().any(|hook| {
            ["drain", "deregister"].contains(&hook.call.verb.as_str())
                && !hook.call.no_wait
                && matches!(
                    process.supervisor,
                    Supervisor::Systemd | Supervisor::Kubernetes
                )
        });
        if launch.is_none() && !waits {
            return self.program_time();
        }
        let needs = StopNeeds::of(
            process,
            launch,
            &Corrections::default(),
            self.proxy,
            self.assumed,
        );
        let Some(finding) = too_short(process, &needs) else {
            return;
        };
        let (severity, check, what, before) = finding;
        let place = process.kill.place.clone();
        let help = match (check == check::SIGTERM_CAP, process.kill.after) {
            // The time itself is long enough.
            (true, Some(after)) if after >= needs.all.total() => Help::Text(before.into()),
            _ => Help::Time(before),
        };
        self.add(severity, check, &place, what, help);
    }

    /// Checks the graceful time-out of the app's own server, and the sleep of its pod's hook.
    fn program_time(&mut self) {
        let process = self.process;
        let Some(after) = process.kill.after else {
            return;
        };
        if !process.slept.is_zero() && after <= process.slept {
            let what = format!(
                "{}, and sleeps for {} of that before its signal",
                killed(process, after),
                format(process.slept)
            );
            let place = process.kill.place.clone();
            return self.add(
                Severity::Error,
                check::GRACE_PERIOD,
                &place,
                what,
                Help::Time(""),
            );
        }
        let concerned = process.hooks.is_empty() && process.expected != ExpectedDrain::Nothing;
        let Some((option, time)) = programs::graceful(&process.app()).filter(|_| concerned) else {
            return;
        };
        let sum = StopTimeSum::default()
            .and(process.slept, "sleep before the signal")
            .and(time, option);
        let all = sum.and(Duration::from_secs(1), "slack");
        if after < all.total() {
            let check = match process.supervisor {
                Supervisor::Kubernetes => check::GRACE_PERIOD,
                _ => check::KILL_TIMEOUT,
            };
            let what = format!("{}, and needs {all}", killed(process, after));
            let place = process.kill.place.clone();
            self.add(Severity::Warning, check, &place, what, Help::Time(""));
        }
    }
}

/// Decides about a kill timeout that is too short: the finding, and the setting that has to be beside the time.
fn too_short(
    process: &SupervisedProcess,
    needs: &StopNeeds,
) -> Option<(Severity, check::DoctorCheck, String, &'static str)> {
    let supervisor = process.supervisor;
    let written = process.kill.after?;
    let StopNeeds { must, all } = needs;
    let term = process.stop_signal() == "TERM";
    let capped = supervisor == Supervisor::Oxmgr && term && written > SIGTERM_CAP;
    let after = if capped { SIGTERM_CAP } else { written };
    if after >= all.total() {
        return None;
    }
    let severity = match after < must.total() {
        true => Severity::Error,
        false => Severity::Warning,
    };
    if capped {
        let what = format!(
            "{} waits at most 15s after SIGTERM for `{}`, and {all} are needed",
            supervisor.name(),
            process.name
        );
        return Some((severity, check::SIGTERM_CAP, what, INT));
    }
    let check = match supervisor {
        Supervisor::Kubernetes => check::GRACE_PERIOD,
        _ => check::KILL_TIMEOUT,
    };
    // Above the limit, a longer timeout alone has no effect.
    let needs_int = supervisor == Supervisor::Oxmgr && term && all.total() > SIGTERM_CAP;
    let what = format!("{}, and needs {all}", killed(process, after));
    Some((severity, check, what, if needs_int { INT } else { "" }))
}

/// Checks lameduck's own process.
pub(super) fn itself(process: &SupervisedProcess, proxy: &ProxySide, found: &mut DoctorFindings) {
    let must =
        StopTimeSum::default().and(proxy.deadline(), "of [server] deadline, lame duck included");
    let needs = StopNeeds {
        all: must.clone().and(Duration::from_secs(1), "slack"),
        must,
    };
    if let Some((severity, check, what, before)) = too_short(process, &needs) {
        let kill = process.kill_line(needs.enough());
        let help = if before.is_empty() {
            kill
        } else {
            format!("{before}\n{kill}")
        };
        found.add(severity, check, &process.kill.place, what, help);
    }
}
