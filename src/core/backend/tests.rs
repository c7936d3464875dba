//! One test per rule of the design's tables.

mod closing;
mod dying;
mod handing_over;
mod probes;
mod restarts;
mod successors;

use super::*;

/// A backend with its surroundings. Time advances by 10 ms with each event, so that a probe begins after the event
/// before it.
struct Rig {
    backend: BackendState,
    policy: BackendPolicy,
    context: EventContext,
    now: Time,
    listener: Option<u64>,
}

const TICK: Time = Time::from_millis(10);

impl Rig {
    fn new() -> Self {
        let now = Time::from_secs(1000);
        Self {
            backend: BackendState::new(now),
            policy: BackendPolicy::default(),
            context: EventContext::default(),
            now,
            listener: None,
        }
    }

    /// Returns a backend that has passed its probes.
    fn ready() -> Self {
        let mut rig = Self::new();
        rig.passes(2);
        assert_eq!(rig.backend.state(), DerivedState::Ready);
        rig
    }

    fn on(&mut self, event: BackendEvent) -> Vec<BackendEffect> {
        self.now += TICK;
        self.backend
            .step(event, &self.context, &self.policy, self.now)
    }

    /// A probe that begins and ends now.
    fn probe(&mut self, probe: ProbeResult) -> Vec<BackendEffect> {
        let began = self.now + TICK;
        self.probe_begun(probe, began)
    }

    fn probe_begun(&mut self, probe: ProbeResult, began: Time) -> Vec<BackendEffect> {
        let listener = self.listener.filter(|_| probe != ProbeResult::Refused);
        self.on(BackendEvent::Probed {
            probe,
            began,
            listener,
        })
    }

    fn passes(&mut self, count: u32) {
        for _ in 0..count {
            self.probe(ProbeResult::Pass);
        }
    }

    fn order(&self, actor: DrainActor) -> DrainSpec {
        DrainSpec {
            actor,
            id: "deploy".into(),
            reason: "test".into(),
            deadline: None,
            until: DrainUntil::Resumed,
            expires: None,
        }
    }

    fn drain(&mut self, actor: DrainActor) -> Vec<BackendEffect> {
        let order = self.order(actor);
        self.on(BackendEvent::Drain(order))
    }

    fn quiesce(&mut self) -> Vec<BackendEffect> {
        self.context.in_flight = 0;
        let epoch = self.backend.epoch();
        self.on(BackendEvent::Quiesced { epoch })
    }

    fn tick_at(&mut self, now: Time) -> Vec<BackendEffect> {
        self.now = now;
        self.backend
            .step(BackendEvent::Tick, &self.context, &self.policy, now)
    }

    fn state(&self) -> DerivedState {
        self.backend.state()
    }
}

fn alerts(effects: &[BackendEffect]) -> bool {
    let alert =
        |effect: &BackendEffect| matches!(effect, BackendEffect::Changed { alert: true, .. });
    effects.iter().any(alert)
}

fn announced(effects: &[BackendEffect]) -> Vec<DrainOutcome> {
    let outcome = |effect: &BackendEffect| match effect {
        BackendEffect::Announce(outcome) => Some(*outcome),
        _ => None,
    };
    effects.iter().filter_map(outcome).collect()
}
