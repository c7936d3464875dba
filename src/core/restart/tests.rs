use proptest::prelude::*;

use super::*;

fn sight(state: DerivedState) -> RestartSight {
    RestartSight {
        state,
        incarnation: 1,
        probe: None,
        ended: false,
        broke: false,
        announced: None,
        drains: Vec::new(),
        capacity: 1.0,
    }
}

fn drain(actor: DrainActor, since: u64) -> SeenDrain {
    SeenDrain {
        actor,
        by_lease: false,
        roll: None,
        reason: "deploy".to_owned(),
        since: Time::from_millis(since),
        deadline: Some(Time::from_millis(since + 100)),
    }
}

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn ready() -> RestartRecorder {
    let mut recorder = RestartRecorder::new(1, at(0));
    let seen = recorder.observe_backend(&sight(DerivedState::Ready), 1, at(1));
    assert_eq!(seen, (RestartChange::Nothing, None));
    recorder
}

#[test]
fn first_start_is_no_restart() {
    let mut recorder = RestartRecorder::new(1, at(0));
    for state in [
        DerivedState::Starting,
        DerivedState::Down,
        DerivedState::Starting,
        DerivedState::Ready,
    ] {
        assert_eq!(
            recorder.observe_backend(&sight(state), 1, at(1)).0,
            RestartChange::Nothing
        );
    }
}

#[test]
fn drained_backend_has_all_five_instants() {
    let mut recorder = ready();
    let mut told = sight(DerivedState::Draining);
    told.drains = vec![drain(DrainActor::Operator, 10)];
    told.drains[0].roll = Some("roll-7".to_owned());
    told.capacity = 0.5;
    assert_eq!(
        recorder.observe_backend(&told, 7, at(10)).0,
        RestartChange::Begun
    );
    let mut drained = told.clone();
    (drained.state, drained.announced) = (DerivedState::Drained, Some(DrainOutcome::Drained));
    recorder.observe_backend(&drained, 8, at(20));
    let mut gone = drained.clone();
    (gone.probe, gone.announced) = (Some(ProbeResult::Refused), None);
    recorder.observe_backend(&gone, 8, at(30));
    let mut back = gone.clone();
    (back.probe, back.incarnation) = (Some(ProbeResult::Pass), 2);
    recorder.observe_backend(&back, 8, at(40));
    let mut open = sight(DerivedState::Ready);
    open.incarnation = 2;
    let (change, record) = recorder.observe_backend(&open, 8, at(50));
    let record = record.unwrap();
    assert_eq!(change, RestartChange::Over);
    assert_eq!(record.number, 7);
    assert_eq!(record.cause, RestartCause::Api);
    assert_eq!(record.roll.as_deref(), Some("roll-7"));
    let instants = [
        record.told,
        record.drained,
        record.stopped,
        record.started,
        record.ready,
    ];
    assert_eq!(instants, [10, 20, 30, 40, 50].map(|one| Some(at(one))));
    assert_eq!(record.deadline, Some(at(110)));
    assert_eq!(record.outcome, RestartOutcome::Restarted);
    assert!((record.capacity - 0.5).abs() < 1e-9);
    assert_eq!(recorder.open(), None);
}

#[test]
fn drain_that_is_lifted_without_another_process_is_resumed() {
    let mut recorder = ready();
    let mut told = sight(DerivedState::Draining);
    told.drains = vec![drain(DrainActor::Operator, 10)];
    recorder.observe_backend(&told, 7, at(10));
    let (_, record) = recorder.observe_backend(&sight(DerivedState::Ready), 8, at(20));
    let record = record.unwrap();
    assert_eq!(record.outcome, RestartOutcome::Resumed);
    assert_eq!((record.stopped, record.started), (None, None));
}

