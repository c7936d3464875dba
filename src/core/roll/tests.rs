//! Rolls step by step. Random ones are in `tests/properties/roll.rs`.

use super::*;

const SECOND: Time = Time::from_secs(1);

fn plan() -> RollPlan {
    RollPlan {
        max_unavailable: 1,
        allow_empty: false,
        command_timeout: SECOND * 100,
        ready_timeout: SECOND * 10,
        sign: RestartSign::NewProcess,
    }
}

fn one(name: &str, process: (u64, u64), ready: bool) -> RollBackend {
    RollBackend {
        name: name.to_owned(),
        process,
        ready,
        leaving: false,
    }
}

/// Returns two ready backends, `a` and `b`, in their first incarnation.
fn two() -> Vec<RollBackend> {
    vec![one("a", (1, 1), true), one("b", (2, 1), true)]
}

/// Returns a roll of all backends that are not leaving.
fn new(plan: RollPlan, seen: Vec<RollBackend>) -> Result<PoolRoll, RollRefusal> {
    let staying = seen.iter().filter(|one| !one.leaving);
    let mut targets: Vec<_> = staying.map(|one| one.name.clone()).collect();
    targets.dedup();
    PoolRoll::new(plan, &targets, seen)
}

fn begun(plan: RollPlan, seen: Vec<RollBackend>) -> PoolRoll {
    let mut roll = new(plan, seen.clone()).unwrap();
    let first = roll.names().next().unwrap().to_owned();
    assert_eq!(
        roll.step(RollEvent::Looked(seen), Time::ZERO)[0],
        RollEffect::Drain(first)
    );
    roll
}

fn quiet(name: &str) -> RollEvent {
    RollEvent::Drained(name.into(), DrainEnd::Quiet)
}

fn undo(name: &str) -> RollEffect {
    RollEffect::Undo(name.into())
}

fn failed(failure: RollFailure) -> RollEffect {
    RollEffect::Finish(RollEnd::Failed(failure))
}

#[test]
fn one_after_the_other_each_when_the_one_before_is_ready_again() {
    let mut roll = begun(plan(), two());
    assert_eq!(roll.step(quiet("a"), SECOND), [RollEffect::Run("a".into())]);
    assert!(
        roll.step(RollEvent::Ran("a".into(), true), SECOND * 2)
            .is_empty()
    );
    // Still the old process, however ready; then the new one, starting.
    assert!(roll.step(RollEvent::Looked(two()), SECOND * 3).is_empty());
    let starting = vec![one("a", (1, 2), false), one("b", (2, 1), true)];
    assert!(
        roll.step(RollEvent::Looked(starting), SECOND * 3)
            .is_empty()
    );
    let back = vec![one("a", (1, 2), true), one("b", (2, 1), true)];
    assert_eq!(
        roll.step(RollEvent::Looked(back), SECOND * 4),
        [
            RollEffect::Ready("a".into(), SECOND * 2),
            RollEffect::Drain("b".into())
        ]
    );
    roll.step(quiet("b"), SECOND * 5);
    roll.step(RollEvent::Ran("b".into(), true), SECOND * 5);
    let back = vec![one("a", (1, 2), true), one("b", (2, 2), true)];
    assert_eq!(
        roll.step(RollEvent::Looked(back), SECOND * 6).last(),
        Some(&RollEffect::Finish(RollEnd::Done))
    );
    assert!(roll.step(RollEvent::Interrupted, SECOND * 7).is_empty());
    assert_eq!(roll.next_deadline(), None);
}

#[test]
fn command_s_end_is_the_restart_where_the_socket_stays() {
    let by_command = RollPlan {
        sign: RestartSign::Exit,
        ..plan()
    };
    let mut roll = begun(by_command, two());
    let drained = vec![one("a", (1, 1), false), one("b", (2, 1), true)];
    roll.step(RollEvent::Looked(drained.clone()), SECOND);
    roll.step(quiet("a"), SECOND);
    // The drain is lifted, so that the proxy asks for fresh passes; then the same process counts as the new one.
    let ran = roll.step(RollEvent::Ran("a".into(), true), SECOND * 2);
    assert_eq!(ran, [undo("a")]);
    assert!(roll.step(RollEvent::Looked(drained), SECOND * 8).is_empty());
    assert_eq!(
        roll.step(RollEvent::Looked(two()), SECOND * 9),
        [
            RollEffect::Ready("a".into(), SECOND * 7),
            RollEffect::Drain("b".into())
        ]
    );
}

