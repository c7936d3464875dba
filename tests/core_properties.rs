#![allow(clippy::unwrap_used, reason = "it is how a test fails")]
//! Random sequences of events against one backend, with the gate and the rules of DESIGN.md kept beside it in
//! the plainest form.

use std::collections::BTreeMap;

use lameduck::core::Time;
use lameduck::core::backend::{
    BackendEffect, BackendEvent, BackendState, Context, DerivedState, Health, Policy, ProbeResult,
};
use lameduck::core::drain::{Actor, DrainSpec, OpenDrain, Outcome, RestartSign, Until};
use lameduck::registry::endpoint::gate::{Gate, GateLeave};
use proptest::prelude::*;

#[path = "properties/roll.rs"]
mod roll;

#[derive(Debug, Clone)]
enum Act {
    Wait(u64),
    /// A probe that began so many milliseconds ago.
    Probe {
        probe: ProbeResult,
        age: u64,
        listener: Option<u64>,
    },
    PeerClosed,
    Hint,
    Lost(u32),
    Enter,
    Leave,
    Drain {
        actor: Actor,
        id: u8,
        deadline: Option<u64>,
        restarted: bool,
        expires: Option<u64>,
    },
    Resume(bool),
    LeaseEnded(u8),
    Withdrawn(Actor, u8),
    /// Expires so many milliseconds from now.
    Orphaned(Actor, u8, u64),
    Replaced,
    /// Seen so many epochs ago.
    Quiesced(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let probe = prop_oneof![
        5 => Just(ProbeResult::Pass),
        2 => Just(ProbeResult::Unavailable),
        2 => Just(ProbeResult::Refused),
        1 => Just(ProbeResult::Reset),
        1 => Just(ProbeResult::Status(500)),
        2 => Just(ProbeResult::Timeout),
    ];
    let age = prop_oneof![4 => Just(0), 1 => 1..2000_u64];
    let listener = prop_oneof![4 => Just(None), 2 => Just(Some(1)), 1 => Just(Some(2))];
    let actor = prop_oneof![
        Just(Actor::Supervisor),
        Just(Actor::Operator),
        Just(Actor::Config),
    ];
    let deadline = proptest::option::of(0..40_000_u64);
    let expires = proptest::option::weighted(0.3, 0..60_000_u64);
    let act = prop_oneof![
        5 => prop_oneof![0..300_u64, 0..20_000_u64].prop_map(Act::Wait),
        12 => (probe, age, listener).prop_map(|(probe, age, listener)| Act::Probe { probe, age, listener }),
        1 => Just(Act::PeerClosed),
        1 => Just(Act::Hint),
        1 => (1..4_u32).prop_map(Act::Lost),
        4 => Just(Act::Enter),
        4 => Just(Act::Leave),
        2 => (actor.clone(), 0..2_u8, deadline, any::<bool>(), expires).prop_map(
            |(actor, id, deadline, restarted, expires)| Act::Drain { actor, id, deadline, restarted, expires }
        ),
        1 => any::<bool>().prop_map(Act::Resume),
        1 => (0..2_u8).prop_map(Act::LeaseEnded),
        1 => (actor.clone(), 0..2_u8).prop_map(|(actor, id)| Act::Withdrawn(actor, id)),
        1 => (actor.clone(), 0..2_u8, 1..20_000_u64).prop_map(|(actor, id, ms)| Act::Orphaned(actor, id, ms)),
        1 => Just(Act::Replaced),
        4 => (0..3_u64).prop_map(Act::Quiesced),
    ];
    proptest::collection::vec(act, 0..150)
}

/// Any numbers; what an app's 503 does stays the default.
fn policies() -> impl Strategy<Value = Policy> {
    let seconds = (1..40_u64, 0..10_u64);
    (1..4_u32, 1..4_u32, 1..6_u32, seconds).prop_map(
        |(rise, fall, fall_timeout, (absent, spread))| Policy {
            rise,
            fall,
            fall_timeout,
            absent_after: Time::from_secs(absent),
            close_spread: Time::from_secs(spread),
            ..Policy::default()
        },
    )
}

/// What the rules need to remember of a drain that isn't the app's.
#[derive(Debug, Clone)]
struct Known {
    drain: OpenDrain,
    incarnation: u64,
}

/// Whether somebody takes drains back.
fn is_lift(event: &BackendEvent) -> bool {
    matches!(
        event,
        BackendEvent::Resume { .. }
            | BackendEvent::LeaseEnded { .. }
            | BackendEvent::Withdrawn { .. }
    )
}

struct Model {
    backend: BackendState,
    policy: Policy,
    gate: Gate,
    now: Time,
    in_flight: u32,
    known: BTreeMap<(Actor, String), Known>,
    /// Somebody waits for an announcement.
    awaited: bool,
    /// Passes in a row that began since the app drained, a process came, or a drain expired.
    row: u32,
    row_since: Time,
}

impl Model {
    fn new(policy: Policy) -> Self {
        let now = Time::from_secs(100);
        Self {
            backend: BackendState::new(now),
            policy,
            gate: Gate::new(false),
            now,
            in_flight: 0,
            known: BTreeMap::new(),
            awaited: false,
            row: 0,
            row_since: now,
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Wait(millis) => self.wait(Time::from_millis(millis)),
            Act::Probe {
                probe,
                age,
                listener,
            } => {
                let began = self.now.saturating_sub(Time::from_millis(age));
                let listener = listener.filter(|_| probe != ProbeResult::Refused);
                let effects = self.step(BackendEvent::Probed {
                    probe,
                    began,
                    listener,
                });
                if probe == ProbeResult::Unavailable {
                    let cuts = |effect: &BackendEffect| {
                        matches!(
                            effect,
                            BackendEffect::Cut | BackendEffect::EndStreams { .. }
                        )
                    };
                    assert!(!effects.iter().any(cuts), "a 503 cuts nothing: {effects:?}");
                }
            }
            Act::PeerClosed => drop(self.step(BackendEvent::PeerClosed)),
            Act::Hint => drop(self.step(BackendEvent::Hint)),
            Act::Lost(requests) => drop(self.step(BackendEvent::Lost { requests })),
            Act::Enter => {
                let entered = self.gate.try_enter();
                assert_eq!(entered, self.backend.is_eligible());
                self.in_flight += u32::from(entered);
            }
            Act::Leave => {
                if self.in_flight > 0 {
                    self.in_flight -= 1;
                    let left = self.gate.leave();
                    let last = self.in_flight == 0 && !self.backend.is_eligible();
                    assert_eq!(left == GateLeave::LastOut, last);
                }
            }
            Act::Drain {
                actor,
                id,
                deadline,
                restarted,
                expires,
            } => {
                let later = |millis: u64| self.now + Time::from_millis(millis);
                let order = DrainSpec {
                    actor,
                    id: id.to_string(),
                    reason: "test".into(),
                    deadline: deadline.map(later),
                    until: if restarted {
                        Until::Restarted(RestartSign::NewProcess)
                    } else {
                        Until::Resumed
                    },
                    expires: expires.map(later),
                };
                // Who asks when it is drained already is answered from the state.
                self.awaited |= self.backend.state() != DerivedState::Drained || self.in_flight > 0;
                self.step(BackendEvent::Drain(order));
                assert!(!self.backend.is_eligible());
            }
            Act::Resume(all) => drop(self.step(BackendEvent::Resume { all })),
            Act::LeaseEnded(id) => drop(self.step(BackendEvent::LeaseEnded { id: id.to_string() })),
            Act::Withdrawn(actor, id) => {
                let id = id.to_string();
                self.step(BackendEvent::Withdrawn { actor, id });
            }
            Act::Orphaned(actor, id, ms) => {
                let (id, expires) = (id.to_string(), self.now + Time::from_millis(ms));
                self.step(BackendEvent::Orphaned { actor, id, expires });
            }
            Act::Replaced => drop(self.step(BackendEvent::Replaced)),
            Act::Quiesced(ago) => {
                let epoch = self.backend.epoch().saturating_sub(ago);
                self.step(BackendEvent::Quiesced { epoch });
            }
        }
    }

