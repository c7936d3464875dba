//! The world: time, processes, people and scripts. What the proxy does is in `edge` and `traffic`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use lameduck::core::Time;
use lameduck::core::backend::{Event, Policy, State};
use lameduck::core::drain::{Actor, Order, Outcome, Until};
use lameduck::core::hold::Pacer;
use lameduck::core::pool::Pool;
use lameduck::core::retry::{Budget, Rates};

use crate::edge::Slot;
use crate::process::{Ailment, Manners, Phase};
use crate::rng::Rng;
use crate::traffic::Request;

/// What is going to happen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Next {
    Arrive,
    Pump,
    HoldOver {
        request: usize,
        wait: u32,
    },
    Finish {
        request: usize,
        attempt: u32,
    },
    Broken {
        request: usize,
        attempt: u32,
    },
    ProbeStart {
        slot: usize,
    },
    ProbeEnd {
        slot: usize,
        began: Time,
        accepted: Option<u64>,
    },
    PeerClosed {
        slot: usize,
    },
    Quiesced {
        slot: usize,
        epoch: u64,
    },
    Tick,
    Grow {
        slot: usize,
        generation: u64,
    },
    Start {
        slot: usize,
        generation: u64,
    },
    Close {
        slot: usize,
        generation: u64,
    },
    Exit {
        slot: usize,
        generation: u64,
    },
    Recover {
        slot: usize,
        generation: u64,
    },
    Roll {
        slot: usize,
        then: bool,
    },
    Terminate {
        slot: usize,
    },
    Chaos,
    Resume {
        slot: usize,
    },
}

pub struct Settings {
    pub backends: (u64, u64),
    pub manners: Manners,
    /// Longest request, in milliseconds.
    pub longest: u64,
}

impl Settings {
    /// From `least` to `most - 1` backends.
    pub fn calm(least: u64, most: u64) -> Self {
        Self {
            backends: (least, most),
            manners: Manners::Good,
            longest: 5000,
        }
    }
}

#[derive(Debug, Default)]
pub struct Tally {
    pub answered: u64,
    pub lost: u64,
    pub cut: u64,
    pub held: u64,
    /// Drained, died, timed out, resumed: what those who waited were told.
    pub outcomes: [u64; 4],
}

/// Somebody who asked for a drain and waits.
#[derive(Debug, Clone)]
pub struct Waiter {
    pub told: Vec<Outcome>,
    /// A roll that goes on when the drain is complete; the flag: with the next slot after that.
    pub roll: Option<bool>,
}

pub struct World {
    pub rng: Rng,
    pub now: Time,
    pub settings: Settings,
    pub slots: Vec<Slot>,
    pub pool: Pool<usize>,
    pub requests: Vec<Request>,
    pub held: VecDeque<usize>,
    pub pacer: Pacer,
    pub budget: Budget,
    pub waiters: Vec<Waiter>,
    pub tally: Tally,
    /// Whether the prober can tell listening sockets apart (same host).
    pub sees_listeners: bool,
    pub next_tick: Option<Time>,
    /// Requests arrive until then.
    pub traffic_until: Time,
    chaos_until: Time,
    serial: u64,
    agenda: BinaryHeap<Reverse<(Time, u64, Next)>>,
}

impl World {
    pub fn new(seed: u64, settings: Settings) -> Self {
        let mut rng = Rng::new(seed);
        let count = rng.within(settings.backends.0, settings.backends.1) as usize;
        let sees_listeners = rng.percent(50);
        let mut world = Self {
            rng,
            now: Time::ZERO,
            settings,
            slots: (0..count).map(|_| Slot::new()).collect(),
            pool: Pool::new(Policy::default()),
            requests: Vec::new(),
            held: VecDeque::new(),
            pacer: Pacer::new(),
            budget: Budget::new(Rates::default(), Time::ZERO),
            waiters: Vec::new(),
            tally: Tally::default(),
            sees_listeners,
            next_tick: None,
            traffic_until: Time::MAX,
            chaos_until: Time::ZERO,
            serial: 0,
            agenda: BinaryHeap::new(),
        };
        for slot in 0..count {
            world.pool.insert(slot, Time::ZERO);
            world.start(slot);
            world.at(Time::ZERO, Next::ProbeStart { slot });
        }
        world.at(Time::from_secs(2), Next::Arrive);
        world
    }

    pub fn at(&mut self, time: Time, next: Next) {
        self.serial += 1;
        self.agenda.push(Reverse((time, self.serial, next)));
    }

