//! A launcher: what it does about its app, its lease and its supervisor's signals.
//!
//! [`AppLaunch::step`] is the only way to change it. It knows neither processes nor sockets: events go in, and the
//! effects to carry out come out, in order.

use super::Time;
use super::drain::DrainOutcome;
use event::requests;
pub use event::{
    DEFAULT_DRAIN, LONGEST_LAME_DUCK, LaunchEffect, LaunchEvent, LaunchPlan, ProcessExit,
    signal_name,
};
use exit::LEFTOVERS;

mod event;
mod exit;
pub mod proxies;

/// Signals before which the lease is drained. Others, such as SIGHUP, are passed to the app at once.
const STOPS: [i32; 3] = [2, 3, 15];
/// SIGINT, which a terminal sends to the whole process group: wrappers such as npm and shells rely on it.
const INT: i32 = 2;
/// SIGTERM, for processes that the launcher stops of its own accord.
const TERM: i32 = 15;
/// SIGKILL.
const KILL: i32 = 9;

/// Time within which the same signal counts as sent twice (to the process and to its group, say), and so does another
/// of the three while a drain is in progress: Ctrl-C reaches the whole group as SIGINT, and the program that runs the
/// group answers it with SIGTERM to each process.
const SAME_SIGNAL: Time = Time::from_secs(1);
/// Pause without a lease, when the number of requests in flight is unknown; shorter if the drain timeout is.
const UNKNOWN: Time = Time::from_secs(1);
/// How much later than its deadline the proxy may report the end of a drain.
const SLACK: Time = Time::from_millis(500);
/// Time after SIGTERM for an app that failed to become ready.
const FAILED: Time = Time::from_secs(5);
/// Time without readiness after which the launcher says why; it says so again whenever the time has doubled.
const SLOW: Time = Time::from_secs(10);
/// Time without an exit after which the launcher says that the app ignores its signal.
const IGNORED: Time = Time::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeasePhase {
    /// There never was a lease.
    Never,
    Held,
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaunchPhase {
    Running,
    /// The proxy is a lame duck, until this time.
    LameDuck {
        signal: i32,
        until: Time,
    },
    /// The proxy drains, with this deadline.
    Draining {
        signal: i32,
        deadline: Time,
    },
    /// No proxy can be asked for a drain; there is a short pause instead. If a proxy grants the lease meanwhile, it
    /// drains until the deadline.
    Pause {
        signal: i32,
        until: Time,
        deadline: Time,
    },
    /// A stop signal has been sent to the app.
    Forwarded {
        signal: i32,
        at: Time,
        said: bool,
    },
    /// The app failed to become ready and is being stopped.
    Failing {
        kill: Option<Time>,
    },
    /// The app died during the drain; the proxy counts the lost requests.
    Counting {
        fate: ProcessExit,
        leftovers: bool,
        until: Time,
    },
    /// The app is gone, but some of its processes are not.
    Leftovers {
        fate: ProcessExit,
        until: Time,
        told: bool,
    },
    Over,
}

/// State of a launcher.
#[derive(Debug)]
pub struct AppLaunch {
    plan: LaunchPlan,
    phase: LaunchPhase,
    lease: LeasePhase,
    ready: bool,
    started: Time,
    explain: Option<Time>,
    last_stop: Option<(i32, Time)>,
}

impl AppLaunch {
    /// Creates a launcher whose app is about to start.
    pub fn new(plan: LaunchPlan) -> Self {
        Self {
            plan,
            phase: LaunchPhase::Running,
            lease: LeasePhase::Never,
            ready: false,
            started: Time::ZERO,
            explain: None,
            last_stop: None,
        }
    }

    /// Whether the launcher has been told to stop, or the app is gone.
    pub fn is_ending(&self) -> bool {
        self.phase != LaunchPhase::Running
    }

    /// Whether the app is gone, but some of its processes are not.
    pub fn has_leftovers(&self) -> bool {
        matches!(self.phase, LaunchPhase::Leftovers { .. })
    }

    /// Returns when [`LaunchEvent::Tick`] is next needed.
    pub fn next_deadline(&self) -> Option<Time> {
        match self.phase {
            LaunchPhase::Running if self.ready => None,
            LaunchPhase::Running => {
                let failed = self.plan.ready_timeout.map(|after| self.started + after);
                [self.explain, failed].into_iter().flatten().min()
            }
            LaunchPhase::LameDuck { until, .. }
            | LaunchPhase::Pause { until, .. }
            | LaunchPhase::Counting { until, .. }
            | LaunchPhase::Leftovers { until, .. } => Some(until),
            LaunchPhase::Draining { deadline, .. } => Some(deadline + SLACK),
            LaunchPhase::Forwarded { at, said, .. } => (!said).then_some(at + IGNORED),
            LaunchPhase::Failing { kill } => kill,
            LaunchPhase::Over => None,
        }
    }

    /// Processes one event, and returns the effects to carry out.
    pub fn step(&mut self, event: LaunchEvent, now: Time) -> Vec<LaunchEffect> {
        let mut todo = Vec::new();
        match event {
            LaunchEvent::Started => self.started(now, &mut todo),
            LaunchEvent::Listening => todo.push(LaunchEffect::Register),
            LaunchEvent::Registered => self.registered(now, &mut todo),
            LaunchEvent::Ready(ready) => self.readiness(ready, &mut todo),
            LaunchEvent::Quiet => self.quiet(now, &mut todo),
            LaunchEvent::Drained(ending) => self.drained(ending, now, &mut todo),
            LaunchEvent::DrainRefused(why) => self.refused(&why, now, &mut todo),
            LaunchEvent::LeaseLost => self.lease_lost(now, &mut todo),
            LaunchEvent::Signal(signal) if STOPS.contains(&signal) => {
                self.stop(signal, now, &mut todo)
            }
            LaunchEvent::Signal(signal) => {
                if !matches!(
                    self.phase,
                    LaunchPhase::Counting { .. }
                        | LaunchPhase::Leftovers { .. }
                        | LaunchPhase::Over
                ) {
                    todo.push(LaunchEffect::Send(signal));
                }
            }
            LaunchEvent::Exited { fate, leftovers } => self.exited(fate, leftovers, now, &mut todo),
            LaunchEvent::NobodyLeft => {
                if let LaunchPhase::Leftovers { fate, .. } = self.phase {
                    self.end(fate, &mut todo);
                }
            }
            LaunchEvent::Tick => {}
        }
        self.pass_time(now, &mut todo);
        todo
    }

    fn started(&mut self, now: Time, todo: &mut Vec<LaunchEffect>) {
        self.started = now;
        if self.plan.port {
            self.explain = Some(now + SLOW);
        } else {
            self.ready = true;
            todo.push(LaunchEffect::TellReady);
        }
    }

    fn registered(&mut self, now: Time, todo: &mut Vec<LaunchEffect>) {
        match self.phase {
            LaunchPhase::Running => self.lease = LeasePhase::Held,
            LaunchPhase::Pause {
                signal, deadline, ..
            } => {
                let left = deadline.saturating_sub(now);
                todo.push(LaunchEffect::TellStopping(left + SLACK));
                self.drain(signal, deadline, now, todo);
            }
            LaunchPhase::LameDuck { .. } | LaunchPhase::Draining { .. } => {}
            _ => todo.push(LaunchEffect::DropLease),
        }
    }

    fn readiness(&mut self, ready: bool, todo: &mut Vec<LaunchEffect>) {
        if ready && !self.ready && self.phase == LaunchPhase::Running {
            self.ready = true;
            todo.push(LaunchEffect::TellReady);
        }
    }

    fn stop(&mut self, signal: i32, now: Time, todo: &mut Vec<LaunchEffect>) {
        let waits = matches!(
            self.phase,
            LaunchPhase::LameDuck { .. } | LaunchPhase::Draining { .. } | LaunchPhase::Pause { .. }
        );
        let same = |(last, at): (i32, Time)| {
            (last == signal || waits) && now.saturating_sub(at) < SAME_SIGNAL
        };
        if self.last_stop.is_some_and(same) {
            return;
        }
        self.last_stop = Some((signal, now));
        let name = signal_name(signal);
        match self.phase {
            LaunchPhase::Running => self.begin(signal, now, todo),
            LaunchPhase::LameDuck { .. }
            | LaunchPhase::Draining { .. }
            | LaunchPhase::Pause { .. } => {
                todo.push(LaunchEffect::Say(format!(
                    "told to stop again: {name} goes to the app at once, whatever is in flight"
                )));
                self.forward(signal, now, todo);
                todo.pop();
                todo.push(LaunchEffect::SendGroup(signal));
            }
            LaunchPhase::Forwarded { .. } | LaunchPhase::Failing { .. } => {
                todo.push(LaunchEffect::SendGroup(signal));
            }
            LaunchPhase::Leftovers { .. } => todo.push(LaunchEffect::SendAll(signal)),
            LaunchPhase::Counting { .. } | LaunchPhase::Over => {}
        }
    }

    fn begin(&mut self, signal: i32, now: Time, todo: &mut Vec<LaunchEffect>) {
        if !self.plan.port {
            return self.forward(signal, now, todo);
        }
        let name = signal_name(signal);
        let deadline = now + self.plan.drain_timeout;
        // The lease is asked for until the app gets the signal: when another process takes over from the proxy, the
        // drain goes on there.
        match self.lease {
            // No requests were ever sent to the app.
            LeasePhase::Never => self.forward(signal, now, todo),
            LeasePhase::Lost => {
                todo.push(LaunchEffect::Say(format!(
                    "{name}, and the proxy can't be reached: the app gets the signal without a drain"
                )));
                self.pause(signal, deadline, now, todo);
            }
            LeasePhase::Held if self.plan.lame_duck > Time::ZERO => {
                let until = now + self.plan.lame_duck;
                todo.push(LaunchEffect::TellStopping(
                    self.plan.lame_duck + self.plan.drain_timeout + SLACK,
                ));
                let until_quiet = self.plan.until_quiet;
                todo.push(LaunchEffect::AskLameDuck { until_quiet });
                self.phase = LaunchPhase::LameDuck { signal, until };
            }
            LeasePhase::Held => {
                todo.push(LaunchEffect::TellStopping(self.plan.drain_timeout + SLACK));
                self.drain(signal, deadline, now, todo);
            }
        }
    }

    /// Begins the drain early, because no new requests come: a client that had not noticed the lame duck would have
    /// sent one.
    fn quiet(&mut self, now: Time, todo: &mut Vec<LaunchEffect>) {
        if let LaunchPhase::LameDuck { signal, .. } = self.phase {
            self.drain(signal, now + self.plan.drain_timeout, now, todo);
        }
    }

    fn drain(&mut self, signal: i32, deadline: Time, now: Time, todo: &mut Vec<LaunchEffect>) {
        todo.push(LaunchEffect::AskDrain(deadline.saturating_sub(now)));
        self.phase = LaunchPhase::Draining { signal, deadline };
    }

    /// Pauses for a moment, because the number of requests in flight is unknown.
    fn pause(&mut self, signal: i32, deadline: Time, now: Time, todo: &mut Vec<LaunchEffect>) {
        let pause = deadline.saturating_sub(now).min(UNKNOWN);
        todo.push(LaunchEffect::TellStopping(pause));
        self.phase = LaunchPhase::Pause {
            signal,
            until: now + pause,
            deadline,
        };
    }

    fn forward(&mut self, signal: i32, now: Time, todo: &mut Vec<LaunchEffect>) {
        if self.plan.port {
            todo.push(LaunchEffect::StopRegistering);
        }
        todo.push(LaunchEffect::TellStopping(IGNORED));
        todo.push(match signal {
            INT => LaunchEffect::SendGroup(signal),
            _ => LaunchEffect::Send(signal),
        });
        self.phase = LaunchPhase::Forwarded {
            signal,
            at: now,
            said: false,
        };
    }

    fn drained(&mut self, ending: DrainOutcome, now: Time, todo: &mut Vec<LaunchEffect>) {
        match (self.phase, ending) {
            (LaunchPhase::Draining { signal, deadline }, DrainOutcome::Resumed) => {
                // The signal has come nevertheless, so the backend must stay closed.
                todo.push(LaunchEffect::Say(
                    "somebody lifted the drain, but the app is about to stop: draining again"
                        .to_owned(),
                ));
                self.drain(signal, deadline, now, todo);
            }
            (LaunchPhase::Draining { signal, .. }, ending) => {
                match ending {
                    DrainOutcome::TimedOut { cut } => todo.push(LaunchEffect::Say(format!(
                        "the drain's deadline ({:?}) passed: {} cut; a longer --drain-timeout lets more of them finish, \
                         if the supervisor waits as long",
                        self.plan.drain_timeout,
                        requests(cut)
                    ))),
                    DrainOutcome::Died { lost } => todo.push(LaunchEffect::Say(format!(
                        "the app died in mid-drain: {} lost",
                        requests(lost)
                    ))),
                    DrainOutcome::Drained | DrainOutcome::Resumed => {}
                }
                self.forward(signal, now, todo);
            }
            (
                LaunchPhase::Counting {
                    fate, leftovers, ..
                },
                ending,
            ) => {
                if let DrainOutcome::Died { lost } | DrainOutcome::TimedOut { cut: lost } = ending {
                    todo.push(LaunchEffect::Say(format!(
                        "{} lost with it",
                        requests(lost)
                    )));
                }
                self.end_launch(fate, leftovers, now, todo);
            }
            _ => {}
        }
    }

    fn refused(&mut self, why: &str, now: Time, todo: &mut Vec<LaunchEffect>) {
        if let LaunchPhase::Draining { signal, deadline } = self.phase {
            todo.push(LaunchEffect::Say(format!(
                "the drain could not be asked for ({why}): leaving the proxy at once instead"
            )));
            todo.push(LaunchEffect::DropLease);
            self.lease = LeasePhase::Lost;
            self.pause(signal, deadline, now, todo);
        }
    }

    fn lease_lost(&mut self, now: Time, todo: &mut Vec<LaunchEffect>) {
        self.lease = LeasePhase::Lost;
        let (signal, deadline) = match self.phase {
            LaunchPhase::LameDuck { signal, .. } => (signal, now + self.plan.drain_timeout),
            LaunchPhase::Draining { signal, deadline } => (signal, deadline),
            LaunchPhase::Counting {
                fate, leftovers, ..
            } => return self.end_launch(fate, leftovers, now, todo),
            _ => return,
        };
        todo.push(LaunchEffect::Say(
            "the proxy is gone in mid-drain: nothing more is sent to the app".to_owned(),
        ));
        self.pause(signal, deadline, now, todo);
    }

    fn pass_time(&mut self, now: Time, todo: &mut Vec<LaunchEffect>) {
        if self.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        match self.phase {
            LaunchPhase::Running => self.slow(now, todo),
            LaunchPhase::LameDuck { signal, .. } => {
                self.drain(signal, now + self.plan.drain_timeout, now, todo);
            }
            LaunchPhase::Draining { signal, .. } => {
                todo.push(LaunchEffect::Say(format!(
                    "the proxy does not say how the drain ended, and its time ({:?}) is over",
                    self.plan.drain_timeout
                )));
                todo.push(LaunchEffect::DropLease);
                self.forward(signal, now, todo);
            }
            LaunchPhase::Pause { signal, .. } => self.forward(signal, now, todo),
            LaunchPhase::Forwarded { signal, at, .. } => {
                let name = signal_name(signal);
                todo.push(LaunchEffect::Say(format!(
                    "the app still runs {IGNORED:?} after {name}: it ignores it, or takes long to stop. What its \
                     supervisor does now is up to the supervisor's own timeout"
                )));
                self.phase = LaunchPhase::Forwarded {
                    signal,
                    at,
                    said: true,
                };
            }
            LaunchPhase::Failing { .. } => {
                todo.push(LaunchEffect::SendAll(KILL));
                self.phase = LaunchPhase::Failing { kill: None };
            }
            LaunchPhase::Counting {
                fate, leftovers, ..
            } => self.end_launch(fate, leftovers, now, todo),
            LaunchPhase::Leftovers { fate, told, .. } if !told => {
                self.end_launch(fate, true, now, todo)
            }
            LaunchPhase::Leftovers { fate, .. } => {
                todo.push(LaunchEffect::Say(format!(
                    "some of the app's processes still run {LEFTOVERS:?} after it ended: killing them"
                )));
                todo.push(LaunchEffect::SendAll(KILL));
                self.end(fate, todo);
            }
            LaunchPhase::Over => {}
        }
    }

    fn slow(&mut self, now: Time, todo: &mut Vec<LaunchEffect>) {
        let after = now.saturating_sub(self.started);
        todo.push(LaunchEffect::Explain { after });
        self.explain = Some(now + after.max(SLOW));
        let failed = self
            .plan
            .ready_timeout
            .filter(|timeout| self.started + *timeout <= now);
        if let Some(timeout) = failed {
            todo.push(LaunchEffect::Say(format!(
                "not ready within --ready-timeout ({timeout:?}): stopping the app"
            )));
            todo.push(LaunchEffect::StopRegistering);
            todo.push(LaunchEffect::DropLease);
            todo.push(LaunchEffect::Send(TERM));
            self.phase = LaunchPhase::Failing {
                kill: Some(now + FAILED),
            };
        }
    }
}

#[cfg(test)]
mod tests;