    /// Time passes, and every deadline on the way is met.
    fn wait(&mut self, time: Time) {
        let end = self.now + time;
        while let Some(at) = self
            .backend
            .next_deadline(&self.policy)
            .filter(|at| *at <= end)
        {
            assert!(at >= self.now, "a deadline in the past");
            self.now = at;
            let effects = self.step(BackendEvent::Tick);
            assert!(
                !effects.contains(&BackendEffect::OpenGate),
                "time alone opens nothing"
            );
            let next = self.backend.next_deadline(&self.policy);
            assert!(
                next.is_none_or(|next| next > at),
                "a deadline that is never done"
            );
        }
        self.now = end;
    }

    fn step(&mut self, event: BackendEvent) -> Vec<BackendEffect> {
        let before = self.backend.clone();
        let irreplaceable = before.is_eligible();
        let context = Context {
            in_flight: self.in_flight,
            irreplaceable,
        };
        let effects = self
            .backend
            .step(event.clone(), &context, &self.policy, self.now);
        if before.drains().count() == 0 && self.backend.drains().count() > 0 {
            // Before its effects: a deadline that is over already is announced in the same step.
            self.awaited = true;
        }
        self.note_row(&event, &before);
        for effect in &effects {
            match effect {
                BackendEffect::OpenGate => {
                    self.check_opening(&event, &before);
                    self.gate.open();
                }
                BackendEffect::CloseGate => drop(self.gate.close()),
                BackendEffect::Cut => {
                    // Whatever is cut gives its permit back.
                    for _ in 0..std::mem::take(&mut self.in_flight) {
                        self.gate.leave();
                    }
                }
                BackendEffect::Announce(outcome) => self.check_announcement(*outcome, context),
                BackendEffect::NewEpoch(epoch) => assert_eq!(*epoch, self.backend.epoch()),
                BackendEffect::Changed {
                    from,
                    to,
                    alert,
                    reason,
                } => {
                    assert_eq!((*from, *to), (before.state(), self.backend.state()));
                    assert!(!reason.is_empty(), "{effects:?}");
                    let planned =
                        matches!(event, BackendEvent::Drain(_) | BackendEvent::Resume { .. });
                    assert!(
                        !(*alert && planned),
                        "planned, and yet an alert: {effects:?}"
                    );
                }
                BackendEffect::EndStreams { from, until, .. } => assert!(from <= until),
                BackendEffect::ProbeNow | BackendEffect::Unseen { .. } => {}
            }
        }
        let new_epoch = effects
            .iter()
            .any(|effect| matches!(effect, BackendEffect::NewEpoch(_)));
        assert_eq!(new_epoch, self.backend.epoch() != before.epoch());
        self.check_drains(&event, &before);
        self.check_state();
        effects
    }

