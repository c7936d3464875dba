//! The world: time, and what must hold at its end. Processes live in `life`, drains are asked for in `people`;
//! what the proxy does is in `edge` and `traffic`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use lameduck::core::Time;
use lameduck::core::backend::{BackendEvent, BackendPolicy, DerivedState};
use lameduck::core::drain::DrainOutcome;
use lameduck::core::hold::ReleasePacer;
use lameduck::core::pool::BackendSet;
use lameduck::core::retry::{RetryBudget, RetryRates};

use crate::edge::Slot;
use crate::process::{Manners, Phase};
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
    pub told: Vec<DrainOutcome>,
    /// A roll that goes on when the drain is complete; the flag: with the next slot after that.
    pub roll: Option<bool>,
}

pub struct World {
    pub rng: Rng,
    pub now: Time,
    pub settings: Settings,
    pub slots: Vec<Slot>,
    pub pool: BackendSet<usize>,
    pub requests: Vec<Request>,
    pub held: VecDeque<usize>,
    pub pacer: ReleasePacer,
    pub budget: RetryBudget,
    pub waiters: Vec<Waiter>,
    pub tally: Tally,
    /// Whether the prober can tell listening sockets apart (same host).
    pub sees_listeners: bool,
    pub next_tick: Option<Time>,
    /// Requests arrive until then.
    pub traffic_until: Time,
    pub chaos_until: Time,
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
            pool: BackendSet::new(BackendPolicy::default()),
            requests: Vec::new(),
            held: VecDeque::new(),
            pacer: ReleasePacer::new(),
            budget: RetryBudget::new(RetryRates::default(), Time::ZERO),
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
            Next::PeerClosed { slot } => self.step(slot, BackendEvent::PeerClosed),
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
            Next::Resume { slot } => self.step(slot, BackendEvent::Resume { all: false }),
            _ => {} // of a process that is gone
        }
    }

    fn lives(&self, slot: usize, generation: u64) -> bool {
        let process = &self.slots[slot].process;
        process.generation == generation && process.phase != Phase::Dead
    }

    // What must hold at the end.

    pub fn assert_all_ready(&self) {
        for (slot, backend) in self.pool.iter() {
            assert_eq!(
                backend.state(),
                DerivedState::Ready,
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
