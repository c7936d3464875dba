//! One roll of a pool: drain → restart → wait until a new process is ready → next. Pure: [`PoolRoll::step`] is the
//! only way to change it, and returns the effects to carry out.
//!
//! Backends are identified by their name without `~2`, as a supervisor knows them: while two instances with the same
//! name overlap, they are drained together and restarted by one command.

use std::collections::BTreeSet;

use super::Time;
use super::drain::{RestartSign, UNSEEN_AFTER};

/// Settings of a roll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollPlan {
    /// Most backends that are out at the same time.
    pub max_unavailable: usize,
    /// Whether the roll continues even if no backend is left ready: the proxy then holds requests.
    pub allow_empty: bool,
    /// Timeout of one command.
    pub command_timeout: Time,
    /// Timeout after the command until a new process is ready. Also the longest wait for other backends to be ready
    /// before one is taken out.
    pub ready_timeout: Time,
    /// The sign that a backend has restarted and its turn is over.
    pub sign: RestartSign,
}

/// One backend, as the proxy shows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollBackend {
    /// Name without `~2`.
    pub name: String,
    /// Identity of its process: the proxy's number for the backend, and its incarnation.
    pub process: (u64, u64),
    /// Whether it takes requests.
    pub ready: bool,
    /// Whether it leaves the pool for good.
    pub leaving: bool,
}

/// How a drain ended, according to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainEnd {
    /// Nothing is in flight, and no connection is open.
    Quiet,
    /// The deadline passed, and this number of requests was cut.
    Cut(u32),
    /// The process died, and this number of requests was lost.
    Died(u32),
    /// The drain was lifted.
    Lifted,
}

/// An event of a roll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollEvent {
    /// The present state of the pool.
    Looked(Vec<RollBackend>),
    /// A drain has ended.
    Drained(String, DrainEnd),
    /// A command has ended; whether it succeeded.
    Ran(String, bool),
    /// Something that the roll needs can't be done (for example, because the proxy refuses). The text is for the
    /// user.
    Broke(String),
    /// The user interrupts the roll. The second time, it ends at once.
    Interrupted,
    /// Time has passed.
    Tick,
}

/// An effect to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollEffect {
    /// Ask the proxy to drain the backend until it has restarted.
    Drain(String),
    /// Run the command for the backend.
    Run(String),
    /// End the backend's command, by force if necessary.
    Kill(String),
    /// Ask the proxy to drain the backend until fresh probes pass ([`RestartSign::Probe`], from now on).
    AwaitProbes(String),
    /// Lift this roll's drain of the backend.
    Undo(String),
    /// Report that a new process of the backend takes requests, and how long that took after the command.
    Ready(String, Time),
    /// Report that the command ended some time ago, and no new process is seen.
    Unseen(String),
    /// Report that the backend has left the pool and needs no restart.
    Gone(String),
    /// Report that the backend has to wait until another one is ready.
    Waiting(String),
    /// End the roll. No effects follow.
    Finish(RollEnd),
}

/// How a roll ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollEnd {
    /// Every backend has a new process.
    Done,
    /// The roll stopped at this failure.
    Failed(RollFailure),
    /// The user interrupted the roll.
    Interrupted,
}

/// Failure of a roll, with the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollFailure {
    /// The drain's deadline cut requests.
    Cut(String, u32),
    /// The process died while draining.
    Died(String, u32),
    /// The roll's drain was lifted before the command ran.
    Lifted(String),
    /// The command failed.
    Command(String),
    /// The command timed out.
    CommandTimeout(String),
    /// The command succeeded, and yet no new process was seen.
    NotRestarted(String),
    /// A new process was seen, and was not ready in time.
    NotReady(String),
    /// Taking the backend out would have left none ready.
    Capacity(String),
    /// See [`RollEvent::Broke`].
    Broke(String),
}