    fn note_row(&mut self, event: &BackendEvent, before: &BackendState) {
        let app = |backend: &BackendState| backend.drains().any(|(key, _)| key.0 == Actor::App);
        let reborn = self.backend.incarnation() != before.incarnation();
        let expired = |known: &Known| {
            known
                .drain
                .expires
                .is_some_and(|at| at > self.row_since && at <= self.now)
        };
        let asked_again = (app(&self.backend) && !app(before)) || self.known.values().any(expired);
        if let BackendEvent::Probed { probe, began, .. } = event {
            if reborn {
                (self.row, self.row_since) = (0, *began);
            }
            if *began >= self.row_since {
                self.row = if *probe == ProbeResult::Pass {
                    self.row + 1
                } else {
                    0
                };
            }
        } else if reborn {
            (self.row, self.row_since) = (0, self.now);
        }
        // A person or a lease took back what had drained, or overruled the app.
        let lifted = is_lift(event) && self.backend.drains().count() < before.drains().count();
        let overruled = app(before) && !app(&self.backend);
        let doubted = lifted && (overruled || before.state() == DerivedState::Drained);
        if asked_again || doubted {
            (self.row, self.row_since) = (0, self.now);
        }
        if before.drains().count() == 0 && self.backend.drains().count() > 0 {
            self.row_since = self.now;
        }
    }

    /// A probe opens after a whole row of fresh passes; otherwise only people and leases do, and only what
    /// has passed.
    fn check_opening(&self, event: &BackendEvent, before: &BackendState) {
        match event {
            BackendEvent::Probed { probe, .. } => {
                assert_eq!(*probe, ProbeResult::Pass);
                assert!(
                    self.row >= self.policy.rise,
                    "opened after {} fresh passes",
                    self.row
                );
            }
            _ if is_lift(event) => {
                assert_eq!(before.health(), Health::Up);
                assert_eq!(
                    before.state(),
                    DerivedState::Draining,
                    "opened on old health"
                );
            }
            other => panic!("{other:?} opened it"),
        }
    }

    /// Nobody is told twice, and "drained" only at zero and behind a closed gate.
    fn check_announcement(&mut self, outcome: Outcome, context: Context) {
        assert!(std::mem::take(&mut self.awaited), "told twice: {outcome:?}");
        if outcome == Outcome::Drained {
            assert!(self.gate.is_closed());
            assert_eq!((context.in_flight, self.gate.in_flight()), (0, 0));
        }
    }

