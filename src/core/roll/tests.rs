//! Rolls step by step. Random ones are in `tests/properties/roll.rs`.

use super::*;

const SECOND: Time = Time::from_secs(1);

fn plan() -> Plan {
    Plan {
        max_unavailable: 1,
        allow_empty: false,
        command_timeout: SECOND * 100,
        ready_timeout: SECOND * 10,
        sign: RestartSign::NewProcess,
    }
}

fn one(name: &str, process: (u64, u64), ready: bool) -> Seen {
    Seen {
        name: name.to_owned(),
        process,
        ready,
        leaving: false,
    }
}

/// Two ready ones, `a` and `b`, in their first incarnation.
fn two() -> Vec<Seen> {
    vec![one("a", (1, 1), true), one("b", (2, 1), true)]
}

/// A roll of all that stay.
fn new(plan: Plan, seen: Vec<Seen>) -> Result<Roll, Refusal> {
    let staying = seen.iter().filter(|one| !one.leaving);
    let mut targets: Vec<_> = staying.map(|one| one.name.clone()).collect();
    targets.dedup();
    Roll::new(plan, &targets, seen)
}

fn begun(plan: Plan, seen: Vec<Seen>) -> Roll {
    let mut roll = new(plan, seen.clone()).unwrap();
    let first = roll.names().next().unwrap().to_owned();
    assert_eq!(
        roll.step(Event::Looked(seen), Time::ZERO)[0],
        Effect::Drain(first)
    );
    roll
}

fn quiet(name: &str) -> Event {
    Event::Drained(name.into(), Drained::Quiet)
}

fn undo(name: &str) -> Effect {
    Effect::Undo(name.into())
}

fn failed(failure: Failure) -> Effect {
    Effect::Finish(End::Failed(failure))
}

#[test]
fn one_after_the_other_each_when_the_one_before_is_ready_again() {
    let mut roll = begun(plan(), two());
    assert_eq!(roll.step(quiet("a"), SECOND), [Effect::Run("a".into())]);
    assert!(
        roll.step(Event::Ran("a".into(), true), SECOND * 2)
            .is_empty()
    );
    // Still the old process, however ready; then the new one, on its way.
    assert!(roll.step(Event::Looked(two()), SECOND * 3).is_empty());
    let starting = vec![one("a", (1, 2), false), one("b", (2, 1), true)];
    assert!(roll.step(Event::Looked(starting), SECOND * 3).is_empty());
    let back = vec![one("a", (1, 2), true), one("b", (2, 1), true)];
    assert_eq!(
        roll.step(Event::Looked(back), SECOND * 4),
        [
            Effect::Ready("a".into(), SECOND * 2),
            Effect::Drain("b".into())
        ]
    );
    roll.step(quiet("b"), SECOND * 5);
    roll.step(Event::Ran("b".into(), true), SECOND * 5);
    let back = vec![one("a", (1, 2), true), one("b", (2, 2), true)];
    assert_eq!(
        roll.step(Event::Looked(back), SECOND * 6).last(),
        Some(&Effect::Finish(End::Done))
    );
    assert!(roll.step(Event::Interrupted, SECOND * 7).is_empty());
    assert_eq!(roll.next_deadline(), None);
}

#[test]
fn command_s_end_is_the_restart_where_the_socket_stays() {
    let by_command = Plan {
        sign: RestartSign::Exit,
        ..plan()
    };
    let mut roll = begun(by_command, two());
    let drained = vec![one("a", (1, 1), false), one("b", (2, 1), true)];
    roll.step(Event::Looked(drained.clone()), SECOND);
    roll.step(quiet("a"), SECOND);
    // The drain is lifted, so that the proxy asks for fresh passes; then the same process is the new one.
    let ran = roll.step(Event::Ran("a".into(), true), SECOND * 2);
    assert_eq!(ran, [undo("a")]);
    assert!(roll.step(Event::Looked(drained), SECOND * 8).is_empty());
    assert_eq!(
        roll.step(Event::Looked(two()), SECOND * 9),
        [
            Effect::Ready("a".into(), SECOND * 7),
            Effect::Drain("b".into())
        ]
    );
}

