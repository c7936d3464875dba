//! One roll of a pool: drain → restart → wait until a new process is ready → next. Pure: [`PoolRoll::step`] is the only
//! way to change it, and it says what to do.
//!
//! Backends are meant by their name without `~2`, as a supervisor knows them: while two instances of a name
//! overlap, they are drained together and restarted by one command.

use std::collections::BTreeSet;

use super::Time;
use super::drain::{RestartSign, UNSEEN_AFTER};

/// What a roll may do, and how long it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollPlan {
    /// Backends that are out at the same time, at most.
    pub max_unavailable: usize,
    /// Goes on even if that leaves none ready: requests are then held by the proxy.
    pub allow_empty: bool,
    /// The longest that one command may take.
    pub command_timeout: Time,
    /// After the command: the longest until a new process is ready. Also the longest wait for others to be ready
    /// before one is taken out.
    pub ready_timeout: Time,
    /// What shows that one has restarted, and that its turn is over.
    pub sign: RestartSign,
}

/// One backend as the proxy shows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollBackend {
    /// Its name without `~2`.
    pub name: String,
    /// Tells its process from every other: the proxy's number for the backend, and its incarnation.
    pub process: (u64, u64),
    /// It takes requests.
    pub ready: bool,
    /// It is about to go for good.
    pub leaving: bool,
}

/// How the proxy says that a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainEnd {
    /// Nothing is in flight, no connection is open.
    Quiet,
    /// The deadline passed, and so many requests were cut.
    Cut(u32),
    /// The process died, and so many requests with it.
    Died(u32),
    /// Somebody lifted it.
    Lifted,
}

/// What happens to a roll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollEvent {
    /// The pool as it is now.
    Looked(Vec<RollBackend>),
    /// A drain ended.
    Drained(String, DrainEnd),
    /// A command ended; whether it says that all is well.
    Ran(String, bool),
    /// Something that the roll needs can't be done (the proxy refuses, say). The text is for people.
    Broke(String),
    /// The user interrupts it. The second time: at once.
    Interrupted,
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollEffect {
    /// Ask the proxy to drain it, until it has restarted.
    Drain(String),
    /// Run the command for it.
    Run(String),
    /// End its command, by force if need be.
    Kill(String),
    /// Ask the proxy to drain it until fresh probes pass ([`RestartSign::Probe`], from now on).
    AwaitProbes(String),
    /// Lift our drain of it.
    Undo(String),
    /// It is done: a new process takes requests. With how long that took after the command.
    Ready(String, Time),
    /// Its command ended a while ago, and no new process is seen.
    Unseen(String),
    /// It needs nothing any more: it left the pool.
    Gone(String),
    /// It has to wait until another one is ready.
    Waiting(String),
    /// It is over. Nothing follows.
    Finish(RollEnd),
}

/// How a roll ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollEnd {
    /// Every backend has a new process.
    Done,
    /// It stopped at this failure.
    Failed(RollFailure),
    /// Somebody interrupted it.
    Interrupted,
}

/// What made it stop, and at which backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollFailure {
    /// The drain's deadline cut requests.
    Cut(String, u32),
    /// The process died while draining.
    Died(String, u32),
    /// Somebody lifted our drain before the command ran.
    Lifted(String),
    /// The command failed.
    Command(String),
    /// The command took too long.
    CommandTimeout(String),
    /// The command ended well, and yet no new process was seen.
    NotRestarted(String),
    /// A new process came, and was not ready in time.
    NotReady(String),
    /// To take it out would have left none ready.
    Capacity(String),
    /// See [`RollEvent::Broke`].
    Broke(String),
}

/// Why a roll does not even begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollRefusal {
    /// There is nothing to restart.
    Empty,
    /// Fewer would be ready than one.
    Capacity {
        /// Ready now.
        ready: usize,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RollPhase {
    Pending,
    Draining,
    /// Since when, and the processes that were behind it before.
    Running(Time, BTreeSet<(u64, u64)>),
    /// Since when, the processes before, and whether it was said that no new one is seen.
    Returning(Time, BTreeSet<(u64, u64)>, bool),
    Over,
}

/// One roll.
#[derive(Debug, Clone)]
pub struct PoolRoll {
    plan: RollPlan,
    turns: Vec<(String, RollPhase)>,
    seen: Vec<RollBackend>,
    /// Since when the next one waits for others to be ready.
    blocked: Option<Time>,
    /// It began to end.
    ending: Option<RollEnd>,
    finished: bool,
}

impl PoolRoll {
    /// A roll of `targets`, those first that take no requests: they cost nothing. `seen` is all that is there now.
    ///
    /// # Errors
    /// When there is nothing to do, or not enough is ready to do it.
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

    /// The names in the order of their turns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.turns.iter().map(|(name, _)| name.as_str())
    }

    /// When it wants [`RollEvent::Tick`].
    pub fn next_deadline(&self) -> Option<Time> {
        let turns = self.turns.iter().filter_map(|(_, phase)| match phase {
            RollPhase::Running(since, _) => Some(since.saturating_add(self.plan.command_timeout)),
            // A look that finds the new process needs no message about its absence.
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

    /// Takes in one event; says what to do, in this order.
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
            // Where probes are the sign, they have the same time, and nothing is to be said.
            *phase = RollPhase::Returning(now, old, sign == RestartSign::Probe);
            return;
        }
        *phase = RollPhase::Over;
        acts.push(RollEffect::Undo(name.to_owned()));
        if !well {
            self.stop(RollEnd::Failed(RollFailure::Command(name.to_owned())), acts);
        }
    }

    /// What is drained and not yet touched opens again. A command that runs is left to its end, or its instance
    /// would take requests while it is being stopped; the second time, it is not.
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

    /// The roll no longer waits for those that have been restarted.
    fn give_up(&mut self, acts: &mut Vec<RollEffect>) {
        for (name, phase) in &mut self.turns {
            if let RollPhase::Returning(_, old, _) = phase {
                // Without an old process, its drain was lifted when the command ended.
                if !old.is_empty() {
                    acts.push(RollEffect::Undo(name.clone()));
                }
                *phase = RollPhase::Over;
            }
        }
    }

    /// No new turns, and what has not been touched yet opens again. The first reason counts, but an interrupt
    /// overrules it.
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

    /// Checks which backends came back, which are late, and which left.
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

    /// Takes out the next ones, as many as may be out.
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
            // One that takes no requests costs nothing to take out.
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

    /// Those that are out, or on their way.
    fn active(&self) -> impl Iterator<Item = &str> {
        let out = |phase: &RollPhase| !matches!(phase, RollPhase::Pending | RollPhase::Over);
        let out = self.turns.iter().filter(move |(_, phase)| out(phase));
        out.map(|(name, _)| name.as_str())
    }

    /// The names that take requests.
    fn ready(&self) -> BTreeSet<&str> {
        let ready = self.seen.iter().filter(|one| one.ready);
        ready.map(|one| one.name.as_str()).collect()
    }

    /// The processes of that name that stay.
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
