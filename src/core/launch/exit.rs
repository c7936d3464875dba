//! The end of the app's process: its remaining processes are stopped, and the launcher ends as the app did.

use super::{AppLaunch, INT, LaunchEffect, LaunchPhase, ProcessExit, TERM, signal_name};
use crate::core::Time;

/// Wait for the proxy's count of lost requests, after the app died during the drain.
pub(super) const COUNT: Time = Time::from_millis(300);
/// Time after SIGTERM for the app's remaining processes.
pub(super) const LEFTOVERS: Time = Time::from_secs(5);

impl AppLaunch {
    pub(super) fn exited(
        &mut self,
        fate: ProcessExit,
        leftovers: bool,
        now: Time,
        todo: &mut Vec<LaunchEffect>,
    ) {
        match self.phase {
            LaunchPhase::LameDuck { signal, .. }
            | LaunchPhase::Draining { signal, .. }
            | LaunchPhase::Pause { signal, .. } => {
                let name = signal_name(signal);
                todo.push(LaunchEffect::Say(format!(
                    "the app died while it was draining, before {name} was passed on to it ({fate})"
                )));
                if matches!(self.phase, LaunchPhase::Draining { .. }) {
                    let until = now + COUNT;
                    self.phase = LaunchPhase::Counting {
                        fate,
                        leftovers,
                        until,
                    };
                } else {
                    self.end_launch(fate, leftovers, now, todo);
                }
            }
            LaunchPhase::Failing { .. } => {
                self.end_launch(ProcessExit::GivenUp, leftovers, now, todo)
            }
            LaunchPhase::Running => {
                if self.plan.port && !self.ready && fate != ProcessExit::Code(0) {
                    todo.push(LaunchEffect::Say(format!(
                        "the app ended before it was ready ({fate})"
                    )));
                }
                if leftovers {
                    todo.push(LaunchEffect::Say(format!(
                        "the app's first process has ended ({fate}) and left others running: they are told to stop. \
                         Under a launcher an app stays in the foreground: turn its daemon mode off, or start its \
                         server with `exec`"
                    )));
                }
                self.end_launch(fate, leftovers, now, todo);
            }
            LaunchPhase::Forwarded { .. } => self.end_launch(fate, leftovers, now, todo),
            LaunchPhase::Counting { .. } | LaunchPhase::Leftovers { .. } | LaunchPhase::Over => {}
        }
    }

    pub(super) fn end_launch(
        &mut self,
        fate: ProcessExit,
        leftovers: bool,
        now: Time,
        todo: &mut Vec<LaunchEffect>,
    ) {
        if leftovers {
            // The instance leaves now, not when the last process has ended.
            todo.push(LaunchEffect::StopRegistering);
            todo.push(LaunchEffect::DropLease);
            // A shell may end at SIGINT before its children, which got the signal, too, and are stopping.
            let told = !matches!(self.phase, LaunchPhase::Forwarded { signal: INT, .. });
            if told {
                todo.push(LaunchEffect::SendAll(TERM));
            }
            let until = now + LEFTOVERS;
            self.phase = LaunchPhase::Leftovers { fate, until, told };
        } else {
            self.end(fate, todo);
        }
    }

    pub(super) fn end(&mut self, fate: ProcessExit, todo: &mut Vec<LaunchEffect>) {
        self.phase = LaunchPhase::Over;
        todo.push(LaunchEffect::End(fate));
    }
}
