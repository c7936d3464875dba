//! A launcher's life: what it does about its app, its lease and its supervisor's signals.
//!
//! [`Launch::step`] is the only way to change it. It knows no process and no socket: what happens goes in, what has
//! to be done comes out, in this order.

use super::Time;
use event::requests;
pub use event::{DEFAULT_DRAIN, Effect, Ending, Event, Fate, Plan, signal_name};

mod event;

/// SIGHUP and its like go to the app as they come; these three are drained for first.
const STOPS: [i32; 3] = [2, 3, 15];
/// SIGINT, of which a terminal tells the whole group: wrappers such as npm and shells count on it.
const INT: i32 = 2;
/// SIGTERM, for what the launcher stops of its own accord.
const TERM: i32 = 15;
/// SIGKILL.
const KILL: i32 = 9;

/// The same signal within this time is the same one, sent twice (to the process and to its group, say), and so is
/// another of the three while there is a drain: Ctrl-C reaches the whole group as SIGINT, and what runs the group
/// answers it with SIGTERM to each.
const SAME_SIGNAL: Time = Time::from_secs(1);
/// Without a lease nothing is known of what is in flight: it gets this long, or the drain's time if that is less.
const UNKNOWN: Time = Time::from_secs(1);
/// The proxy tells of the drain's deadline itself; it may be this late.
const SLACK: Time = Time::from_millis(500);
/// After the app's death in mid-drain: how long to wait for the proxy's count of what was lost.
const COUNT: Time = Time::from_millis(300);
/// What the app leaves running gets this long after SIGTERM.
const LEFTOVERS: Time = Time::from_secs(5);
/// An app that failed to become ready gets this long after SIGTERM.
const FAILED: Time = Time::from_secs(5);
/// After this long without readiness, and again after twice the time, it is said why.
const SLOW: Time = Time::from_secs(10);
/// After this long without an exit, it is said that the app ignores its signal.
const IGNORED: Time = Time::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lease {
    /// There never was one.
    Never,
    Held,
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The proxy is lame duck: until then.
    LameDuck {
        signal: i32,
        until: Time,
    },
    /// The proxy drains; its deadline.
    Draining {
        signal: i32,
        deadline: Time,
    },
    /// Nobody can be asked: a pause.
    Pause {
        signal: i32,
        until: Time,
    },
    /// The app has been sent a stop signal.
    Forwarded {
        signal: i32,
        at: Time,
        said: bool,
    },
    /// The app failed to become ready and is being stopped.
    Failing {
        kill: Option<Time>,
    },
    /// The app died in mid-drain; the proxy counts.
    Counting {
        fate: Fate,
        leftovers: bool,
        until: Time,
    },
    /// The app is gone, some of its processes are not.
    Leftovers {
        fate: Fate,
        until: Time,
        told: bool,
    },
    Over,
}

/// A launcher.
#[derive(Debug)]
pub struct Launch {
    plan: Plan,
    phase: Phase,
    lease: Lease,
    ready: bool,
    started: Time,
    explain: Option<Time>,
    last_stop: Option<(i32, Time)>,
}