#[test]
fn probes_are_asked_for_when_the_command_has_ended() {
    let by_probes = Plan {
        sign: RestartSign::Probe,
        ..plan()
    };
    let mut roll = begun(by_probes, two());
    roll.step(quiet("a"), SECOND);
    let ran = roll.step(Event::Ran("a".into(), true), SECOND * 2);
    assert_eq!(ran, [Effect::AwaitProbes("a".into())]);
    // The proxy takes that long; nobody has to be told.
    assert!(roll.step(Event::Tick, SECOND * 8).is_empty());
    let back = vec![one("a", (1, 2), true), one("b", (2, 1), true)];
    assert_eq!(
        roll.step(Event::Looked(back), SECOND * 8),
        [
            Effect::Ready("a".into(), SECOND * 6),
            Effect::Drain("b".into())
        ]
    );
}

#[test]
fn restart_that_is_not_seen_is_told_before_the_timeout_and_once() {
    let mut roll = begun(plan(), two());
    roll.step(quiet("a"), SECOND);
    roll.step(Event::Ran("a".into(), true), SECOND * 2);
    assert_eq!(roll.next_deadline(), Some(SECOND * 7));
    assert_eq!(
        roll.step(Event::Tick, SECOND * 7),
        [Effect::Unseen("a".into())]
    );
    assert!(roll.step(Event::Tick, SECOND * 8).is_empty());
    assert_eq!(roll.next_deadline(), Some(SECOND * 12));
}

#[test]
fn one_must_stay_ready() {
    let refused = |plan, seen| new(plan, seen).unwrap_err();
    assert_eq!(refused(plan(), vec![]), Refusal::Empty);
    assert_eq!(
        refused(plan(), vec![one("a", (1, 1), true)]),
        Refusal::Capacity { ready: 1 }
    );
    let two_out = Plan {
        max_unavailable: 2,
        ..plan()
    };
    assert_eq!(refused(two_out, two()), Refusal::Capacity { ready: 2 });
    let allowed = Plan {
        allow_empty: true,
        ..plan()
    };
    begun(allowed, vec![one("a", (1, 1), true)]);
}

#[test]
fn it_waits_when_another_one_fails_meanwhile() {
    let mut roll = begun(plan(), two());
    roll.step(quiet("a"), SECOND);
    roll.step(Event::Ran("a".into(), true), SECOND);
    let mut down = vec![one("a", (1, 2), true), one("b", (2, 1), true)];
    roll.step(Event::Looked(down.clone()), SECOND * 2);
    // `b` is out now; `c` does not exist, and `a` goes down: nobody is left, but nothing is begun either.
    down[0].ready = false;
    assert!(roll.step(Event::Looked(down), SECOND * 3).is_empty());

    let mut roll = new(plan(), two()).unwrap();
    let mut alone = two();
    alone[1].ready = false;
    assert_eq!(
        roll.step(Event::Looked(alone.clone()), SECOND),
        [Effect::Waiting("a".into())]
    );
    assert_eq!(roll.next_deadline(), Some(SECOND * 11));
    assert!(
        roll.step(Event::Looked(alone), SECOND * 2).is_empty(),
        "told once"
    );
    assert_eq!(
        roll.clone().step(Event::Looked(two()), SECOND * 3),
        [Effect::Drain("a".into())]
    );
    assert_eq!(
        roll.step(Event::Tick, SECOND * 11),
        [failed(Failure::Capacity("a".into()))]
    );
}

#[test]
fn those_that_take_no_requests_go_first() {
    let seen = vec![
        one("a", (1, 1), true),
        one("b", (2, 1), false),
        one("c", (3, 1), true),
    ];
    let roll = new(plan(), seen).unwrap();
    assert_eq!(roll.names().collect::<Vec<_>>(), ["b", "a", "c"]);
}

