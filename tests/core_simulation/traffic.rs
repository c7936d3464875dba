//! Requests: picked, sent, broken, retried, held, answered.

use lameduck::core::Time;
use lameduck::core::backend::BackendEvent;
use lameduck::core::balance::{BalanceAlgorithm, BalanceCandidate, Balancer, PickInput};
use lameduck::core::hold::{self, HeldTotals, HoldAdmission, HoldLimits};
use lameduck::core::retry::{self, AttemptFailure, AttemptHistory, RetryOptions, RetryVerdict};

use crate::edge::Idle;
use crate::world::{Next, World};

#[derive(Debug, Clone)]
pub struct Request {
    get: bool,
    /// Goes on until somebody ends it.
    stream: bool,
    service: Time,
    since: Time,
    waits: u32,
    tried: AttemptHistory,
    excluded: Vec<usize>,
    /// Where it is: slot, generation and epoch.
    place: Option<(usize, u64, u64)>,
    pub attempt: u32,
    pub answers: u32,
}

struct Seat {
    slot: usize,
    in_flight: u32,
}

impl BalanceCandidate for Seat {
    fn in_flight(&self) -> u32 {
        self.in_flight
    }
    fn weight(&self) -> u32 {
        1
    }
}

impl World {
    pub fn arrive(&mut self) {
        if self.now >= self.traffic_until {
            return;
        }
        let stream = self.rng.percent(2);
        let longest = self.settings.longest;
        let service = match self.rng.within(0, 10) {
            0 => self.rng.millis(longest / 2, longest),
            _ => self.rng.millis(1, 200),
        };
        self.requests.push(Request {
            get: self.rng.percent(70),
            stream,
            service: if stream { service * 2 } else { service },
            since: self.now,
            waits: 0,
            tried: AttemptHistory::default(),
            excluded: Vec::new(),
            place: None,
            attempt: 0,
            answers: 0,
        });
        self.budget.on_request();
        self.dispatch(self.requests.len() - 1);
        let pause = self.rng.millis(1, 60);
        self.after(pause, Next::Arrive);
    }

    /// Picks a backend and sends, or holds.
    fn dispatch(&mut self, request: usize) {
        let seats: Vec<Seat> = self
            .pool
            .iter()
            .filter(|(_, backend)| backend.is_eligible())
            .map(|(slot, _)| Seat {
                slot: *slot,
                in_flight: self.slots[*slot].gate.in_flight(),
            })
            .collect();
        let tried = &self.requests[request].excluded;
        let excluded: Vec<usize> = (0..seats.len())
            .filter(|index| tried.contains(&seats[*index].slot))
            .collect();
        let algorithm = BalanceAlgorithm::ALL[request % BalanceAlgorithm::ALL.len()];
        let balancer = Balancer::new(algorithm, &vec![1; seats.len()]);
        let input = PickInput {
            cursor: request as u64,
            random: self.rng.next(),
            key: request as u64,
        };
        match balancer.pick(&seats, input, &excluded) {
            Some(index) => self.send(request, seats[index].slot),
            None => self.hold(request),
        }
    }

    fn send(&mut self, request: usize, slot: usize) {
        let backend = self.pool.get(&slot).unwrap();
        assert_eq!(
            backend.drains().count(),
            0,
            "a request for a backend that is drained: {backend:?}"
        );
        assert!(self.slots[slot].gate.try_enter());
        self.slots[slot].flying.insert(request);
        let here = &mut self.slots[slot];
        let pooled = here.idle.pop();
        if let Some(idle) = pooled {
            assert_eq!(idle.epoch, here.epoch, "a connection of an earlier epoch");
        }
        let failure = match pooled {
            Some(Idle { closed: true, .. }) => Some(AttemptFailure::StaleProven),
            Some(_) => None,
            None => (!here.process.listens()).then_some(AttemptFailure::ConnectFailed),
        };
        let generation = pooled.map_or(here.process.generation, |idle| idle.generation);
        let epoch = here.epoch;
        let record = &mut self.requests[request];
        record.attempt += 1;
        record.place = Some((slot, generation, epoch));
        match failure {
            Some(failure) => self.failed(request, failure),
            None => {
                let (attempt, service) = (record.attempt, record.service);
                self.after(service, Next::Finish { request, attempt });
            }
        }
    }

    /// Gives the permit back; the connection stays if it may.
    fn leave(&mut self, request: usize, keep: bool) -> usize {
        let (slot, generation, epoch) = self.requests[request]
            .place
            .take()
            .expect("it is somewhere");
        let here = &mut self.slots[slot];
        assert!(here.gate.in_flight() > 0, "in flight would be negative");
        here.gate.leave();
        assert!(here.flying.remove(&request));
        if keep && epoch == here.epoch && !here.gate.is_closed() && here.process.listens() {
            here.idle.push(Idle {
                epoch,
                generation,
                closed: false,
            });
        }
        self.check(slot);
        slot
    }