    pub fn after(&mut self, delay: Time, next: Next) {
        self.at(self.now + delay, next);
    }

    /// Runs so many seconds; traffic ends 20 s earlier, so that every request must have its answer.
    pub fn run(&mut self, seconds: u64) {
        let end = Time::from_secs(seconds);
        self.traffic_until = end - Time::from_secs(20);
        while let Some(Reverse((time, _, next))) = self.agenda.pop() {
            if time > end {
                break;
            }
            self.now = time;
            self.happen(next);
        }
        self.assert_answers();
    }

    fn happen(&mut self, next: Next) {
        match next {
            Next::Arrive => self.arrive(),
            Next::Pump => self.pump(),
            Next::HoldOver { request, wait } => self.hold_over(request, wait),
            Next::Finish { request, attempt } => self.finish(request, attempt),
            Next::Broken { request, attempt } => self.broken(request, attempt),
            Next::ProbeStart { slot } => self.probe_start(slot),
            Next::ProbeEnd {
                slot,
                began,
                accepted,
            } => self.probe_end(slot, began, accepted),
            Next::PeerClosed { slot } => self.step(slot, Event::PeerClosed),
            Next::Quiesced { slot, epoch } => self.quiesced(slot, epoch),
            Next::Tick => self.tick(),
            Next::Grow { slot, generation } if self.lives(slot, generation) => self.grow(slot),
            Next::Start { slot, generation }
                if self.slots[slot].process.generation == generation =>
            {
                self.start(slot);
            }
            Next::Close { slot, generation } if self.lives(slot, generation) => {
                self.slots[slot].process.phase = Phase::Finishing;
                self.drop_idle(slot);
                self.exit_if_done(slot);
            }
            Next::Exit { slot, generation } if self.lives(slot, generation) => self.die(slot),
            Next::Recover { slot, generation } if self.lives(slot, generation) => {
                self.slots[slot].process.ailment = None;
            }
            Next::Roll { slot, then } => self.roll(slot, then),
            Next::Terminate { slot } => self.terminate(slot),
            Next::Chaos => self.some_chaos(),
            Next::Resume { slot } => self.step(slot, Event::Resume { all: false }),
            _ => {} // of a process that is gone
        }
    }

    fn lives(&self, slot: usize, generation: u64) -> bool {
        let process = &self.slots[slot].process;
        process.generation == generation && process.phase != Phase::Dead
    }

    // Processes.

    fn start(&mut self, slot: usize) {
        let boot = self.rng.millis(150, 2000);
        // On the same host a restart may be faster than any probe.
        let boot = if self.sees_listeners && self.rng.percent(30) {
            self.rng.millis(1, 20)
        } else {
            boot
        };
        let process = &mut self.slots[slot].process;
        process.generation += 1;
        process.phase = Phase::Booting;
        process.ailment = None;
        let generation = process.generation;
        self.after(boot, Next::Grow { slot, generation });
    }

    fn grow(&mut self, slot: usize) {
        let phase = self.slots[slot].process.phase;
        let generation = self.slots[slot].process.generation;
        let slowly = phase == Phase::Booting && self.rng.percent(30);
        self.slots[slot].process.phase = match phase {
            Phase::Booting if slowly => Phase::NotYet,
            Phase::Booting | Phase::NotYet => Phase::Serving,
            other => other,
        };
        if slowly {
            let delay = self.rng.millis(10, 1000);
            self.after(delay, Next::Grow { slot, generation });
        }
    }

    fn terminate(&mut self, slot: usize) {
        let process = &mut self.slots[slot].process;
        if self.settings.manners == Manners::None || process.phase == Phase::Booting {
            return self.die(slot);
        }
        if !matches!(process.phase, Phase::NotYet | Phase::Serving) {
            return;
        }
        process.phase = Phase::Lame;
        let generation = process.generation;
        let lame = if self.rng.percent(50) {
            Time::ZERO
        } else {
            self.rng.millis(0, 3000)
        };
        self.after(lame, Next::Close { slot, generation });
        self.after(Time::from_secs(30), Next::Exit { slot, generation });
    }

    /// A process that has closed its listener ends with its last request.
    pub fn exit_if_done(&mut self, slot: usize) {
        if self.slots[slot].process.phase == Phase::Finishing && self.slots[slot].flying.is_empty()
        {
            self.die(slot);
        }
    }