#[test]
fn the_first_failure_ends_it_and_undoes() {
    let cut = Event::Drained("a".into(), Drained::Cut(3));
    let died = Event::Drained("a".into(), Drained::Died(2));
    let lifted = Event::Drained("a".into(), Drained::Lifted);
    for (event, failure) in [
        (cut, Failure::Cut("a".into(), 3)),
        (died, Failure::Died("a".into(), 2)),
        (lifted, Failure::Lifted("a".into())),
        (Event::Broke("x".into()), Failure::Broke("x".into())),
    ] {
        let mut roll = begun(plan(), two());
        assert_eq!(roll.step(event, SECOND), [undo("a"), failed(failure)]);
    }
    let mut roll = begun(plan(), two());
    roll.step(quiet("a"), SECOND);
    assert_eq!(
        roll.step(Event::Ran("a".into(), false), SECOND),
        [undo("a"), failed(Failure::Command("a".into()))]
    );
}

#[test]
fn what_takes_too_long_has_a_name() {
    let mut roll = begun(plan(), two());
    roll.step(quiet("a"), SECOND);
    assert_eq!(roll.next_deadline(), Some(SECOND * 101));
    assert_eq!(
        roll.clone().step(Event::Tick, SECOND * 101),
        [
            Effect::Kill("a".into()),
            undo("a"),
            failed(Failure::CommandTimeout("a".into()))
        ]
    );
    roll.step(Event::Ran("a".into(), true), SECOND * 5);
    assert_eq!(
        roll.clone().step(Event::Tick, SECOND * 15),
        [undo("a"), failed(Failure::NotRestarted("a".into()))]
    );
    let sick = vec![one("a", (1, 2), false), one("b", (2, 1), true)];
    roll.step(Event::Looked(sick), SECOND * 6);
    assert_eq!(
        roll.step(Event::Tick, SECOND * 15),
        [undo("a"), failed(Failure::NotReady("a".into()))]
    );
}

#[test]
fn an_interrupt_lets_the_command_end_and_a_second_one_does_not() {
    let mut roll = begun(plan(), two());
    assert_eq!(
        roll.clone().step(Event::Interrupted, SECOND),
        [undo("a"), Effect::Finish(End::Interrupted)]
    );
    roll.step(quiet("a"), SECOND);
    assert!(roll.step(Event::Interrupted, SECOND).is_empty());
    assert_eq!(
        roll.clone().step(Event::Ran("a".into(), true), SECOND),
        [undo("a"), Effect::Finish(End::Interrupted)]
    );
    assert_eq!(
        roll.step(Event::Interrupted, SECOND),
        [
            Effect::Kill("a".into()),
            undo("a"),
            Effect::Finish(End::Interrupted)
        ]
    );
}

#[test]
fn with_two_out_a_failure_lets_the_other_come_back() {
    let three: Vec<_> = (1..=3)
        .map(|n| one(&format!("{n}"), (n, 1), true))
        .collect();
    let pair = Plan {
        max_unavailable: 2,
        ..plan()
    };
    let mut roll = new(pair, three.clone()).unwrap();
    let first = roll.step(Event::Looked(three.clone()), SECOND);
    assert_eq!(
        first,
        [Effect::Drain("1".into()), Effect::Drain("2".into())]
    );
    roll.step(quiet("1"), SECOND);
    roll.step(quiet("2"), SECOND);
    assert_eq!(
        roll.step(Event::Ran("1".into(), false), SECOND),
        [undo("1")]
    );
    assert!(roll.step(Event::Ran("2".into(), true), SECOND).is_empty());
    let mut back = three;
    back[1].process = (2, 2);
    assert_eq!(
        roll.step(Event::Looked(back), SECOND * 2),
        [
            Effect::Ready("2".into(), SECOND),
            failed(Failure::Command("1".into()))
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
    roll.step(Event::Ran("a".into(), true), SECOND);
    // The newer of the two was there before: it is not what the command has started.
    let same = vec![one("a", (3, 1), true), one("b", (2, 1), true)];
    assert!(roll.step(Event::Looked(same), SECOND).is_empty());
    // A new lease has another number, its incarnation counts from 1 again. Meanwhile `b` has left.
    let new = vec![one("a", (7, 1), true), one("c", (8, 1), true)];
    assert_eq!(
        roll.step(Event::Looked(new), SECOND),
        [
            Effect::Ready("a".into(), Time::ZERO),
            Effect::Gone("b".into()),
            Effect::Finish(End::Done)
        ]
    );
}