/// Why a roll can't begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollRefusal {
    /// There are no backends to restart.
    Empty,
    /// No backend would be left ready.
    Capacity {
        /// Number of ready backends.
        ready: usize,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RollPhase {
    Pending,
    Draining,
    /// Start time, and the processes that were behind the backend before.
    Running(Time, BTreeSet<(u64, u64)>),
    /// Start time, the processes before, and whether it was reported that no new one is seen.
    Returning(Time, BTreeSet<(u64, u64)>, bool),
    Over,
}

/// A roll.
#[derive(Debug, Clone)]
pub struct PoolRoll {
    plan: RollPlan,
    turns: Vec<(String, RollPhase)>,
    seen: Vec<RollBackend>,
    /// Time since which the next backend waits for others to be ready.
    blocked: Option<Time>,
    /// Outcome, once the roll has begun to end.
    ending: Option<RollEnd>,
    finished: bool,
}

impl PoolRoll {
    /// Creates a roll of `targets`; those that take no requests come first, because they cost nothing. `seen` are all
    /// present backends.
    ///
    /// # Errors
    /// There is nothing to do, or not enough backends are ready.
    pub fn new(
        plan: RollPlan,
        targets: &[String],
        seen: Vec<RollBackend>,
    ) -> Result<Self, RollRefusal> {
        if targets.is_empty() {
            return Err(RollRefusal::Empty);
        }
        let turns = targets
            .iter()
            .map(|name| (name.clone(), RollPhase::Pending));
        let mut roll = Self {
            plan,
            turns: turns.collect(),
            seen,
            blocked: None,
            ending: None,
            finished: false,
        };
        let takes: BTreeSet<String> = roll.ready().into_iter().map(str::to_owned).collect();
        roll.turns.sort_by_key(|(name, _)| takes.contains(name));
        let ready = takes.len();
        if !roll.plan.allow_empty && ready <= roll.plan.max_unavailable {
            return Err(RollRefusal::Capacity { ready });
        }
        Ok(roll)
    }

    /// Returns the names in the order of their turns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.turns.iter().map(|(name, _)| name.as_str())
    }

    /// Returns when [`RollEvent::Tick`] is next needed.
    pub fn next_deadline(&self) -> Option<Time> {
        let turns = self.turns.iter().filter_map(|(_, phase)| match phase {
            RollPhase::Running(since, _) => Some(since.saturating_add(self.plan.command_timeout)),
            // If the new process is found, no message about its absence is needed.
            RollPhase::Returning(since, old, false) if !old.is_empty() => {
                Some(since.saturating_add(UNSEEN_AFTER.min(self.plan.ready_timeout)))
            }
            RollPhase::Returning(since, ..) => Some(since.saturating_add(self.plan.ready_timeout)),
            _ => None,
        });
        let blocked = self
            .blocked
            .map(|at| at.saturating_add(self.plan.ready_timeout));
        turns.chain(blocked).min().filter(|_| !self.finished)
    }

    /// Processes one event; returns the effects to carry out, in this order.
    pub fn step(&mut self, event: RollEvent, now: Time) -> Vec<RollEffect> {
        let mut acts = Vec::new();
        if self.finished {
            return acts;
        }
        match event {
            RollEvent::Looked(seen) => self.seen = seen,
            RollEvent::Drained(name, drained) => self.drained(&name, drained, now, &mut acts),
            RollEvent::Ran(name, well) => self.ran(&name, well, now, &mut acts),
            RollEvent::Broke(why) => {
                self.stop(RollEnd::Failed(RollFailure::Broke(why)), &mut acts);
                self.give_up(&mut acts);
            }
            RollEvent::Interrupted => self.interrupted(&mut acts),
            RollEvent::Tick => {}
        }
        self.look_after(now, &mut acts);
        self.begin(now, &mut acts);
        let over = |(_, phase): &(String, RollPhase)| match phase {
            RollPhase::Pending => self.ending.is_some(),
            phase => *phase == RollPhase::Over,
        };
        if self.turns.iter().all(over) {
            self.finished = true;
            acts.push(RollEffect::Finish(
                self.ending.clone().unwrap_or(RollEnd::Done),
            ));
        }
        acts
    }

    fn drained(&mut self, name: &str, drained: DrainEnd, now: Time, acts: &mut Vec<RollEffect>) {
        let processes = self.processes(name);
        let Some(phase) = self
            .phase(name)
            .filter(|phase| **phase == RollPhase::Draining)
        else {
            return;
        };
        let name = name.to_owned();
        let failure = match drained {
            DrainEnd::Quiet => {
                *phase = RollPhase::Running(now, processes);
                acts.push(RollEffect::Run(name));
                return;
            }
            DrainEnd::Cut(cut) => RollFailure::Cut(name, cut),
            DrainEnd::Died(lost) => RollFailure::Died(name, lost),
            DrainEnd::Lifted => RollFailure::Lifted(name),
        };
        self.stop(RollEnd::Failed(failure), acts);
    }

    fn ran(&mut self, name: &str, well: bool, now: Time, acts: &mut Vec<RollEffect>) {
        let waits = !matches!(
            self.ending,
            Some(RollEnd::Interrupted | RollEnd::Failed(RollFailure::Broke(_)))
        );
        let sign = self.plan.sign;
        let Some(phase) = self.phase(name) else {
            return;
        };
        let RollPhase::Running(_, old) = phase else {
            return;
        };
        if well && waits {
            let old = match sign {
                RestartSign::NewProcess => std::mem::take(old),
                RestartSign::Probe => {
                    acts.push(RollEffect::AwaitProbes(name.to_owned()));
                    std::mem::take(old)
                }
                RestartSign::Exit => {
                    // The process that answers fresh probes from now on counts as the new one.
                    acts.push(RollEffect::Undo(name.to_owned()));
                    BTreeSet::new()
                }
            };
            // If probes are the sign, they take this time, and no message is needed.
            *phase = RollPhase::Returning(now, old, sign == RestartSign::Probe);
            return;
        }
        *phase = RollPhase::Over;
        acts.push(RollEffect::Undo(name.to_owned()));
        if !well {
            self.stop(RollEnd::Failed(RollFailure::Command(name.to_owned())), acts);
        }
    }

    /// Handles an interrupt: drained backends whose command has not started open again. A running command may end,
    /// because its instance would otherwise take requests while it is being stopped; a second interrupt ends it.
    fn interrupted(&mut self, acts: &mut Vec<RollEffect>) {
        let again = self.ending == Some(RollEnd::Interrupted);
        self.stop(RollEnd::Interrupted, acts);
        self.give_up(acts);
        for (name, phase) in &mut self.turns {
            if again && matches!(phase, RollPhase::Running(..)) {
                *phase = RollPhase::Over;
                acts.extend([
                    RollEffect::Kill(name.clone()),
                    RollEffect::Undo(name.clone()),
                ]);
            }
        }
    }

    /// Stops waiting for backends that have been restarted.
    fn give_up(&mut self, acts: &mut Vec<RollEffect>) {
        for (name, phase) in &mut self.turns {
            if let RollPhase::Returning(_, old, _) = phase {
                // Without an old process, the drain was lifted when the command ended.
                if !old.is_empty() {
                    acts.push(RollEffect::Undo(name.clone()));
                }
                *phase = RollPhase::Over;
            }
        }
    }

    /// Begins no new turns, and opens backends whose command has not started. The first reason counts, except that an
    /// interrupt overrides it.
    fn stop(&mut self, end: RollEnd, acts: &mut Vec<RollEffect>) {
        if self.ending.is_none() || end == RollEnd::Interrupted {
            self.ending = Some(end);
        }
        self.blocked = None;
        for (name, phase) in &mut self.turns {
            if *phase == RollPhase::Draining {
                *phase = RollPhase::Over;
                acts.push(RollEffect::Undo(name.clone()));
            }
        }
    }

    /// Checks which backends have come back, which are late, and which have left.
    fn look_after(&mut self, now: Time, acts: &mut Vec<RollEffect>) {
        for index in 0..self.turns.len() {
            let (name, phase) = &self.turns[index];
            let name = name.clone();
            let failure = match phase {
                RollPhase::Pending if self.ending.is_none() && self.processes(&name).is_empty() => {
                    self.turns[index].1 = RollPhase::Over;
                    acts.push(RollEffect::Gone(name));
                    continue;
                }
                RollPhase::Running(since, _)
                    if now >= since.saturating_add(self.plan.command_timeout) =>
                {
                    acts.push(RollEffect::Kill(name.clone()));
                    RollFailure::CommandTimeout(name.clone())
                }
                RollPhase::Returning(since, old, said) => {
                    let mut fresh = self.seen.iter().filter(|one| {
                        one.name == name && !one.leaving && !old.contains(&one.process)
                    });
                    let (came, ready) =
                        (fresh.clone().next().is_some(), fresh.any(|one| one.ready));
                    if ready {
                        acts.push(RollEffect::Ready(name, now.saturating_sub(*since)));
                        self.turns[index].1 = RollPhase::Over;
                        continue;
                    }
                    if now < since.saturating_add(self.plan.ready_timeout) {
                        if !said && !old.is_empty() && now >= since.saturating_add(UNSEEN_AFTER) {
                            if !came {
                                acts.push(RollEffect::Unseen(name));
                            }
                            if let RollPhase::Returning(_, _, said) = &mut self.turns[index].1 {
                                *said = true;
                            }
                        }
                        continue;
                    }
                    match came {
                        true => RollFailure::NotReady(name.clone()),
                        false => RollFailure::NotRestarted(name.clone()),
                    }
                }
                _ => continue,
            };
            let lifted = matches!(phase, RollPhase::Returning(_, old, _) if old.is_empty());
            self.turns[index].1 = RollPhase::Over;
            if !lifted {
                acts.push(RollEffect::Undo(name));
            }
            self.stop(RollEnd::Failed(failure), acts);
        }
    }

    /// Takes out the next backends, as many as may be out.
    fn begin(&mut self, now: Time, acts: &mut Vec<RollEffect>) {
        while self.ending.is_none() && self.active().count() < self.plan.max_unavailable {
            let pending = |(_, phase): &(String, RollPhase)| *phase == RollPhase::Pending;
            let Some(index) = self.turns.iter().position(pending) else {
                return;
            };
            let name = self.turns[index].0.clone();
            let mut left = self.ready();
            for active in self.active() {
                left.remove(active);
            }
            // Taking out a backend that takes no requests costs nothing.
            if left.remove(name.as_str()) && left.is_empty() && !self.plan.allow_empty {
                let since = *self.blocked.get_or_insert_with(|| {
                    acts.push(RollEffect::Waiting(name.clone()));
                    now
                });
                if now >= since.saturating_add(self.plan.ready_timeout) {
                    self.stop(RollEnd::Failed(RollFailure::Capacity(name)), acts);
                }
                return;
            }
            self.blocked = None;
            self.turns[index].1 = RollPhase::Draining;
            acts.push(RollEffect::Drain(name));
        }
    }

    fn phase(&mut self, name: &str) -> Option<&mut RollPhase> {
        let mut turns = self.turns.iter_mut();
        turns
            .find(|(other, _)| other == name)
            .map(|(_, phase)| phase)
    }

    /// Returns the backends that are out, or on their way.
    fn active(&self) -> impl Iterator<Item = &str> {
        let out = |phase: &RollPhase| !matches!(phase, RollPhase::Pending | RollPhase::Over);
        let out = self.turns.iter().filter(move |(_, phase)| out(phase));
        out.map(|(name, _)| name.as_str())
    }

    /// Returns the names of backends that take requests.
    fn ready(&self) -> BTreeSet<&str> {
        let ready = self.seen.iter().filter(|one| one.ready);
        ready.map(|one| one.name.as_str()).collect()
    }

    /// Returns the processes with that name that are not leaving.
    fn processes(&self, name: &str) -> BTreeSet<(u64, u64)> {
        let meant = self
            .seen
            .iter()
            .filter(|one| one.name == name && !one.leaving);
        meant.map(|one| one.process).collect()
    }
}

#[cfg(test)]
mod tests;