    fn is_current(&self, request: usize, attempt: u32) -> bool {
        let record = &self.requests[request];
        record.attempt == attempt && record.place.is_some()
    }

    pub fn finish(&mut self, request: usize, attempt: u32) {
        if !self.is_current(request, attempt) {
            return;
        }
        let (slot, generation, _) = self.requests[request].place.expect("it is current");
        let process = &self.slots[slot].process;
        if process.generation != generation || process.phase == crate::process::Phase::Dead {
            return; // its end is on its way
        }
        let slot = self.leave(request, true);
        self.requests[request].answers += 1;
        self.tally.answered += 1;
        self.exit_if_done(slot);
    }

    pub fn broken(&mut self, request: usize, attempt: u32) {
        if !self.is_current(request, attempt) {
            return;
        }
        let (slot, ..) = self.requests[request].place.expect("it is current");
        self.step(slot, BackendEvent::Lost { requests: 1 });
        // A step may cut, too.
        if self.is_current(request, attempt) {
            self.failed(
                request,
                AttemptFailure::DiedBeforeResponse { after: Time::ZERO },
            );
        }
    }

    fn failed(&mut self, request: usize, failure: AttemptFailure) {
        let slot = self.leave(request, false);
        self.step(slot, BackendEvent::Hint);
        let record = &mut self.requests[request];
        record.tried.note(failure);
        record.excluded.push(slot);
        let others = self
            .pool
            .iter()
            .any(|(slot, backend)| backend.is_eligible() && !record.excluded.contains(slot));
        let facts = retry::RetryFacts {
            idempotent: record.get,
            has_idempotency_key: false,
            body_replayable: true,
        };
        let left = RetryOptions {
            others,
            token: self.budget.available(self.now),
        };
        match retry::decide(
            failure,
            &facts,
            record.tried,
            &retry::RetryLimits::default(),
            left,
        ) {
            RetryVerdict::Retry {
                elsewhere,
                spend_budget,
                ..
            } => {
                if !elsewhere {
                    record.excluded.clear();
                }
                assert!(!spend_budget || self.budget.take(self.now));
                self.dispatch(request);
            }
            RetryVerdict::Hold => self.hold(request),
            RetryVerdict::GiveUp { .. } => {
                record.answers += 1;
                self.tally.lost += 1;
            }
        }
    }

    fn hold(&mut self, request: usize) {
        self.requests[request].excluded.clear();
        let limits = HoldLimits::default();
        let held = HeldTotals {
            requests: self.held.len(),
            bytes: 0,
        };
        let since = self.requests[request].since;
        let waiter = hold::HoldCandidate {
            bytes: 0,
            since,
            may_fail_open: false,
        };
        match hold::admit(held, waiter, &limits, self.now) {
            HoldAdmission::Hold { until } => {
                self.tally.held += 1;
                self.requests[request].waits += 1;
                let wait = self.requests[request].waits;
                self.held.push_back(request);
                self.at(until, Next::HoldOver { request, wait });
                self.after(hold::second_look(wait - 1), Next::Pump);
            }
            HoldAdmission::Fail(_) => {
                self.requests[request].answers += 1;
                self.tally.lost += 1;
            }
            HoldAdmission::FailOpen => unreachable!("not configured"),
        }
    }

    pub fn hold_over(&mut self, request: usize, wait: u32) {
        let Some(index) = self.held.iter().position(|held| *held == request) else {
            return;
        };
        if self.requests[request].waits == wait {
            self.held.remove(index);
            self.requests[request].answers += 1;
            self.tally.lost += 1;
        }
    }

    pub fn pump(&mut self) {
        let release = self
            .pacer
            .release(self.held.len(), self.pool.eligible(), self.now);
        for _ in 0..release.count {
            let Some(request) = self.held.pop_front() else {
                break;
            };
            self.dispatch(request);
        }
        if let Some(again) = release.again {
            self.at(again, Next::Pump);
        }
    }

    pub fn end_streams(&mut self, slot: usize, from: Time, until: Time) {
        let span = u64::try_from((until.saturating_sub(from)).as_micros()).unwrap();
        for request in self.slots[slot].flying.clone() {
            if self.requests[request].stream {
                let delay = self.rng.micros(0, span.max(1));
                let attempt = self.requests[request].attempt;
                self.at(
                    from.max(self.now) + delay,
                    Next::Finish { request, attempt },
                );
            }
        }
    }

    pub fn cut(&mut self, slot: usize) {
        for request in self.slots[slot].flying.clone() {
            self.leave(request, false);
            self.requests[request].answers += 1;
            self.tally.cut += 1;
        }
        self.exit_if_done(slot);
    }
}
