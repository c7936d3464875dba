//! What the proxy's edge does around the core: gates, connections, probes, and the effects carried out.

use std::collections::BTreeSet;

use lameduck::core::Time;
use lameduck::core::backend::{BackendEffect, BackendEvent, DerivedState, ProbeResult};
use lameduck::core::drain::DrainOutcome;
use lameduck::registry::endpoint::gate::Gate;

use crate::process::{Phase, Process};
use crate::world::{Next, World};

/// A pooled connection.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    pub epoch: u64,
    pub generation: u64,
    /// The peer has closed it, and we have not noticed yet.
    pub closed: bool,
}

/// One backend's place: the process, and what the edge has for it.
pub struct Slot {
    pub process: Process,
    pub gate: Gate,
    pub epoch: u64,
    pub idle: Vec<Idle>,
    /// The probe's own idle connection, to this generation.
    pub sentinel: Option<u64>,
    pub flying: BTreeSet<usize>,
    pub waiters: Vec<usize>,
    pub rolling: bool,
    probing: bool,
    again: bool,
    /// The start that counts: earlier ones in the agenda were overtaken.
    probe_at: Time,
    probed: Time,
}

impl Slot {
    pub fn new() -> Self {
        Self {
            process: Process {
                generation: 0,
                phase: Phase::Dead,
                ailment: None,
            },
            gate: Gate::new(false),
            epoch: 0,
            idle: Vec::new(),
            sentinel: None,
            flying: BTreeSet::new(),
            waiters: Vec::new(),
            rolling: false,
            probing: false,
            again: false,
            probe_at: Time::ZERO,
            probed: Time::ZERO,
        }
    }

    /// The process closes what is idle; says whether there was any for us to notice.
    pub fn close_by_peer(&mut self, generation: u64) -> bool {
        let mut any = self.sentinel.take() == Some(generation);
        for idle in &mut self.idle {
            if idle.generation == generation && !idle.closed {
                idle.closed = true;
                any = true;
            }
        }
        any
    }

    pub fn is_quiet(&self) -> bool {
        let connections = self.idle.len() + usize::from(self.sentinel.is_some());
        self.gate.is_closed() && self.gate.in_flight() == 0 && connections == 0 && !self.probing
    }
}

impl World {
    pub fn step(&mut self, slot: usize, event: BackendEvent) {
        let in_flight = self.slots[slot].gate.in_flight();
        let effects = self.pool.step(&slot, event, in_flight, self.now);
        self.carry_out(effects);
        self.check(slot);
    }

    pub fn tick(&mut self) {
        self.next_tick = None;
        let flying: Vec<u32> = self
            .slots
            .iter()
            .map(|slot| slot.gate.in_flight())
            .collect();
        let effects = self.pool.tick(self.now, |slot| flying[*slot]);
        self.carry_out(effects);
        assert!(
            self.pool.next_deadline().is_none_or(|at| at > self.now),
            "a deadline that is never done"
        );
        for slot in 0..self.slots.len() {
            self.check(slot);
        }
    }

    fn carry_out(&mut self, effects: Vec<(usize, BackendEffect)>) {
        for (slot, effect) in effects {
            match effect {
                BackendEffect::OpenGate => {
                    self.slots[slot].gate.open();
                    self.after(Time::ZERO, Next::Pump);
                }
                BackendEffect::CloseGate => {
                    self.slots[slot].gate.close();
                }
                BackendEffect::CloseGateToNew => self.slots[slot].gate.close_to_new(),
                BackendEffect::NewEpoch(epoch) => {
                    assert!(epoch > self.slots[slot].epoch);
                    self.slots[slot].epoch = epoch;
                    self.slots[slot].idle.clear();
                    self.slots[slot].sentinel = None;
                }
                BackendEffect::ProbeNow => self.probe_soon(slot, Time::ZERO),
                BackendEffect::EndStreams { from, until, .. } => {
                    self.end_streams(slot, from, until)
                }
                BackendEffect::Cut => self.cut(slot),
                BackendEffect::Unseen { .. } => {}
                BackendEffect::Announce(outcome) => {
                    if outcome == DrainOutcome::Drained {
                        assert!(self.slots[slot].is_quiet(), "drained, but not quiet");
                    }
                    self.tell(slot, outcome);
                }
                BackendEffect::Changed { to, .. } => {
                    if to == DerivedState::Drained {
                        assert!(self.slots[slot].is_quiet(), "drained, but not quiet");
                    }
                    if to == DerivedState::Ready {
                        self.ready(slot);
                    }
                }
            }
        }
        if let Some(at) = self.pool.next_deadline()
            && self.next_tick.is_none_or(|next| at < next)
        {
            self.next_tick = Some(at);
            self.at(at.max(self.now), Next::Tick);
        }
    }