#[test]
fn first_sign_decides_the_cause() {
    let by = |actor, by_lease, probe, broke| {
        let mut told = sight(DerivedState::Draining);
        told.drains = vec![drain(actor, 10)];
        told.drains[0].by_lease = by_lease;
        (told.probe, told.broke) = (probe, broke);
        ready().observe_backend(&told, 7, at(10)).1.unwrap().cause
    };
    let refused = Some(ProbeResult::Refused);
    assert_eq!(
        by(DrainActor::Supervisor, true, None, false),
        RestartCause::Launcher
    );
    assert_eq!(
        by(DrainActor::Supervisor, false, None, false),
        RestartCause::Supervisor
    );
    assert_eq!(
        by(DrainActor::Discovery, false, None, false),
        RestartCause::Discovery
    );
    assert_eq!(
        by(DrainActor::Config, false, None, false),
        RestartCause::Config
    );
    let unavailable = Some(ProbeResult::Unavailable);
    assert_eq!(
        by(DrainActor::App, false, unavailable, true),
        RestartCause::Unavailable
    );
    assert_eq!(
        by(DrainActor::App, false, refused, false),
        RestartCause::Stopped
    );
    assert_eq!(
        by(DrainActor::App, false, refused, true),
        RestartCause::Killed
    );
    let down = ready()
        .observe_backend(&sight(DerivedState::Down), 7, at(10))
        .1
        .unwrap();
    assert_eq!(down.cause, RestartCause::ProbeFailed);
    let mut another = sight(DerivedState::Starting);
    another.incarnation = 2;
    let replaced = ready().observe_backend(&another, 7, at(10)).1.unwrap();
    assert_eq!(replaced.cause, RestartCause::Replaced);
    assert_eq!(replaced.started, Some(at(10)));
}

#[test]
fn backend_that_leaves_is_over_when_its_successor_is_ready() {
    let mut recorder = ready();
    let mut told = sight(DerivedState::Draining);
    told.drains = vec![drain(DrainActor::Supervisor, 10)];
    recorder.observe_backend(&told, 7, at(10));
    let mut record = recorder.leave(at(20)).unwrap();
    assert_eq!(
        (record.outcome, record.stopped),
        (RestartOutcome::Left, Some(at(20)))
    );
    assert!(!record.is_over());
    record.succeed(at(30), at(40));
    assert_eq!(record.outcome, RestartOutcome::Restarted);
    assert_eq!((record.started, record.ready), (Some(at(30)), Some(at(40))));
    assert_eq!(recorder.leave(at(50)), None);
}

#[test]
fn long_reasons_are_cut_between_characters() {
    let mut told = sight(DerivedState::Draining);
    told.drains = vec![drain(DrainActor::Operator, 10)];
    told.drains[0].reason = "ä".repeat(1000);
    let record = ready().observe_backend(&told, 7, at(10)).1.unwrap();
    assert_eq!(record.reason, "ä".repeat(LONGEST_REASON / 2));
}

proptest! {
    #[test]
    fn any_life_makes_records_that_are_whole_and_in_order(
        steps in prop::collection::vec((0_u8..5, any::<bool>(), 0_u8..6, any::<bool>(), 0_u8..4), 0..60),
    ) {
        let mut recorder = RestartRecorder::new(1, at(0));
        let (mut incarnation, mut number, mut open) = (1, 100, None);
        for (place, (state, is_another, probe, drained, actor)) in steps.into_iter().enumerate() {
            let now = at(place as u64 + 1);
            let states = [
                DerivedState::Ready,
                DerivedState::Draining,
                DerivedState::Drained,
                DerivedState::Down,
                DerivedState::Starting,
            ];
            let probes = [
                None,
                Some(ProbeResult::Pass),
                Some(ProbeResult::Refused),
                Some(ProbeResult::Unavailable),
                Some(ProbeResult::Timeout),
                Some(ProbeResult::Reset),
            ];
            let mut seen = sight(states[usize::from(state)]);
            incarnation += u64::from(is_another);
            (seen.incarnation, seen.probe) = (incarnation, probes[usize::from(probe)]);
            seen.announced = drained.then_some(DrainOutcome::Drained);
            if matches!(seen.state, DerivedState::Draining | DerivedState::Drained) {
                let actors = [DrainActor::App, DrainActor::Operator, DrainActor::Supervisor, DrainActor::Config];
                seen.drains = vec![drain(actors[usize::from(actor)], place as u64 + 1)];
            }
            number += 1;
            let (change, record) = recorder.observe_backend(&seen, number, now);
            match change {
                RestartChange::Begun => {
                    prop_assert_eq!(open, None);
                    open = Some(number);
                }
                RestartChange::Nothing => prop_assert_eq!(&record, &None),
                RestartChange::Grown | RestartChange::Over => {}
            }
            if let Some(record) = record {
                // A restart that is over when it is first seen has just got its number.
                prop_assert_eq!(record.number, open.unwrap_or(number));
                let instants = [record.told, record.drained, record.stopped, record.started, record.ready];
                for instant in instants.into_iter().flatten() {
                    prop_assert!(record.began <= instant && instant <= now);
                }
                prop_assert_eq!(record.ready.is_some(), change == RestartChange::Over);
                prop_assert_eq!(record.outcome == RestartOutcome::Open, change != RestartChange::Over);
            }
            if change == RestartChange::Over {
                open = None;
                prop_assert_eq!(recorder.open(), None);
            }
        }
    }
}