    fn die(&mut self, slot: usize) {
        let process = &mut self.slots[slot].process;
        if process.phase == Phase::Dead {
            return;
        }
        process.phase = Phase::Dead;
        let generation = process.generation;
        for request in self.slots[slot].flying.clone() {
            let attempt = self.requests[request].attempt;
            let notice = self.rng.micros(50, 1500);
            self.after(notice, Next::Broken { request, attempt });
        }
        self.drop_idle(slot);
        let away = if self.rng.percent(5) {
            self.rng.millis(20_000, 45_000)
        } else {
            self.rng.millis(0, 1000)
        };
        // A scripted stop is no time for a long absence.
        let away = if self.now < self.chaos_until {
            away
        } else {
            away.min(Time::from_millis(300))
        };
        self.after(away, Next::Start { slot, generation });
    }

    /// The process closes its idle connections; the proxy notices a little later.
    fn drop_idle(&mut self, slot: usize) {
        let generation = self.slots[slot].process.generation;
        if self.slots[slot].close_by_peer(generation) {
            let notice = self.rng.micros(50, 1500);
            self.after(notice, Next::PeerClosed { slot });
        }
    }

    // People and scripts.

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

    fn roll(&mut self, slot: usize, then: bool) {
        let deadline = Some(self.now + Time::from_secs(30));
        let order = Order {
            actor: Actor::Supervisor,
            id: format!("deploy-{}", self.waiters.len()),
            reason: "roll".into(),
            deadline,
            until: Until::Restarted,
            expires: deadline.map(|at| at + Time::from_secs(60)),
        };
        self.drain(slot, order, Some(then));
    }

    fn drain(&mut self, slot: usize, order: Order, roll: Option<bool>) {
        self.waiters.push(Waiter {
            told: Vec::new(),
            roll,
        });
        self.slots[slot].waiters.push(self.waiters.len() - 1);
        self.step(slot, Event::Drain(order));
        if self.pool.get(&slot).unwrap().state() == State::Drained {
            self.tell(slot, Outcome::Drained);
        }
    }

    /// Tells everybody who waits for this slot's drain.
    pub fn tell(&mut self, slot: usize, outcome: Outcome) {
        for waiter in std::mem::take(&mut self.slots[slot].waiters) {
            self.waiters[waiter].told.push(outcome);
            self.tally.outcomes[match outcome {
                Outcome::Drained => 0,
                Outcome::Died { .. } => 1,
                Outcome::TimedOut { .. } => 2,
                Outcome::Resumed => 3,
            }] += 1;
            if let Some(then) = self.waiters[waiter].roll
                && outcome != Outcome::Resumed
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

    fn some_chaos(&mut self) {
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
                self.step(slot, Event::Resume { all });
            }
            7 => self.step(slot, Event::Hint),
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
            Until::Restarted
        } else {
            Until::Resumed
        };
        let order = Order {
            actor: Actor::Operator,
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
            let forgotten = |backend: &lameduck::core::backend::Backend| {
                backend
                    .drains()
                    .any(|(_, drain)| drain.actor == Actor::Operator && drain.expires.is_none())
            };
            if forgotten(self.pool.get(&slot).unwrap()) {
                self.step(slot, Event::Resume { all: false });
            }
        }
    }

    // What must hold at the end.

    pub fn assert_all_ready(&self) {
        for (slot, backend) in self.pool.iter() {
            assert_eq!(
                backend.state(),
                State::Ready,
                "slot {slot} is stranded: {backend:?}"
            );
        }
        assert!(self.held.is_empty(), "{} still wait", self.held.len());
    }

    pub fn assert_restarted(&self) {
        for (slot, backend) in self.pool.iter() {
            let seen = self.sees_listeners || self.settings.manners == Manners::None;
            assert!(
                self.slots[*slot].process.generation > 1,
                "slot {slot} never restarted"
            );
            assert!(
                !seen || backend.incarnation() > 1,
                "slot {slot}: nobody saw its restart"
            );
        }
    }

    /// Everybody has one answer: requests, and those who waited for a drain.
    fn assert_answers(&self) {
        for (index, request) in self.requests.iter().enumerate() {
            assert_eq!(request.answers, 1, "request {index}: {request:?}");
        }
        for (index, waiter) in self.waiters.iter().enumerate() {
            assert_eq!(waiter.told.len(), 1, "waiter {index}: {waiter:?}");
        }
    }
}