    /// The gate says what the core says, and a quiet slot is reported.
    pub fn check(&mut self, slot: usize) {
        let backend = self.pool.get(&slot).unwrap();
        let here = &self.slots[slot];
        assert_eq!(here.gate.is_closed(), !backend.is_eligible(), "{backend:?}");
        assert_eq!(here.gate.in_flight() as usize, here.flying.len());
        assert_eq!(here.epoch, backend.epoch());
        if backend.state() == DerivedState::Draining && here.is_quiet() {
            let epoch = here.epoch;
            self.after(Time::from_micros(50), Next::Quiesced { slot, epoch });
        }
    }

    /// What was seen a moment ago is looked at again: a probe may have begun. Its end is the next occasion.
    pub fn quiesced(&mut self, slot: usize, epoch: u64) {
        if self.slots[slot].is_quiet() {
            self.step(slot, BackendEvent::Quiesced { epoch });
        }
    }

    // Probes: one at a time, the next one after `probe_interval`, a hinted one at once (20 ms apart).

    fn probe_soon(&mut self, slot: usize, delay: Time) {
        let here = &mut self.slots[slot];
        if here.probing {
            here.again = true;
            return;
        }
        here.probe_at = (self.now + delay).max(here.probed + Time::from_millis(20));
        let time = here.probe_at;
        self.at(time, Next::ProbeStart { slot });
    }

    pub fn probe_start(&mut self, slot: usize) {
        let here = &mut self.slots[slot];
        if here.probing || here.probe_at != self.now {
            return;
        }
        here.probing = true;
        here.probed = self.now;
        let accepted = here.process.listens().then_some(here.process.generation);
        let slow = here.process.answer(here.process.generation) == ProbeResult::Timeout;
        let delay = match accepted {
            None => self.rng.micros(20, 200),
            Some(_) if slow => Time::from_secs(1),
            Some(_) => self.rng.micros(100, 20_000),
        };
        let began = self.now;
        self.after(
            delay,
            Next::ProbeEnd {
                slot,
                began,
                accepted,
            },
        );
    }

    pub fn probe_end(&mut self, slot: usize, began: Time, accepted: Option<u64>) {
        let here = &mut self.slots[slot];
        here.probing = false;
        let late = self.now - began >= Time::from_secs(1);
        let probe = match accepted {
            None => ProbeResult::Refused,
            Some(generation) => match here.process.answer(generation) {
                // It fell ill while we waited, or got well again: an answer all the same.
                ProbeResult::Timeout if !late => ProbeResult::Pass,
                ProbeResult::Pass if late => ProbeResult::Timeout,
                answer => answer,
            },
        };
        let open = !here.gate.is_closed();
        here.sentinel = accepted.filter(|_| probe == ProbeResult::Pass && open);
        let listener = accepted.filter(|_| self.sees_listeners);
        self.step(
            slot,
            BackendEvent::Probed {
                probe,
                began,
                listener,
            },
        );
        let again = std::mem::take(&mut self.slots[slot].again);
        let interval = self
            .pool
            .get(&slot)
            .unwrap()
            .probe_interval(self.pool.policy());
        self.probe_soon(slot, if again { Time::ZERO } else { interval });
    }
}
