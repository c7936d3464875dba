use super::*;

#[test]
fn a_closed_connection_asks_for_a_probe_and_proves_nothing() {
    let mut rig = Rig::ready();
    assert_eq!(rig.on(BackendEvent::PeerClosed), [BackendEffect::ProbeNow]);
    rig.passes(1);
    // The hint is used up: a later refusal counts like any other failure.
    rig.probe(ProbeResult::Refused);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn closed_then_refused_is_stopping() {
    let mut rig = Rig::ready();
    rig.on(BackendEvent::PeerClosed);
    let effects = rig.probe(ProbeResult::Refused);
    assert_eq!(
        effects[..2],
        [BackendEffect::CloseGate, BackendEffect::NewEpoch(1)]
    );
    assert!(!alerts(&effects));
    assert_eq!(rig.state(), DerivedState::Draining);
    // Its absence is reported only after `absent_after`.
    for _ in 0..10 {
        assert!(rig.probe(ProbeResult::Refused).is_empty());
    }
    // It is back in time: another incarnation, and no alert.
    rig.passes(2);
    assert_eq!(
        (rig.state(), rig.backend.incarnation()),
        (DerivedState::Ready, 2)
    );
}

/// Some servers continue to accept connections until all requests are done, and close new ones.
#[test]
fn closed_then_reset_is_stopping_too() {
    let mut rig = Rig::ready();
    rig.on(BackendEvent::PeerClosed);
    assert!(!alerts(&rig.probe(ProbeResult::Reset)));
    assert_eq!(rig.state(), DerivedState::Draining);
    // It was temporary: back after `rise` passes, with the same process.
    rig.passes(2);
    assert_eq!(
        (rig.state(), rig.backend.incarnation()),
        (DerivedState::Ready, 1)
    );
    // Without a closed connection before it, a reset counts like any other failure.
    rig.probe(ProbeResult::Reset);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn an_old_pass_doesnt_clear_the_hint() {
    let mut rig = Rig::ready();
    let before = rig.now;
    rig.on(BackendEvent::PeerClosed);
    rig.probe_begun(ProbeResult::Pass, before);
    rig.probe(ProbeResult::Refused);
    assert_eq!(rig.state(), DerivedState::Draining);
}

#[test]
fn stopped_backend_that_stays_away_is_down_with_an_alert() {
    let mut rig = Rig::ready();
    rig.on(BackendEvent::PeerClosed);
    rig.probe(ProbeResult::Refused);
    let since = rig.now;
    rig.quiesce();
    rig.probe(ProbeResult::Refused);
    assert!(!alerts(
        &rig.tick_at(since + rig.policy.absent_after - TICK)
    ));
    let effects = rig.tick_at(since + rig.policy.absent_after);
    assert!(alerts(&effects), "{effects:?}");
    assert_eq!(
        (rig.state(), rig.backend.drains().count()),
        (DerivedState::Down, 0)
    );
}

#[test]
fn absence_counts_from_the_stop_not_from_earlier_failures() {
    let mut rig = Rig::ready();
    rig.context.irreplaceable = true;
    rig.probe(ProbeResult::Timeout);
    rig.now += Time::from_secs(60);
    rig.on(BackendEvent::PeerClosed);
    assert!(!alerts(&rig.probe(ProbeResult::Refused)));
    assert_eq!(rig.state(), DerivedState::Draining);
}

#[test]
fn a_503_before_the_end_makes_no_difference_to_absence() {
    let mut rig = Rig::ready();
    rig.probe(ProbeResult::Unavailable);
    rig.now += Time::from_secs(600);
    rig.probe(ProbeResult::Unavailable);
    rig.quiesce();
    rig.probe(ProbeResult::Refused);
    let since = rig.now;
    assert_eq!(rig.state(), DerivedState::Drained);
    assert!(alerts(&rig.tick_at(since + rig.policy.absent_after)));
    assert_eq!(rig.state(), DerivedState::Down);
}

#[test]
fn planned_absence_raises_no_alert() {
    let mut rig = Rig::ready();
    rig.drain(DrainActor::Supervisor);
    rig.quiesce();
    for _ in 0..100 {
        rig.now += Time::from_secs(1);
        assert!(!alerts(&rig.probe(ProbeResult::Refused)));
    }
    assert_eq!(
        (rig.state(), rig.backend.health()),
        (DerivedState::Drained, BackendHealth::Down)
    );
    let effects = rig.on(BackendEvent::LeaseEnded {
        id: "deploy".into(),
    });
    assert!(!alerts(&effects));
    assert_eq!(rig.state(), DerivedState::Down);
}

#[test]
fn a_stopping_process_that_finishes_its_work_has_drained() {
    let mut rig = Rig::ready();
    rig.context.in_flight = 3;
    rig.on(BackendEvent::PeerClosed);
    rig.probe(ProbeResult::Refused);
    assert_eq!(announced(&rig.quiesce()), [DrainOutcome::Drained]);
}

#[test]
fn requests_that_broke_and_a_refusal_mean_that_it_died() {
    let mut rig = Rig::ready();
    rig.drain(DrainActor::Supervisor);
    rig.context.in_flight = 3;
    rig.on(BackendEvent::Lost { requests: 2 });
    rig.on(BackendEvent::Lost { requests: 1 });
    // Quiet, but the cause is not known yet: the drain is answered only after a probe.
    assert_eq!(rig.quiesce(), [BackendEffect::ProbeNow]);
    assert_eq!(rig.state(), DerivedState::Draining);
    let effects = rig.probe(ProbeResult::Refused);
    assert_eq!(announced(&effects), [DrainOutcome::Died { lost: 3 }]);
    assert!(alerts(&effects), "nobody planned that");
    assert_eq!(rig.state(), DerivedState::Drained);
}

#[test]
fn a_refusal_before_the_last_request_broke_counts_too() {
    let mut rig = Rig::ready();
    rig.context.in_flight = 1;
    rig.on(BackendEvent::Lost { requests: 1 });
    rig.on(BackendEvent::PeerClosed);
    rig.probe(ProbeResult::Refused);
    assert_eq!(announced(&rig.quiesce()), [DrainOutcome::Died { lost: 1 }]);
}

#[test]
fn a_successor_proves_that_it_died_too() {
    let mut rig = Rig::new();
    rig.listener = Some(1);
    rig.passes(2);
    rig.drain(DrainActor::Supervisor);
    rig.on(BackendEvent::Lost { requests: 1 });
    rig.quiesce();
    rig.listener = Some(2);
    assert_eq!(
        announced(&rig.probe(ProbeResult::Pass)),
        [DrainOutcome::Died { lost: 1 }]
    );
}

#[test]
fn lost_request_on_a_living_process_is_no_death() {
    let mut rig = Rig::ready();
    rig.drain(DrainActor::Operator);
    let before = rig.now;
    rig.on(BackendEvent::Lost { requests: 1 });
    rig.quiesce();
    assert!(
        announced(&rig.probe_begun(ProbeResult::Pass, before)).is_empty(),
        "too old to tell"
    );
    assert_eq!(
        announced(&rig.probe(ProbeResult::Pass)),
        [DrainOutcome::Drained]
    );
}

#[test]
fn waiting_request_is_answered_even_if_no_probe_decides() {
    let mut rig = Rig::ready();
    let deadline = rig.now + Time::from_secs(10);
    let order = DrainSpec {
        deadline: Some(deadline),
        ..rig.order(DrainActor::Operator)
    };
    rig.on(BackendEvent::Drain(order));
    rig.on(BackendEvent::Lost { requests: 1 });
    rig.quiesce();
    let effects = rig.tick_at(deadline);
    assert_eq!(announced(&effects), [DrainOutcome::TimedOut { cut: 0 }]);
    assert_eq!(rig.state(), DerivedState::Draining);
    assert!(announced(&rig.probe(ProbeResult::Pass)).is_empty());
    assert_eq!(rig.state(), DerivedState::Drained);
}

#[test]
fn losses_before_a_sign_of_life_are_forgotten() {
    let mut rig = Rig::ready();
    rig.on(BackendEvent::Lost { requests: 5 });
    rig.passes(1);
    rig.drain(DrainActor::Operator);
    assert_eq!(announced(&rig.quiesce()), [DrainOutcome::Drained]);
}
