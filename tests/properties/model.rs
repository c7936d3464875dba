//! One backend, with the gate and the rules of DESIGN.md kept beside it in the plainest form: each step is checked.

use std::collections::BTreeMap;

use lameduck::core::Time;
use lameduck::core::backend::{
    BackendEffect, BackendEvent, BackendHealth, BackendPolicy, BackendState, DerivedState,
    EventContext, ProbeResult,
};
use lameduck::core::drain::{
    DrainActor, DrainOutcome, DrainSpec, DrainUntil, OpenDrain, RestartSign,
};
use lameduck::registry::endpoint::gate::{Gate, GateLeave, SessionEntry};

use crate::acts::Act;

/// What the rules need to remember of a drain that isn't the app's.
#[derive(Debug, Clone)]
pub struct Known {
    pub drain: OpenDrain,
    pub incarnation: u64,
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

pub struct Model {
    pub backend: BackendState,
    pub policy: BackendPolicy,
    gate: Gate,
    now: Time,
    pub in_flight: u32,
    /// Those that it has, where drains finish them.
    sessions: u32,
    /// Where a hand-over is under way: the process that it began with.
    handed_over: Option<u64>,
    pub known: BTreeMap<(DrainActor, String), Known>,
    /// Somebody waits for an announcement.
    pub awaited: bool,
    /// Passes in a row that began since the app drained, a process came, or a drain expired.
    row: u32,
    row_since: Time,
}

impl Model {
    pub fn new(policy: BackendPolicy) -> Self {
        let now = Time::from_secs(100);
        Self {
            backend: BackendState::new(now),
            policy,
            gate: Gate::new(false),
            now,
            in_flight: 0,
            sessions: 0,
            handed_over: None,
            known: BTreeMap::new(),
            awaited: false,
            row: 0,
            row_since: now,
        }
    }

    pub fn act(&mut self, act: Act) {
        match act {
            Act::Wait(millis) => self.wait(Time::from_millis(millis)),
            Act::Probe {
                probe,
                age,
                listener,
            } => {
                let began = self.now.saturating_sub(Time::from_millis(age));
                let listener = listener.filter(|_| probe != ProbeResult::Refused);
                // Its end asks streams to end once more that somebody else's deadline ends.
                let hands_over = self.backend.hands_over();
                let effects = self.step(BackendEvent::Probed {
                    probe,
                    began,
                    listener,
                });
                if probe == ProbeResult::Unavailable {
                    let cuts = |effect: &BackendEffect| match effect {
                        BackendEffect::Cut => true,
                        BackendEffect::EndStreams { .. } => !hands_over,
                        _ => false,
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
            Act::EnterWithSession => {
                let entered = self.gate.try_enter_with_session(0) == SessionEntry::Entered;
                let may = self.backend.is_eligible() || self.backend.hands_over();
                assert_eq!(entered, may);
                self.in_flight += u32::from(entered);
            }
            Act::Sessions(number) => self.sessions = number,
            Act::Leave => {
                if self.in_flight > 0 {
                    self.in_flight -= 1;
                    let left = self.gate.leave();
                    let last = self.in_flight == 0
                        && !self.backend.is_eligible()
                        && !self.backend.hands_over();
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
                        DrainUntil::Restarted(RestartSign::NewProcess)
                    } else {
                        DrainUntil::Resumed
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
    pub fn wait(&mut self, time: Time) {
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
        let context = EventContext {
            in_flight: self.in_flight,
            sessions: self.sessions,
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
                BackendEffect::CloseGateToNew => self.gate.close_to_new(),
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
        self.check_hand_over(&before);
        self.check_state();
        effects
    }

    fn note_row(&mut self, event: &BackendEvent, before: &BackendState) {
        let app =
            |backend: &BackendState| backend.drains().any(|(key, _)| key.0 == DrainActor::App);
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
                assert_eq!(before.health(), BackendHealth::Up);
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
    fn check_announcement(&mut self, outcome: DrainOutcome, context: EventContext) {
        assert!(std::mem::take(&mut self.awaited), "told twice: {outcome:?}");
        if outcome == DrainOutcome::Drained {
            assert!(self.gate.is_closed_to_all());
            assert_eq!((context.in_flight, self.gate.in_flight()), (0, 0));
        }
    }

    /// Every drain that went, went by one of its own ends.
    fn check_drains(&mut self, event: &BackendEvent, before: &BackendState) {
        let open: BTreeMap<(DrainActor, String), OpenDrain> = self
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
                BackendEvent::Resume { all } => *all || key.0 == DrainActor::Operator,
                BackendEvent::LeaseEnded { id } => key.0 == DrainActor::Supervisor && key.1 == *id,
                BackendEvent::Withdrawn { actor, id } => key.0 == *actor && key.1 == *id,
                _ => false,
            };
            let restarted = known.drain.until.sign().is_some()
                && self.backend.incarnation() > known.incarnation;
            let expired = known.drain.expires.is_some_and(|at| at <= self.now);
            let passed = self.row >= self.policy.rise;
            let absent = expired && self.backend.health() == BackendHealth::Down;
            let ended = asked || (restarted && passed) || (expired && passed) || absent;
            assert!(ended, "{known:?} went by {event:?}");
        }
        self.known.retain(|key, _| open.contains_key(key));
        for (key, drain) in open.into_iter().filter(|(key, _)| key.0 != DrainActor::App) {
            let asked = matches!(event, BackendEvent::Drain(order) if order.actor == key.0 && order.id == key.1);
            let was = self.known.get(&key).filter(|_| !asked);
            let incarnation = was.map_or(self.backend.incarnation(), |known| known.incarnation);
            self.known.insert(key, Known { drain, incarnation });
        }
        if self.backend.drains().count() == 0 {
            assert!(!self.awaited, "somebody is never told");
        }
    }

    /// Those who have a session go on only where drains finish them, while there are any, the process passes its probes
    /// and says nothing of its end, it is the one that they began with, and time is left before the deadline. What has
    /// ended does not begin again within one drain.
    fn check_hand_over(&mut self, before: &BackendState) {
        if !self.backend.hands_over() {
            self.handed_over = None;
            return;
        }
        let began = before.drains().count() == 0;
        assert!(began || before.hands_over(), "it began again");
        let incarnation = *self.handed_over.get_or_insert(self.backend.incarnation());
        assert!(self.policy.finishes_sessions && self.sessions > 0);
        assert_eq!(self.backend.state(), DerivedState::Draining);
        assert_eq!(self.backend.health(), BackendHealth::Up);
        assert_eq!(self.backend.incarnation(), incarnation);
        for (key, drain) in self.backend.drains() {
            assert!(key.0 != DrainActor::App, "it has said itself that it stops");
            assert!(drain.deadline.is_none_or(|at| at > self.now));
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
        let is_open_to_any = state == DerivedState::Ready || self.backend.hands_over();
        assert_eq!(self.gate.is_closed_to_all(), !is_open_to_any);
        assert_eq!(self.backend.is_eligible(), state == DerivedState::Ready);
        assert_eq!(self.gate.in_flight(), self.in_flight);
        if state == DerivedState::Drained {
            assert_eq!(self.in_flight, 0);
        }
        let others = self
            .backend
            .drains()
            .any(|(key, _)| key.0 != DrainActor::App);
        assert!(!(others && self.backend.may_fail_open()));
    }
}