#[test]
fn probes_are_asked_for_when_the_command_has_ended() {
    let by_probes = RollPlan {
        sign: RestartSign::Probe,
        ..plan()
    };
    let mut roll = begun(by_probes, two());
    roll.step(quiet("a"), SECOND);
    let ran = roll.step(RollEvent::Ran("a".into(), true), SECOND * 2);
    assert_eq!(ran, [RollEffect::AwaitProbes("a".into())]);
    // The proxy takes that long; no message is needed.
    assert!(roll.step(RollEvent::Tick, SECOND * 8).is_empty());
    let back = vec![one("a", (1, 2), true), one("b", (2, 1), true)];
    assert_eq!(
        roll.step(RollEvent::Looked(back), SECOND * 8),
        [
            RollEffect::Ready("a".into(), SECOND * 6),
            RollEffect::Drain("b".into())
        ]
    );
}

#[test]
fn restart_that_is_not_seen_is_told_before_the_timeout_and_once() {
    let mut roll = begun(plan(), two());
    roll.step(quiet("a"), SECOND);
    roll.step(RollEvent::Ran("a".into(), true), SECOND * 2);
    assert_eq!(roll.next_deadline(), Some(SECOND * 7));
    assert_eq!(
        roll.step(RollEvent::Tick, SECOND * 7),
        [RollEffect::Unseen("a".into())]
    );
    assert!(roll.step(RollEvent::Tick, SECOND * 8).is_empty());
    assert_eq!(roll.next_deadline(), Some(SECOND * 12));
}

#[test]
fn one_must_stay_ready() {
    let refused = |plan, seen| new(plan, seen).unwrap_err();
    assert_eq!(refused(plan(), vec![]), RollRefusal::Empty);
    assert_eq!(
        refused(plan(), vec![one("a", (1, 1), true)]),
        RollRefusal::Capacity { ready: 1 }
    );
    let two_out = RollPlan {
        max_unavailable: 2,
        ..plan()
    };
    assert_eq!(refused(two_out, two()), RollRefusal::Capacity { ready: 2 });
    let allowed = RollPlan {
        allow_empty: true,
        ..plan()
    };
    begun(allowed, vec![one("a", (1, 1), true)]);
}

#[test]
fn roll_waits_when_another_backend_fails_meanwhile() {
    let mut roll = begun(plan(), two());
    roll.step(quiet("a"), SECOND);
    roll.step(RollEvent::Ran("a".into(), true), SECOND);
    let mut down = vec![one("a", (1, 2), true), one("b", (2, 1), true)];
    roll.step(RollEvent::Looked(down.clone()), SECOND * 2);
    // `b` is out now; `c` does not exist, and `a` goes down: no backend is left, but nothing is begun either.
    down[0].ready = false;
    assert!(roll.step(RollEvent::Looked(down), SECOND * 3).is_empty());

    let mut roll = new(plan(), two()).unwrap();
    let mut alone = two();
    alone[1].ready = false;
    assert_eq!(
        roll.step(RollEvent::Looked(alone.clone()), SECOND),
        [RollEffect::Waiting("a".into())]
    );
    assert_eq!(roll.next_deadline(), Some(SECOND * 11));
    assert!(
        roll.step(RollEvent::Looked(alone), SECOND * 2).is_empty(),
        "told once"
    );
    assert_eq!(
        roll.clone().step(RollEvent::Looked(two()), SECOND * 3),
        [RollEffect::Drain("a".into())]
    );
    assert_eq!(
        roll.step(RollEvent::Tick, SECOND * 11),
        [failed(RollFailure::Capacity("a".into()))]
    );
}

#[test]
fn backends_that_take_no_requests_are_rolled_first() {
    let seen = vec![
        one("a", (1, 1), true),
        one("b", (2, 1), false),
        one("c", (3, 1), true),
    ];
    let roll = new(plan(), seen).unwrap();
    assert_eq!(roll.names().collect::<Vec<_>>(), ["b", "a", "c"]);
}

#[test]
fn first_failure_ends_the_roll_and_lifts_its_drains() {
    let cut = RollEvent::Drained("a".into(), DrainEnd::Cut(3));
    let died = RollEvent::Drained("a".into(), DrainEnd::Died(2));
    let lifted = RollEvent::Drained("a".into(), DrainEnd::Lifted);
    for (event, failure) in [
        (cut, RollFailure::Cut("a".into(), 3)),
        (died, RollFailure::Died("a".into(), 2)),
        (lifted, RollFailure::Lifted("a".into())),
        (RollEvent::Broke("x".into()), RollFailure::Broke("x".into())),
    ] {
        let mut roll = begun(plan(), two());
        assert_eq!(roll.step(event, SECOND), [undo("a"), failed(failure)]);
    }
    let mut roll = begun(plan(), two());
    roll.step(quiet("a"), SECOND);
    assert_eq!(
        roll.step(RollEvent::Ran("a".into(), false), SECOND),
        [undo("a"), failed(RollFailure::Command("a".into()))]
    );
}

