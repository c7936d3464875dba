//! Rolls under random events: never too many out, and nothing of ours is left drained.

use std::collections::BTreeSet;

use lameduck::core::Time;
use lameduck::core::drain::RestartSign;
use lameduck::core::roll::{DrainEnd, PoolRoll, RollBackend, RollEffect, RollEvent, RollPlan};
use proptest::prelude::*;

const SECOND: Time = Time::from_secs(1);

fn one(n: usize) -> RollBackend {
    RollBackend {
        name: n.to_string(),
        process: (n as u64, 1),
        ready: true,
        leaving: false,
    }
}

/// What a random world does with the instances of a roll.
#[derive(Debug, Clone)]
enum Act {
    Drained(usize, DrainEnd),
    Ran(usize, bool),
    Look(Vec<(bool, u64)>),
    Broke,
    Interrupted,
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let outcome = prop_oneof![
        9 => Just(DrainEnd::Quiet),
        1 => Just(DrainEnd::Cut(1)),
        1 => Just(DrainEnd::Died(1)),
        1 => Just(DrainEnd::Lifted),
    ];
    let look = proptest::collection::vec((proptest::bool::weighted(0.8), 1..4_u64), 5);
    let act = prop_oneof![
        4 => (0..5_usize, outcome).prop_map(|(n, outcome)| Act::Drained(n, outcome)),
        4 => (0..5_usize, proptest::bool::weighted(0.9)).prop_map(|(n, well)| Act::Ran(n, well)),
        4 => look.prop_map(Act::Look),
        1 => (0..30_u64).prop_map(Act::Wait),
    ];
    let rare = prop_oneof![30 => act, 1 => Just(Act::Broke), 1 => Just(Act::Interrupted)];
    proptest::collection::vec(rare, 0..80)
}

proptest! {
    /// Never too many out, never one taken out that leaves none ready, a command only for what is drained, and
    /// in the end nothing of ours is left drained.
    #[test]
    fn a_roll_keeps_its_promises(max in 1..4_usize, by_command in any::<bool>(), acts in acts()) {
        let mut seen: Vec<_> = (0..5).map(one).collect();
        let plan = RollPlan {
            max_unavailable: max,
            allow_empty: false,
            command_timeout: SECOND * 100,
            ready_timeout: SECOND * 10,
            sign: if by_command { RestartSign::Exit } else { RestartSign::NewProcess },
        };
        let targets: Vec<_> = seen.iter().map(|one| one.name.clone()).collect();
        let mut roll = PoolRoll::new(plan, &targets, seen.clone()).unwrap();
        let (mut now, mut finished) = (Time::ZERO, 0);
        let (mut drained, mut running) = (BTreeSet::new(), BTreeSet::new());
        let start = std::iter::once(Act::Wait(0));
        // However it went: enough time and interrupts end it.
        let end = [Act::Wait(200), Act::Interrupted, Act::Interrupted];
        for act in start.chain(acts).chain(end) {
            let event = match act {
                Act::Drained(n, how) => RollEvent::Drained(n.to_string(), how),
                Act::Ran(n, well) => {
                    if !running.remove(&n.to_string()) {
                        continue;
                    }
                    RollEvent::Ran(n.to_string(), well)
                }
                Act::Look(states) => {
                    for (one, (ready, incarnation)) in seen.iter_mut().zip(states) {
                        one.ready = ready;
                        one.process.1 = incarnation;
                    }
                    RollEvent::Looked(seen.clone())
                }
                Act::Broke => RollEvent::Broke("x".into()),
                Act::Interrupted => RollEvent::Interrupted,
                Act::Wait(seconds) => {
                    now += SECOND * seconds as u32;
                    RollEvent::Tick
                }
            };
            for effect in roll.step(event, now) {
                prop_assert_eq!(finished, 0, "{:?} after the end", effect);
                match effect {
                    RollEffect::Drain(name) => {
                        let others = seen.iter().filter(|one| {
                            one.ready && one.name != name && !drained.contains(&one.name)
                        });
                        let was_ready = seen.iter().any(|one| one.ready && one.name == name);
                        prop_assert!(!was_ready || others.count() > 0, "{name} was the last");
                        prop_assert!(drained.insert(name));
                    }
                    RollEffect::Run(name) => {
                        prop_assert!(drained.contains(&name) && running.insert(name));
                    }
                    RollEffect::Kill(name) => prop_assert!(running.remove(&name)),
                    RollEffect::Undo(name) => prop_assert!(drained.remove(&name)),
                    RollEffect::Ready(name, _) => {
                        let ready = seen.iter().any(|one| one.name == name && one.ready);
                        // Where the command's end counts, the drain was lifted then.
                        prop_assert!(ready && drained.remove(&name) != by_command);
                    }
                    RollEffect::Gone(_) | RollEffect::Waiting(_) | RollEffect::Unseen(_) => {}
                    RollEffect::AwaitProbes(_) => prop_assert!(false, "no plan here has that sign"),
                    RollEffect::Finish(_) => finished += 1,
                }
                prop_assert!(drained.len() <= max);
            }
        }
        prop_assert_eq!(finished, 1);
        prop_assert!(drained.is_empty() && running.is_empty(), "{:?} {:?}", drained, running);
    }
}