    /// Every drain that went, went by one of its own ends.
    fn check_drains(&mut self, event: &BackendEvent, before: &BackendState) {
        let open: BTreeMap<(Actor, String), OpenDrain> = self
            .backend
            .drains()
            .map(|(key, drain)| (key.clone(), drain.clone()))
            .collect();
        if before.drains().count() == 0 && !open.is_empty() {
            assert!(self.backend.epoch() > before.epoch());
        }
        for (key, known) in &self.known {
            if open.contains_key(key) {
                continue;
            }
            let asked = match event {
                BackendEvent::Resume { all } => *all || key.0 == Actor::Operator,
                BackendEvent::LeaseEnded { id } => key.0 == Actor::Supervisor && key.1 == *id,
                BackendEvent::Withdrawn { actor, id } => key.0 == *actor && key.1 == *id,
                _ => false,
            };
            let restarted = known.drain.until.sign().is_some()
                && self.backend.incarnation() > known.incarnation;
            let expired = known.drain.expires.is_some_and(|at| at <= self.now);
            let passed = self.row >= self.policy.rise;
            let absent = expired && self.backend.health() == Health::Down;
            let ended = asked || (restarted && passed) || (expired && passed) || absent;
            assert!(ended, "{known:?} went by {event:?}");
        }
        self.known.retain(|key, _| open.contains_key(key));
        for (key, drain) in open.into_iter().filter(|(key, _)| key.0 != Actor::App) {
            let asked = matches!(event, BackendEvent::Drain(order) if order.actor == key.0 && order.id == key.1);
            let was = self.known.get(&key).filter(|_| !asked);
            let incarnation = was.map_or(self.backend.incarnation(), |known| known.incarnation);
            self.known.insert(key, Known { drain, incarnation });
        }
        if self.backend.drains().count() == 0 {
            assert!(!self.awaited, "somebody is never told");
        }
    }

    fn check_state(&self) {
        let state = self.backend.state();
        let drained = self.backend.drains().count() > 0;
        assert_eq!(
            drained,
            matches!(state, DerivedState::Drained | DerivedState::Draining)
        );
        assert_eq!(self.gate.is_closed(), state != DerivedState::Ready);
        assert_eq!(self.backend.is_eligible(), state == DerivedState::Ready);
        assert_eq!(self.gate.in_flight(), self.in_flight);
        if state == DerivedState::Drained {
            assert_eq!(self.in_flight, 0);
        }
        let others = self.backend.drains().any(|(key, _)| key.0 != Actor::App);
        assert!(!(others && self.backend.may_fail_open()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Every rule above, after every step.
    #[test]
    fn the_rules_hold_after_every_step(policy in policies(), acts in acts()) {
        let mut model = Model::new(policy);
        for act in acts {
            model.act(act);
        }
    }

    /// Whatever happened before: a drain with a deadline ends by it, and those who wait are told.
    #[test]
    fn a_drain_with_a_deadline_always_ends(policy in policies(), acts in acts(), millis in 0..60_000_u64, stuck in 0..5_u32) {
        let mut model = Model::new(policy);
        for act in acts {
            model.act(act);
        }
        for _ in 0..stuck {
            model.act(Act::Enter);
        }
        let in_flight = model.in_flight;
        let drained = model.backend.state() == DerivedState::Drained;
        model.act(Act::Drain {
            actor: Actor::Operator,
            id: 9,
            deadline: Some(millis),
            restarted: false,
            expires: None,
        });
        prop_assert!(!drained || in_flight == 0);
        model.wait(Time::from_millis(millis));
        prop_assert_eq!(model.in_flight, 0, "cut at the deadline");
        prop_assert!(!model.awaited);
    }

    /// Left alone with a healthy process, everything but what people have closed for good opens again.
    #[test]
    fn passes_open_what_nobody_keeps_closed(policy in policies(), acts in acts()) {
        let mut model = Model::new(policy);
        for act in acts {
            model.act(act);
        }
        model.wait(Time::from_secs(120));
        model.act(Act::Replaced);
        for _ in 0..model.policy.rise {
            model.act(Act::Probe { probe: ProbeResult::Pass, age: 0, listener: None });
        }
        let kept = model.known.values().filter(|known| known.drain.until == Until::Resumed).count();
        prop_assert_eq!(model.backend.is_eligible(), kept == 0, "{:?}", model.backend);
    }

    /// The same events at the same times make the same backend and the same effects.
    #[test]
    fn a_step_depends_on_its_arguments_alone(policy in policies(), acts in acts()) {
        let (mut one, mut two) = (Model::new(policy.clone()), Model::new(policy));
        for act in acts {
            one.act(act.clone());
            two.act(act);
        }
        prop_assert_eq!(format!("{:?}", one.backend), format!("{:?}", two.backend));
    }
}

/// A deadline that is over when the drain is asked for is announced at once, and a resume then tells nobody again.
#[test]
fn a_drain_whose_deadline_is_over_is_announced_once() {
    let mut model = Model::new(Policy::default());
    model.act(Act::Drain {
        actor: Actor::Supervisor,
        id: 0,
        deadline: Some(0),
        restarted: false,
        expires: None,
    });
    assert!(!model.awaited);
    model.act(Act::Resume(true));
}