#[test]
fn each_timeout_of_a_roll_is_reported_by_name() {
    let mut roll = begun(plan(), two());
    roll.step(quiet("a"), SECOND);
    assert_eq!(roll.next_deadline(), Some(SECOND * 101));
    assert_eq!(
        roll.clone().step(RollEvent::Tick, SECOND * 101),
        [
            RollEffect::Kill("a".into()),
            undo("a"),
            failed(RollFailure::CommandTimeout("a".into()))
        ]
    );
    roll.step(RollEvent::Ran("a".into(), true), SECOND * 5);
    assert_eq!(
        roll.clone().step(RollEvent::Tick, SECOND * 15),
        [undo("a"), failed(RollFailure::NotRestarted("a".into()))]
    );
    let sick = vec![one("a", (1, 2), false), one("b", (2, 1), true)];
    roll.step(RollEvent::Looked(sick), SECOND * 6);
    assert_eq!(
        roll.step(RollEvent::Tick, SECOND * 15),
        [undo("a"), failed(RollFailure::NotReady("a".into()))]
    );
}

#[test]
fn an_interrupt_lets_the_command_end_and_a_second_one_does_not() {
    let mut roll = begun(plan(), two());
    assert_eq!(
        roll.clone().step(RollEvent::Interrupted, SECOND),
        [undo("a"), RollEffect::Finish(RollEnd::Interrupted)]
    );
    roll.step(quiet("a"), SECOND);
    assert!(roll.step(RollEvent::Interrupted, SECOND).is_empty());
    assert_eq!(
        roll.clone().step(RollEvent::Ran("a".into(), true), SECOND),
        [undo("a"), RollEffect::Finish(RollEnd::Interrupted)]
    );
    assert_eq!(
        roll.step(RollEvent::Interrupted, SECOND),
        [
            RollEffect::Kill("a".into()),
            undo("a"),
            RollEffect::Finish(RollEnd::Interrupted)
        ]
    );
}

#[test]
fn failure_of_one_of_two_backends_lets_the_other_come_back() {
    let three: Vec<_> = (1..=3)
        .map(|n| one(&format!("{n}"), (n, 1), true))
        .collect();
    let pair = RollPlan {
        max_unavailable: 2,
        ..plan()
    };
    let mut roll = new(pair, three.clone()).unwrap();
    let first = roll.step(RollEvent::Looked(three.clone()), SECOND);
    assert_eq!(
        first,
        [RollEffect::Drain("1".into()), RollEffect::Drain("2".into())]
    );
    roll.step(quiet("1"), SECOND);
    roll.step(quiet("2"), SECOND);
    assert_eq!(
        roll.step(RollEvent::Ran("1".into(), false), SECOND),
        [undo("1")]
    );
    assert!(
        roll.step(RollEvent::Ran("2".into(), true), SECOND)
            .is_empty()
    );
    let mut back = three;
    back[1].process = (2, 2);
    assert_eq!(
        roll.step(RollEvent::Looked(back), SECOND * 2),
        [
            RollEffect::Ready("2".into(), SECOND),
            failed(RollFailure::Command("1".into()))
        ]
    );
}

#[test]
fn instances_that_share_a_name_have_one_turn_and_those_that_leave_have_none() {
    let mut seen = vec![
        one("a", (1, 1), true),
        one("a", (3, 1), false),
        one("b", (2, 1), true),
        one("old", (4, 1), false),
    ];
    seen[3].leaving = true;
    let mut roll = begun(plan(), seen);
    assert_eq!(roll.names().collect::<Vec<_>>(), ["a", "b"]);
    roll.step(quiet("a"), SECOND);
    roll.step(RollEvent::Ran("a".into(), true), SECOND);
    // The newer of the two was there before: the command has not started it.
    let same = vec![one("a", (3, 1), true), one("b", (2, 1), true)];
    assert!(roll.step(RollEvent::Looked(same), SECOND).is_empty());
    // A new lease has another number, and its incarnation counts from 1 again. Meanwhile `b` has left.
    let new = vec![one("a", (7, 1), true), one("c", (8, 1), true)];
    assert_eq!(
        roll.step(RollEvent::Looked(new), SECOND),
        [
            RollEffect::Ready("a".into(), Time::ZERO),
            RollEffect::Gone("b".into()),
            RollEffect::Finish(RollEnd::Done)
        ]
    );
}
