use super::*;

#[test]
fn backend_starts_closed_and_opens_at_its_first_rise() {
    let mut rig = Rig::new();
    assert_eq!(
        (rig.state(), rig.backend.epoch(), rig.backend.incarnation()),
        (DerivedState::Starting, 0, 1)
    );
    assert!(rig.probe(ProbeResult::Pass).is_empty());
    let effects = rig.probe(ProbeResult::Pass);
    assert!(matches!(
        effects.as_slice(),
        [
            BackendEffect::Changed {
                from: DerivedState::Starting,
                to: DerivedState::Ready,
                alert: false,
                ..
            },
            BackendEffect::OpenGate
        ]
    ));
}

#[test]
fn passes_count_only_in_a_row() {
    let mut rig = Rig::new();
    for other in [
        ProbeResult::Unavailable,
        ProbeResult::Status(500),
        ProbeResult::Reset,
        ProbeResult::Timeout,
    ] {
        rig.passes(1);
        rig.probe(other);
        assert_eq!(rig.state(), DerivedState::Starting, "{other:?}");
    }
    rig.passes(1);
    assert_eq!(rig.state(), DerivedState::Starting);
    rig.passes(1);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn status_503_while_starting_is_no_failure() {
    let mut rig = Rig::new();
    for _ in 0..1000 {
        assert!(rig.probe(ProbeResult::Unavailable).is_empty());
        rig.now += Time::from_secs(1);
    }
    assert_eq!(
        (rig.state(), rig.backend.drains().count()),
        (DerivedState::Starting, 0)
    );
}

#[test]
fn a_503_drains_at_once_without_alert_or_deadline() {
    let mut rig = Rig::ready();
    rig.context.in_flight = 3;
    let effects = rig.probe(ProbeResult::Unavailable);
    assert_eq!(
        effects[..2],
        [BackendEffect::CloseGate, BackendEffect::NewEpoch(1)]
    );
    assert!(matches!(
        effects[2],
        BackendEffect::Changed {
            from: DerivedState::Ready,
            to: DerivedState::Draining,
            alert: false,
            ..
        }
    ));
    assert_eq!(effects.len(), 3);
    let drains: Vec<_> = rig.backend.drains().collect();
    assert_eq!(
        (drains[0].1.actor, drains[0].1.deadline),
        (DrainActor::App, None)
    );
    assert_eq!(rig.backend.next_deadline(&rig.policy), None);
}

#[test]
fn a_503_lasts_as_long_as_it_is_said_and_rise_passes_lift_it() {
    let mut rig = Rig::ready();
    for _ in 0..100 {
        rig.probe(ProbeResult::Unavailable);
        rig.now += Time::from_secs(1);
    }
    assert_eq!(rig.backend.drains().count(), 1);
    rig.quiesce();
    assert_eq!(rig.state(), DerivedState::Drained);
    rig.passes(1);
    rig.probe(ProbeResult::Unavailable);
    rig.passes(1);
    assert_eq!(rig.state(), DerivedState::Drained);
    assert!(
        rig.probe(ProbeResult::Pass)
            .contains(&BackendEffect::OpenGate)
    );
}

#[test]
fn cut_on_503_sets_the_deadline_of_the_pool() {
    let mut rig = Rig::ready();
    rig.policy.cut_on_503 = true;
    rig.context.in_flight = 2;
    rig.probe(ProbeResult::Unavailable);
    let said = rig.now;
    // The same answer again does not move the deadline.
    rig.probe(ProbeResult::Unavailable);
    let deadline = said + rig.policy.drain_deadline;
    assert_eq!(
        rig.backend.next_deadline(&rig.policy),
        Some(deadline - rig.policy.close_spread)
    );
    assert_eq!(
        announced(&rig.tick_at(deadline)),
        [DrainOutcome::TimedOut { cut: 2 }]
    );
}

#[test]
fn failures_in_a_row_make_it_down_with_an_alert() {
    let mut rig = Rig::ready();
    rig.probe(ProbeResult::Reset);
    rig.probe(ProbeResult::Status(500));
    assert_eq!(rig.state(), DerivedState::Ready);
    let effects = rig.probe(ProbeResult::Reset);
    assert_eq!(
        effects[..2],
        [BackendEffect::CloseGate, BackendEffect::NewEpoch(1)]
    );
    assert!(alerts(&effects));
    assert_eq!(
        (rig.state(), rig.backend.may_fail_open()),
        (DerivedState::Down, true)
    );
    rig.passes(1);
    assert_eq!(rig.state(), DerivedState::Down, "back up needs rise");
    rig.passes(1);
    assert_eq!(
        (rig.state(), rig.backend.incarnation()),
        (DerivedState::Ready, 1)
    );
}

#[test]
fn a_failure_that_is_not_repeated_is_forgotten() {
    let mut rig = Rig::ready();
    for _ in 0..20 {
        rig.probe(ProbeResult::Status(500));
        rig.probe(ProbeResult::Reset);
        rig.passes(1);
        assert_eq!(rig.state(), DerivedState::Ready);
    }
}

#[test]
fn timeouts_are_counted_apart() {
    let mut rig = Rig::ready();
    for n in 1..5 {
        rig.probe(ProbeResult::Timeout);
        assert_eq!(rig.state(), DerivedState::Ready, "{n}");
    }
    rig.probe(ProbeResult::Status(500));
    assert_eq!(rig.state(), DerivedState::Ready);
    assert!(alerts(&rig.probe(ProbeResult::Timeout)));
    assert_eq!(rig.state(), DerivedState::Down);
}

#[test]
fn timeouts_spare_an_irreplaceable_backend_but_failures_do_not() {
    let mut rig = Rig::ready();
    rig.context.irreplaceable = true;
    for _ in 0..100 {
        rig.probe(ProbeResult::Timeout);
    }
    assert_eq!(rig.state(), DerivedState::Ready);
    for _ in 0..3 {
        rig.probe(ProbeResult::Refused);
    }
    assert_eq!(rig.state(), DerivedState::Down);
}

#[test]
fn probes_are_fast_in_transition_only() {
    let mut rig = Rig::new();
    let policy = BackendPolicy::default();
    let fast = |rig: &Rig| rig.backend.probe_interval(&policy) == policy.fast_interval;
    assert!(fast(&rig), "starting");
    rig.passes(2);
    assert!(!fast(&rig), "ready");
    rig.probe(ProbeResult::Timeout);
    assert!(
        !fast(&rig),
        "slow is not dead, and fast probes would make it slower"
    );
    rig.probe(ProbeResult::Reset);
    assert!(fast(&rig), "after a first failure");
    rig.passes(1);
    assert!(!fast(&rig), "ready again");
    assert_eq!(rig.on(BackendEvent::Hint), [BackendEffect::ProbeNow]);
    assert!(fast(&rig), "after a hint");
    rig.passes(1);
    assert!(!fast(&rig), "the hint was looked into");
    for _ in 0..3 {
        rig.probe(ProbeResult::Reset);
    }
    assert!(!fast(&rig), "down");
    rig.passes(1);
    assert!(fast(&rig), "on its way up");
}

#[test]
fn refused_and_later_accepted_is_another_process() {
    let mut rig = Rig::ready();
    rig.probe(ProbeResult::Refused);
    let effects = rig.probe(ProbeResult::Pass);
    assert_eq!(
        effects[..2],
        [BackendEffect::CloseGate, BackendEffect::NewEpoch(1)]
    );
    assert_eq!(
        (rig.state(), rig.backend.incarnation()),
        (DerivedState::Starting, 2)
    );
    rig.passes(1);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn the_first_process_to_answer_is_the_first_incarnation() {
    let mut rig = Rig::new();
    rig.probe(ProbeResult::Refused);
    rig.probe(ProbeResult::Refused);
    rig.passes(2);
    assert_eq!(
        (rig.state(), rig.backend.incarnation()),
        (DerivedState::Ready, 1)
    );
}

#[test]
fn another_listening_socket_is_another_process() {
    let mut rig = Rig::new();
    rig.listener = Some(41);
    rig.passes(2);
    rig.listener = None;
    rig.passes(1);
    assert_eq!(rig.backend.incarnation(), 1, "unknown is not another");
    rig.listener = Some(42);
    let effects = rig.probe(ProbeResult::Pass);
    assert_eq!(
        effects[..2],
        [BackendEffect::CloseGate, BackendEffect::NewEpoch(1)]
    );
    assert_eq!(
        (rig.state(), rig.backend.incarnation()),
        (DerivedState::Starting, 2)
    );
    rig.passes(1);
    assert_eq!(
        rig.state(),
        DerivedState::Ready,
        "the probe that showed it counts"
    );
}

#[test]
fn replaced_asks_for_fresh_passes() {
    let mut rig = Rig::ready();
    let old = rig.now;
    let effects = rig.on(BackendEvent::Replaced);
    assert_eq!(
        effects[..2],
        [BackendEffect::CloseGate, BackendEffect::NewEpoch(1)]
    );
    assert_eq!(effects.last(), Some(&BackendEffect::ProbeNow));
    for _ in 0..5 {
        rig.probe_begun(ProbeResult::Pass, old);
    }
    assert_eq!(
        rig.state(),
        DerivedState::Starting,
        "the old address passed, not this one"
    );
    rig.passes(2);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn backend_that_never_comes_up_is_down_after_absent_after() {
    let mut rig = Rig::new();
    rig.probe(ProbeResult::Refused);
    let since = rig.now;
    let deadline = since + rig.policy.absent_after;
    assert_eq!(rig.backend.next_deadline(&rig.policy), Some(deadline));
    assert!(alerts(&rig.tick_at(deadline)));
    assert_eq!(rig.state(), DerivedState::Down);
    assert_eq!(rig.backend.next_deadline(&rig.policy), None);
}
