//! One test per rule of the design's tables.

mod closing;
mod dying;
mod probes;
mod restarts;

use super::*;

/// A backend with its surroundings. Time moves 10 ms with each event, so that a probe begins after whatever
/// came before it.
struct Rig {
    backend: Backend,
    policy: Policy,
    context: Context,
    now: Time,
    listener: Option<u64>,
}

const TICK: Time = Time::from_millis(10);

impl Rig {
    fn new() -> Self {
        let now = Time::from_secs(1000);
        Self {
            backend: Backend::new(now),
            policy: Policy::default(),
            context: Context::default(),
            now,
            listener: None,
        }
    }

    /// One that has passed its probes.
    fn ready() -> Self {
        let mut rig = Self::new();
        rig.passes(2);
        assert_eq!(rig.backend.state(), State::Ready);
        rig
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        self.now += TICK;
        self.backend
            .step(event, &self.context, &self.policy, self.now)
    }

    /// A probe that begins and ends now.
    fn probe(&mut self, probe: Probe) -> Vec<Effect> {
        let began = self.now + TICK;
        self.probe_begun(probe, began)
    }

    fn probe_begun(&mut self, probe: Probe, began: Time) -> Vec<Effect> {
        let listener = self.listener.filter(|_| probe != Probe::Refused);
        self.on(Event::Probed {
            probe,
            began,
            listener,
        })
    }

    fn passes(&mut self, count: u32) {
        for _ in 0..count {
            self.probe(Probe::Pass);
        }
    }

    fn order(&self, actor: Actor) -> Order {
        Order {
            actor,
            id: "deploy".into(),
            reason: "test".into(),
            deadline: None,
            until: Until::Resumed,
            expires: None,
        }
    }

    fn drain(&mut self, actor: Actor) -> Vec<Effect> {
        let order = self.order(actor);
        self.on(Event::Drain(order))
    }

    fn quiesce(&mut self) -> Vec<Effect> {
        self.context.in_flight = 0;
        let epoch = self.backend.epoch();
        self.on(Event::Quiesced { epoch })
    }

    fn tick_at(&mut self, now: Time) -> Vec<Effect> {
        self.now = now;
        self.backend
            .step(Event::Tick, &self.context, &self.policy, now)
    }

    fn state(&self) -> State {
        self.backend.state()
    }
}

fn alerts(effects: &[Effect]) -> bool {
    let alert = |effect: &Effect| matches!(effect, Effect::Changed { alert: true, .. });
    effects.iter().any(alert)
}

fn announced(effects: &[Effect]) -> Vec<Outcome> {
    let outcome = |effect: &Effect| match effect {
        Effect::Announce(outcome) => Some(*outcome),
        _ => None,
    };
    effects.iter().filter_map(outcome).collect()
}
