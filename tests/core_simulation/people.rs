//! Supervisors, scripts and operators: who drains, stops and resumes, and when.

use lameduck::core::Time;
use lameduck::core::backend::{BackendEvent, BackendState, DerivedState};
use lameduck::core::drain::{DrainActor, DrainOutcome, DrainSpec, DrainUntil, RestartSign};

use crate::process::Ailment;
use crate::world::{Next, Waiter, World};

impl World {
    pub fn roll_all(&mut self, from: u64) {
        self.at(
            Time::from_secs(from),
            Next::Roll {
                slot: 0,
                then: true,
            },
        );
    }

    pub fn terminate_all(&mut self, from: u64, apart: u64) {
        for slot in 0..self.slots.len() {
            let time = Time::from_secs(from + apart * slot as u64);
            self.at(time, Next::Terminate { slot });
        }
    }

    pub fn chaos(&mut self, from: u64, until: u64) {
        self.chaos_until = Time::from_secs(until);
        self.at(Time::from_secs(from), Next::Chaos);
    }

    pub fn roll(&mut self, slot: usize, then: bool) {
        let deadline = Some(self.now + Time::from_secs(30));
        let order = DrainSpec {
            actor: DrainActor::Supervisor,
            id: format!("deploy-{}", self.waiters.len()),
            reason: "roll".into(),
            deadline,
            until: DrainUntil::Restarted(RestartSign::NewProcess),
            expires: deadline.map(|at| at + Time::from_secs(60)),
        };
        self.drain(slot, order, Some(then));
    }

    fn drain(&mut self, slot: usize, order: DrainSpec, roll: Option<bool>) {
        self.waiters.push(Waiter {
            told: Vec::new(),
            roll,
        });
        self.slots[slot].waiters.push(self.waiters.len() - 1);
        self.step(slot, BackendEvent::Drain(order));
        if self.pool.get(&slot).unwrap().state() == DerivedState::Drained {
            self.tell(slot, DrainOutcome::Drained);
        }
    }

    /// Tells everybody who waits for this slot's drain.
    pub fn tell(&mut self, slot: usize, outcome: DrainOutcome) {
        for waiter in std::mem::take(&mut self.slots[slot].waiters) {
            self.waiters[waiter].told.push(outcome);
            self.tally.outcomes[match outcome {
                DrainOutcome::Drained => 0,
                DrainOutcome::Died { .. } => 1,
                DrainOutcome::TimedOut { .. } => 2,
                DrainOutcome::Resumed => 3,
            }] += 1;
            if let Some(then) = self.waiters[waiter].roll
                && outcome != DrainOutcome::Resumed
            {
                // The script now kills it, in whatever way.
                self.slots[slot].rolling = then;
                self.die(slot);
            }
        }
    }

    /// A slot became ready: a roll goes on with the next.
    pub fn ready(&mut self, slot: usize) {
        if std::mem::take(&mut self.slots[slot].rolling) && slot + 1 < self.slots.len() {
            self.after(
                Time::from_millis(200),
                Next::Roll {
                    slot: slot + 1,
                    then: true,
                },
            );
        }
    }

    pub fn some_chaos(&mut self) {
        if self.now >= self.chaos_until {
            return self.clean_up();
        }
        let slot = self.rng.within(0, self.slots.len() as u64) as usize;
        let generation = self.slots[slot].process.generation;
        match self.rng.within(0, 10) {
            0 => self.die(slot),
            1 => self.terminate(slot),
            2 | 3 => {
                let ailments = [Ailment::Outage, Ailment::Slow, Ailment::Sick];
                let ailment = ailments[self.rng.within(0, 3) as usize];
                self.slots[slot].process.ailment = Some(ailment);
                let delay = self.rng.millis(100, 15_000);
                self.after(delay, Next::Recover { slot, generation });
            }
            4 | 5 => self.roll(slot, false),
            6 => {
                let all = self.rng.percent(50);
                self.step(slot, BackendEvent::Resume { all });
            }
            7 => self.step(slot, BackendEvent::Hint),
            _ => self.operator_drains(slot),
        }
        let pause = self.rng.millis(50, 4000);
        self.after(pause, Next::Chaos);
    }

    fn operator_drains(&mut self, slot: usize) {
        let deadline = self
            .rng
            .percent(60)
            .then(|| self.now + self.rng.millis(0, 10_000));
        let expires = self
            .rng
            .percent(30)
            .then(|| self.now + self.rng.millis(1000, 30_000));
        let until = if self.rng.percent(30) {
            DrainUntil::Restarted(RestartSign::NewProcess)
        } else {
            DrainUntil::Resumed
        };
        let order = DrainSpec {
            actor: DrainActor::Operator,
            id: "operator".into(),
            reason: "chaos".into(),
            deadline,
            until,
            expires,
        };
        self.drain(slot, order, None);
        if self.rng.percent(60) {
            let delay = self.rng.millis(1, 8000);
            self.after(delay, Next::Resume { slot });
        }
    }

    /// The chaos is over. People lift what would otherwise stay for ever; what expires is left to its expiry.
    fn clean_up(&mut self) {
        for slot in 0..self.slots.len() {
            self.slots[slot].process.ailment = None;
            let forgotten = |backend: &BackendState| {
                backend.drains().any(|(_, drain)| {
                    drain.actor == DrainActor::Operator && drain.expires.is_none()
                })
            };
            if forgotten(self.pool.get(&slot).unwrap()) {
                self.step(slot, BackendEvent::Resume { all: false });
            }
        }
    }
}
