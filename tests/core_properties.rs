#![allow(clippy::unwrap_used, reason = "it is how a test fails")]
//! Random sequences of events against one backend, against one roll, and against the two ends of an upgrade.

use lameduck::core::Time;
use lameduck::core::backend::{BackendPolicy, DerivedState, ProbeResult};
use lameduck::core::drain::{DrainActor, DrainUntil};
use proptest::prelude::*;

#[path = "properties/acts.rs"]
mod acts;
#[path = "properties/model.rs"]
mod model;
#[path = "properties/roll.rs"]
mod roll;
#[path = "properties/upgrade.rs"]
mod upgrade;

use acts::{Act, acts, policies};
use model::Model;

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
            actor: DrainActor::Operator,
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
    fn passes_open_a_backend_without_other_drains(policy in policies(), acts in acts()) {
        let mut model = Model::new(policy);
        for act in acts {
            model.act(act);
        }
        model.wait(Time::from_secs(120));
        model.act(Act::Replaced);
        for _ in 0..model.policy.rise {
            model.act(Act::Probe { probe: ProbeResult::Pass, age: 0, listener: None });
        }
        let kept = model.known.values().filter(|known| known.drain.until == DrainUntil::Resumed).count();
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
    let mut model = Model::new(BackendPolicy::default());
    model.act(Act::Drain {
        actor: DrainActor::Supervisor,
        id: 0,
        deadline: Some(0),
        restarted: false,
        expires: None,
    });
    assert!(!model.awaited);
    model.act(Act::Resume(true));
}