impl Launch {
    /// A launcher whose app is about to start.
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            phase: Phase::Running,
            lease: Lease::Never,
            ready: false,
            started: Time::ZERO,
            explain: None,
            last_stop: None,
        }
    }

    /// Whether it has been told to stop, or the app is gone.
    pub fn is_ending(&self) -> bool {
        self.phase != Phase::Running
    }

    /// Whether the app is gone, and some of its processes are not.
    pub fn buries(&self) -> bool {
        matches!(self.phase, Phase::Leftovers { .. })
    }

    /// When it wants [`Event::Tick`].
    pub fn next_deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Running if self.ready => None,
            Phase::Running => {
                let failed = self.plan.ready_timeout.map(|after| self.started + after);
                [self.explain, failed].into_iter().flatten().min()
            }
            Phase::LameDuck { until, .. }
            | Phase::Pause { until, .. }
            | Phase::Counting { until, .. }
            | Phase::Leftovers { until, .. } => Some(until),
            Phase::Draining { deadline, .. } => Some(deadline + SLACK),
            Phase::Forwarded { at, said, .. } => (!said).then_some(at + IGNORED),
            Phase::Failing { kill } => kill,
            Phase::Over => None,
        }
    }

    /// Takes in one event; says what has to be done.
    pub fn step(&mut self, event: Event, now: Time) -> Vec<Effect> {
        let mut todo = Vec::new();
        match event {
            Event::Started => self.started(now, &mut todo),
            Event::Listening => todo.push(Effect::Register),
            Event::Registered => self.registered(now, &mut todo),
            Event::Ready(ready) => self.readiness(ready, &mut todo),
            Event::Drained(ending) => self.drained(ending, now, &mut todo),
            Event::DrainRefused(why) => self.refused(&why, now, &mut todo),
            Event::LeaseLost => self.lease_lost(now, &mut todo),
            Event::Signal(signal) if STOPS.contains(&signal) => self.stop(signal, now, &mut todo),
            Event::Signal(signal) => {
                if !matches!(
                    self.phase,
                    Phase::Counting { .. } | Phase::Leftovers { .. } | Phase::Over
                ) {
                    todo.push(Effect::Send(signal));
                }
            }
            Event::Exited { fate, leftovers } => self.exited(fate, leftovers, now, &mut todo),
            Event::NobodyLeft => {
                if let Phase::Leftovers { fate, .. } = self.phase {
                    self.end(fate, &mut todo);
                }
            }
            Event::Tick => {}
        }
        self.pass_time(now, &mut todo);
        todo
    }

    fn started(&mut self, now: Time, todo: &mut Vec<Effect>) {
        self.started = now;
        if self.plan.port {
            self.explain = Some(now + SLOW);
        } else {
            self.ready = true;
            todo.push(Effect::TellReady);
        }
    }

    fn registered(&mut self, now: Time, todo: &mut Vec<Effect>) {
        match self.phase {
            Phase::Running => self.lease = Lease::Held,
            // Asked for before the signal came, granted after it.
            Phase::Pause { signal, .. } => self.drain(signal, now, todo),
            Phase::LameDuck { .. } | Phase::Draining { .. } => {}
            _ => todo.push(Effect::DropLease),
        }
    }

    fn readiness(&mut self, ready: bool, todo: &mut Vec<Effect>) {
        if ready && !self.ready && self.phase == Phase::Running {
            self.ready = true;
            todo.push(Effect::TellReady);
        }
    }

    fn stop(&mut self, signal: i32, now: Time, todo: &mut Vec<Effect>) {
        let waits = matches!(
            self.phase,
            Phase::LameDuck { .. } | Phase::Draining { .. } | Phase::Pause { .. }
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
            Phase::Running => self.begin(signal, now, todo),
            Phase::LameDuck { .. } | Phase::Draining { .. } | Phase::Pause { .. } => {
                todo.push(Effect::Say(format!(
                    "told to stop again: {name} goes to the app at once, whatever is in flight"
                )));
                self.forward(signal, now, todo);
                todo.pop();
                todo.push(Effect::SendGroup(signal));
            }
            Phase::Forwarded { .. } | Phase::Failing { .. } => {
                todo.push(Effect::SendGroup(signal));
            }
            Phase::Leftovers { .. } => todo.push(Effect::SendAll(signal)),
            Phase::Counting { .. } | Phase::Over => {}
        }
    }

    fn begin(&mut self, signal: i32, now: Time, todo: &mut Vec<Effect>) {
        if !self.plan.port {
            return self.forward(signal, now, todo);
        }
        todo.push(Effect::StopRegistering);
        let name = signal_name(signal);
        match self.lease {
            // Nothing was ever sent to it.
            Lease::Never => self.forward(signal, now, todo),
            Lease::Lost => {
                todo.push(Effect::Say(format!(
                    "{name}, and the proxy can't be reached: the app gets the signal without a drain"
                )));
                self.pause(signal, now, todo);
            }
            Lease::Held if self.plan.lame_duck > Time::ZERO => {
                let until = now + self.plan.lame_duck;
                todo.push(Effect::TellStopping(
                    self.plan.lame_duck + self.plan.drain_timeout + SLACK,
                ));
                todo.push(Effect::AskLameDuck);
                self.phase = Phase::LameDuck { signal, until };
            }
            Lease::Held => {
                todo.push(Effect::TellStopping(self.plan.drain_timeout + SLACK));
                self.drain(signal, now, todo);
            }
        }
    }

    fn drain(&mut self, signal: i32, now: Time, todo: &mut Vec<Effect>) {
        todo.push(Effect::AskDrain(self.plan.drain_timeout));
        let deadline = now + self.plan.drain_timeout;
        self.phase = Phase::Draining { signal, deadline };
    }

    /// Nobody says what is in flight: what there may be gets a moment.
    fn pause(&mut self, signal: i32, now: Time, todo: &mut Vec<Effect>) {
        let pause = self.plan.drain_timeout.min(UNKNOWN);
        todo.push(Effect::TellStopping(pause));
        let until = now + pause;
        self.phase = Phase::Pause { signal, until };
    }

    fn forward(&mut self, signal: i32, now: Time, todo: &mut Vec<Effect>) {
        todo.push(Effect::TellStopping(IGNORED));
        todo.push(match signal {
            INT => Effect::SendGroup(signal),
            _ => Effect::Send(signal),
        });
        self.phase = Phase::Forwarded {
            signal,
            at: now,
            said: false,
        };
    }

    fn drained(&mut self, ending: Ending, now: Time, todo: &mut Vec<Effect>) {
        match (self.phase, ending) {
            (Phase::Draining { signal, deadline }, Ending::Resumed) => {
                // The signal has come all the same: what is closed here must stay closed.
                todo.push(Effect::Say(
                    "somebody lifted the drain, but the app is about to stop: draining again"
                        .to_owned(),
                ));
                todo.push(Effect::AskDrain(deadline.saturating_sub(now)));
                self.phase = Phase::Draining { signal, deadline };
            }
            (Phase::Draining { signal, .. }, ending) => {
                match ending {
                    Ending::TimedOut { cut } => todo.push(Effect::Say(format!(
                        "the drain's deadline ({:?}) passed: {} cut; a longer --drain-timeout lets more of them finish, \
                         if the supervisor waits as long",
                        self.plan.drain_timeout,
                        requests(cut)
                    ))),
                    Ending::Died { lost } => todo.push(Effect::Say(format!(
                        "the app died in mid-drain: {} lost",
                        requests(lost)
                    ))),
                    Ending::Drained | Ending::Resumed => {}
                }
                self.forward(signal, now, todo);
            }
            (
                Phase::Counting {
                    fate, leftovers, ..
                },
                ending,
            ) => {
                if let Ending::Died { lost } | Ending::TimedOut { cut: lost } = ending {
                    todo.push(Effect::Say(format!("{} lost with it", requests(lost))));
                }
                self.bury(fate, leftovers, now, todo);
            }
            _ => {}
        }
    }

    fn refused(&mut self, why: &str, now: Time, todo: &mut Vec<Effect>) {
        if let Phase::Draining { signal, .. } = self.phase {
            todo.push(Effect::Say(format!(
                "the drain could not be asked for ({why}): leaving the proxy at once instead"
            )));
            todo.push(Effect::DropLease);
            self.lease = Lease::Lost;
            self.pause(signal, now, todo);
        }
    }

    fn lease_lost(&mut self, now: Time, todo: &mut Vec<Effect>) {
        self.lease = Lease::Lost;
        match self.phase {
            Phase::LameDuck { signal, .. } | Phase::Draining { signal, .. } => {
                todo.push(Effect::Say(
                    "the proxy is gone in mid-drain: nothing more is sent to the app".to_owned(),
                ));
                self.pause(signal, now, todo);
            }
            Phase::Counting {
                fate, leftovers, ..
            } => self.bury(fate, leftovers, now, todo),
            _ => {}
        }
    }

    fn exited(&mut self, fate: Fate, leftovers: bool, now: Time, todo: &mut Vec<Effect>) {
        match self.phase {
            Phase::LameDuck { signal, .. }
            | Phase::Draining { signal, .. }
            | Phase::Pause { signal, .. } => {
                let name = signal_name(signal);
                todo.push(Effect::Say(format!(
                    "the app died while it was draining, before {name} was passed on to it ({fate})"
                )));
                if matches!(self.phase, Phase::Draining { .. }) {
                    let until = now + COUNT;
                    self.phase = Phase::Counting {
                        fate,
                        leftovers,
                        until,
                    };
                } else {
                    self.bury(fate, leftovers, now, todo);
                }
            }
            Phase::Failing { .. } => self.bury(Fate::GivenUp, leftovers, now, todo),
            Phase::Running => {
                if self.plan.port && !self.ready && fate != Fate::Code(0) {
                    todo.push(Effect::Say(format!(
                        "the app ended before it was ready ({fate})"
                    )));
                }
                if leftovers {
                    todo.push(Effect::Say(format!(
                        "the app's first process has ended ({fate}) and left others running: they are told to stop. \
                         Under a launcher an app stays in the foreground: turn its daemon mode off, or start its \
                         server with `exec`"
                    )));
                }
                self.bury(fate, leftovers, now, todo);
            }
            Phase::Forwarded { .. } => self.bury(fate, leftovers, now, todo),
            Phase::Counting { .. } | Phase::Leftovers { .. } | Phase::Over => {}
        }
    }

    fn bury(&mut self, fate: Fate, leftovers: bool, now: Time, todo: &mut Vec<Effect>) {
        if leftovers {
            // The instance leaves now, not when the last of them has ended.
            todo.push(Effect::StopRegistering);
            todo.push(Effect::DropLease);
            // A shell may end at SIGINT before what it has started, which got it, too, and is stopping.
            let told = !matches!(self.phase, Phase::Forwarded { signal: INT, .. });
            if told {
                todo.push(Effect::SendAll(TERM));
            }
            let until = now + LEFTOVERS;
            self.phase = Phase::Leftovers { fate, until, told };
        } else {
            self.end(fate, todo);
        }
    }

    fn end(&mut self, fate: Fate, todo: &mut Vec<Effect>) {
        self.phase = Phase::Over;
        todo.push(Effect::End(fate));
    }

    fn pass_time(&mut self, now: Time, todo: &mut Vec<Effect>) {
        if self.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        match self.phase {
            Phase::Running => self.slow(now, todo),
            Phase::LameDuck { signal, .. } => self.drain(signal, now, todo),
            Phase::Draining { signal, .. } => {
                todo.push(Effect::Say(format!(
                    "the proxy does not say how the drain ended, and its time ({:?}) is over",
                    self.plan.drain_timeout
                )));
                todo.push(Effect::DropLease);
                self.forward(signal, now, todo);
            }
            Phase::Pause { signal, .. } => self.forward(signal, now, todo),
            Phase::Forwarded { signal, at, .. } => {
                let name = signal_name(signal);
                todo.push(Effect::Say(format!(
                    "the app still runs {IGNORED:?} after {name}: it ignores it, or takes long to stop. What its \
                     supervisor does now is up to the supervisor's own timeout"
                )));
                self.phase = Phase::Forwarded {
                    signal,
                    at,
                    said: true,
                };
            }
            Phase::Failing { .. } => {
                todo.push(Effect::SendAll(KILL));
                self.phase = Phase::Failing { kill: None };
            }
            Phase::Counting {
                fate, leftovers, ..
            } => self.bury(fate, leftovers, now, todo),
            Phase::Leftovers { fate, told, .. } if !told => self.bury(fate, true, now, todo),
            Phase::Leftovers { fate, .. } => {
                todo.push(Effect::Say(format!(
                    "some of the app's processes still run {LEFTOVERS:?} after it ended: killing them"
                )));
                todo.push(Effect::SendAll(KILL));
                self.end(fate, todo);
            }
            Phase::Over => {}
        }
    }

    fn slow(&mut self, now: Time, todo: &mut Vec<Effect>) {
        let after = now.saturating_sub(self.started);
        todo.push(Effect::Explain { after });
        self.explain = Some(now + after.max(SLOW));
        let failed = self
            .plan
            .ready_timeout
            .filter(|timeout| self.started + *timeout <= now);
        if let Some(timeout) = failed {
            todo.push(Effect::Say(format!(
                "not ready within --ready-timeout ({timeout:?}): stopping the app"
            )));
            todo.push(Effect::StopRegistering);
            todo.push(Effect::DropLease);
            todo.push(Effect::Send(TERM));
            self.phase = Phase::Failing {
                kill: Some(now + FAILED),
            };
        }
    }
}

#[cfg(test)]
mod tests;
