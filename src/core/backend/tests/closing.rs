use super::*;

#[test]
fn a_drain_closes_at_once_and_quiesced_completes_it_once() {
    let mut rig = Rig::ready();
    rig.context.in_flight = 1;
    let effects = rig.drain(DrainActor::Operator);
    assert_eq!(
        effects[..2],
        [BackendEffect::CloseGate, BackendEffect::NewEpoch(1)]
    );
    let epoch = rig.backend.epoch();
    assert!(
        rig.on(BackendEvent::Quiesced { epoch }).is_empty(),
        "one is in flight"
    );
    rig.context.in_flight = 0;
    assert!(
        rig.on(BackendEvent::Quiesced { epoch: epoch - 1 })
            .is_empty(),
        "an older epoch"
    );
    assert!(
        rig.on(BackendEvent::Quiesced { epoch: epoch + 1 })
            .is_empty(),
        "no epoch of ours"
    );
    assert_eq!(
        announced(&rig.on(BackendEvent::Quiesced { epoch })),
        [DrainOutcome::Drained]
    );
    assert_eq!(rig.state(), DerivedState::Drained);
    assert!(rig.on(BackendEvent::Quiesced { epoch }).is_empty());
}

#[test]
fn quiesced_counts_although_a_new_process_came_meanwhile() {
    let mut rig = Rig::ready();
    rig.drain(DrainActor::Operator);
    let epoch = rig.backend.epoch();
    rig.on(BackendEvent::Replaced);
    assert_eq!(rig.backend.epoch(), epoch + 1);
    assert_eq!(
        announced(&rig.on(BackendEvent::Quiesced { epoch })),
        [DrainOutcome::Drained]
    );
}

#[test]
fn a_new_closing_for_each_first_drain_only() {
    let mut rig = Rig::ready();
    rig.drain(DrainActor::Operator);
    assert!(rig.drain(DrainActor::Supervisor).is_empty());
    assert!(rig.drain(DrainActor::Config).is_empty());
    assert_eq!(rig.backend.epoch(), 1);
    rig.on(BackendEvent::Resume { all: true });
    rig.drain(DrainActor::Operator);
    assert_eq!(rig.backend.epoch(), 2);
}

#[test]
fn no_probe_reopens_what_others_have_closed() {
    for actor in [
        DrainActor::Supervisor,
        DrainActor::Operator,
        DrainActor::Config,
    ] {
        let mut rig = Rig::ready();
        rig.drain(actor);
        rig.passes(50);
        rig.probe(ProbeResult::Unavailable);
        rig.passes(50);
        assert_eq!(rig.state(), DerivedState::Draining, "{actor:?}");
        assert_eq!(rig.backend.drains().count(), 1, "only the app's was lifted");
        assert!(!rig.backend.may_fail_open());
    }
}

#[test]
fn each_lifts_its_own() {
    let mut rig = Rig::ready();
    for actor in [
        DrainActor::Supervisor,
        DrainActor::Operator,
        DrainActor::Config,
    ] {
        rig.drain(actor);
    }
    rig.on(BackendEvent::Resume { all: false });
    rig.on(BackendEvent::LeaseEnded {
        id: "another".into(),
    });
    assert_eq!(rig.backend.drains().count(), 2);
    rig.on(BackendEvent::LeaseEnded {
        id: "deploy".into(),
    });
    assert_eq!(rig.backend.drains().count(), 1);
    let effects = rig.on(BackendEvent::Resume { all: true });
    assert_eq!(announced(&effects), [DrainOutcome::Resumed]);
    assert!(effects.contains(&BackendEffect::OpenGate));
}

#[test]
fn one_drain_can_be_taken_back_alone() {
    let mut rig = Rig::ready();
    for actor in [DrainActor::Supervisor, DrainActor::Operator] {
        rig.drain(actor);
    }
    let taken = |actor, id: &str| BackendEvent::Withdrawn {
        actor,
        id: id.into(),
    };
    rig.on(taken(DrainActor::Operator, "another"));
    assert_eq!(rig.backend.drains().count(), 2);
    rig.on(taken(DrainActor::Operator, "deploy"));
    let left: Vec<_> = rig.backend.drains().map(|(key, _)| key.0).collect();
    assert_eq!(left, [DrainActor::Supervisor]);
}

#[test]
fn a_drain_that_nobody_will_lift_expires_and_asks_for_passes() {
    let mut rig = Rig::ready();
    rig.drain(DrainActor::Operator);
    let expires = rig.now + Time::from_secs(10);
    rig.on(BackendEvent::Orphaned {
        actor: DrainActor::Operator,
        id: "deploy".into(),
        expires,
    });
    rig.passes(5);
    assert_eq!(rig.state(), DerivedState::Draining);
    rig.now = expires;
    rig.on(BackendEvent::Tick);
    rig.passes(2);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn resume_all_asks_a_process_that_says_503_for_passes() {
    let mut rig = Rig::ready();
    rig.probe(ProbeResult::Unavailable);
    assert!(rig.backend.may_fail_open());
    rig.on(BackendEvent::Resume { all: true });
    assert_eq!(rig.state(), DerivedState::Starting);
    rig.passes(2);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn resumed_after_drained_is_told_nobody_and_asks_for_fresh_passes() {
    let mut rig = Rig::ready();
    rig.drain(DrainActor::Operator);
    rig.quiesce();
    rig.passes(20);
    let before = rig.now;
    let effects = rig.on(BackendEvent::Resume { all: false });
    assert!(announced(&effects).is_empty());
    assert_eq!(effects.last(), Some(&BackendEffect::ProbeNow));
    assert_eq!(
        rig.backend.probe_interval(&rig.policy),
        rig.policy.fast_interval
    );
    rig.probe_begun(ProbeResult::Pass, before);
    rig.passes(1);
    assert_eq!(rig.state(), DerivedState::Starting, "one fresh pass of two");
    rig.passes(1);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn resumed_before_drained_opens_at_once() {
    let mut rig = Rig::ready();
    rig.context.in_flight = 1;
    rig.drain(DrainActor::Operator);
    let effects = rig.on(BackendEvent::Resume { all: false });
    assert_eq!(announced(&effects), [DrainOutcome::Resumed]);
    assert!(
        effects.contains(&BackendEffect::OpenGate) && !effects.contains(&BackendEffect::ProbeNow)
    );
}

#[test]
fn a_lease_that_ends_after_drained_asks_for_fresh_passes_too() {
    let mut rig = Rig::ready();
    rig.drain(DrainActor::Supervisor);
    rig.drain(DrainActor::Operator);
    rig.quiesce();
    rig.on(BackendEvent::LeaseEnded {
        id: "deploy".into(),
    });
    // Passes while the operator's drain is still open are too old when it is lifted.
    rig.passes(5);
    assert_eq!(rig.state(), DerivedState::Drained);
    rig.on(BackendEvent::Resume { all: false });
    assert_eq!(rig.state(), DerivedState::Starting);
    rig.passes(2);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn resume_that_lifts_nothing_asks_for_no_passes() {
    let mut rig = Rig::ready();
    rig.drain(DrainActor::Supervisor);
    rig.quiesce();
    assert!(rig.on(BackendEvent::Resume { all: false }).is_empty());
    assert_eq!(rig.backend.health(), BackendHealth::Up);
}

#[test]
fn pass_that_began_before_the_apps_drain_lifts_nothing() {
    let mut rig = Rig::ready();
    let before = rig.now;
    rig.probe(ProbeResult::Unavailable);
    for _ in 0..10 {
        rig.probe_begun(ProbeResult::Pass, before);
    }
    assert_eq!(rig.state(), DerivedState::Draining);
}

fn restarted(rig: &Rig) -> DrainSpec {
    DrainSpec {
        until: DrainUntil::Restarted(crate::core::drain::RestartSign::NewProcess),
        ..rig.order(DrainActor::Supervisor)
    }
}

#[test]
fn until_restarted_ends_when_the_new_process_has_passed() {
    let mut rig = Rig::ready();
    let order = restarted(&rig);
    rig.on(BackendEvent::Drain(order));
    rig.quiesce();
    rig.passes(50);
    assert_eq!(
        rig.state(),
        DerivedState::Drained,
        "it is still the old one"
    );
    assert_eq!(
        rig.backend.probe_interval(&rig.policy),
        rig.policy.fast_interval
    );
    for _ in 0..5 {
        rig.probe(ProbeResult::Refused);
    }
    rig.passes(1);
    assert_eq!(rig.state(), DerivedState::Drained);
    let effects = rig.probe(ProbeResult::Pass);
    assert!(effects.contains(&BackendEffect::OpenGate) && announced(&effects).is_empty());
}

#[test]
fn until_restarted_sees_a_restart_between_two_probes() {
    let mut rig = Rig::new();
    rig.listener = Some(7);
    rig.passes(2);
    let order = restarted(&rig);
    rig.on(BackendEvent::Drain(order));
    rig.passes(1);
    rig.listener = Some(8);
    rig.passes(2);
    assert_eq!(
        (rig.state(), rig.backend.incarnation()),
        (DerivedState::Ready, 2)
    );
}

#[test]
fn second_order_is_for_the_process_that_is_there_then() {
    let mut rig = Rig::ready();
    let order = restarted(&rig);
    rig.on(BackendEvent::Drain(order.clone()));
    rig.on(BackendEvent::Replaced);
    rig.on(BackendEvent::Drain(order));
    rig.passes(5);
    assert_eq!(rig.state(), DerivedState::Draining);
    rig.on(BackendEvent::Replaced);
    rig.passes(2);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn the_deadline_ends_streams_then_cuts() {
    let mut rig = Rig::ready();
    let deadline = rig.now + Time::from_secs(30);
    let order = DrainSpec {
        deadline: Some(deadline),
        ..restarted(&rig)
    };
    rig.on(BackendEvent::Drain(order));
    rig.context.in_flight = 4;
    let begin = deadline - rig.policy.close_spread;
    assert_eq!(rig.backend.next_deadline(&rig.policy), Some(begin));
    assert!(rig.tick_at(begin - TICK).is_empty());
    let ends = BackendEffect::EndStreams {
        from: begin,
        until: deadline,
        restarting: true,
    };
    assert_eq!(rig.tick_at(begin), [ends]);
    assert!(rig.tick_at(deadline - TICK).is_empty());
    let cut = [
        BackendEffect::Cut,
        BackendEffect::Announce(DrainOutcome::TimedOut { cut: 4 }),
    ];
    assert_eq!(rig.tick_at(deadline), cut);
    assert_eq!(rig.backend.next_deadline(&rig.policy), None);
    assert!(announced(&rig.quiesce()).is_empty(), "they have been told");
    assert_eq!(rig.state(), DerivedState::Drained);
}

#[test]
fn connections_that_linger_end_at_the_deadline_too() {
    let mut rig = Rig::ready();
    let deadline = rig.now + Time::from_secs(1);
    let order = DrainSpec {
        deadline: Some(deadline),
        ..rig.order(DrainActor::Operator)
    };
    // The deadline is shorter than the spread, so streams begin to end at once.
    let effects = rig.on(BackendEvent::Drain(order));
    let from = rig.now;
    assert!(effects.contains(&BackendEffect::EndStreams {
        from,
        until: deadline,
        restarting: false
    }));
    assert_eq!(
        announced(&rig.tick_at(deadline)),
        [DrainOutcome::TimedOut { cut: 0 }]
    );
    rig.quiesce();
    assert_eq!(rig.state(), DerivedState::Drained);
}

#[test]
fn the_earliest_deadline_counts_and_a_complete_drain_cuts_nothing() {
    let mut rig = Rig::ready();
    rig.context.in_flight = 1;
    for (actor, seconds) in [(DrainActor::Operator, 60), (DrainActor::Supervisor, 20)] {
        let deadline = Some(rig.now + Time::from_secs(seconds));
        let order = DrainSpec {
            deadline,
            ..rig.order(actor)
        };
        rig.on(BackendEvent::Drain(order));
    }
    let supervisors = rig
        .backend
        .drains()
        .find(|(key, _)| key.0 == DrainActor::Supervisor);
    let begin = supervisors.unwrap().1.deadline.unwrap() - rig.policy.close_spread;
    assert_eq!(rig.backend.next_deadline(&rig.policy), Some(begin));
    rig.quiesce();
    assert_eq!(rig.backend.next_deadline(&rig.policy), None);
    assert!(rig.tick_at(begin + Time::from_secs(90)).is_empty());
}

#[test]
fn a_second_order_moves_the_deadline() {
    let mut rig = Rig::ready();
    rig.context.in_flight = 1;
    let sooner = DrainSpec {
        deadline: Some(rig.now + Time::from_secs(2)),
        ..rig.order(DrainActor::Operator)
    };
    rig.on(BackendEvent::Drain(sooner.clone()));
    let later = rig.now + Time::from_secs(50);
    rig.on(BackendEvent::Drain(DrainSpec {
        deadline: Some(later),
        ..sooner
    }));
    assert_eq!(rig.backend.drains().count(), 1);
    assert!(rig.tick_at(later - Time::from_secs(6)).is_empty());
    assert_eq!(
        announced(&rig.tick_at(later)),
        [DrainOutcome::TimedOut { cut: 1 }]
    );
}

#[test]
fn order_after_a_timeout_gets_an_answer_of_its_own() {
    let mut rig = Rig::ready();
    rig.context.in_flight = 1;
    let order = DrainSpec {
        deadline: Some(rig.now),
        ..rig.order(DrainActor::Operator)
    };
    assert_eq!(
        announced(&rig.on(BackendEvent::Drain(order))),
        [DrainOutcome::TimedOut { cut: 1 }]
    );
    rig.drain(DrainActor::Supervisor);
    assert_eq!(announced(&rig.quiesce()), [DrainOutcome::Drained]);
}

#[test]
fn an_expiry_reopens_only_after_fresh_passes() {
    let mut rig = Rig::ready();
    let expires = rig.now + Time::from_secs(90);
    let order = DrainSpec {
        expires: Some(expires),
        ..rig.order(DrainActor::Operator)
    };
    rig.on(BackendEvent::Drain(order));
    rig.quiesce();
    rig.passes(20);
    assert_eq!(rig.backend.next_deadline(&rig.policy), Some(expires));
    assert_eq!(rig.tick_at(expires), [BackendEffect::ProbeNow]);
    assert_eq!(rig.backend.next_deadline(&rig.policy), None);
    rig.probe_begun(ProbeResult::Pass, expires - TICK);
    rig.passes(1);
    assert_eq!(rig.state(), DerivedState::Drained);
    rig.passes(1);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn an_expired_drain_over_a_dead_process_becomes_down_with_an_alert() {
    let mut rig = Rig::ready();
    let expires = rig.now + Time::from_secs(9);
    let order = DrainSpec {
        expires: Some(expires),
        ..rig.order(DrainActor::Supervisor)
    };
    rig.on(BackendEvent::Drain(order));
    rig.quiesce();
    rig.probe(ProbeResult::Refused);
    rig.tick_at(expires);
    assert_eq!(rig.state(), DerivedState::Drained);
    assert!(alerts(&rig.tick_at(expires + rig.policy.absent_after)));
    assert_eq!(rig.state(), DerivedState::Down);
}

#[test]
fn a_drain_survives_a_restart_of_the_proxy() {
    let mut rig = Rig::ready();
    let order = restarted(&rig);
    rig.on(BackendEvent::Drain(DrainSpec {
        deadline: Some(rig.now),
        expires: Some(rig.now * 2),
        ..order
    }));
    let drains: Vec<OpenDrain> = rig
        .backend
        .drains()
        .map(|(_, drain)| drain.clone())
        .collect();
    rig.backend = BackendState::restore(rig.now, drains.clone());
    assert_eq!(
        (rig.state(), rig.backend.incarnation()),
        (DerivedState::Drained, 1)
    );
    assert!(
        rig.tick_at(rig.now + TICK).is_empty(),
        "nothing of ours is left to cut"
    );
    assert!(rig.backend.drains().map(|(_, drain)| drain).eq(&drains));
    rig.passes(5);
    assert_eq!(rig.state(), DerivedState::Drained);
    rig.probe(ProbeResult::Refused);
    rig.passes(2);
    assert_eq!(rig.state(), DerivedState::Ready);
    assert_eq!(
        BackendState::restore(rig.now, []).state(),
        DerivedState::Starting
    );
}

#[test]
fn a_drain_waits_for_requests_that_fail_open_has_sent() {
    let mut rig = Rig::ready();
    rig.probe(ProbeResult::Unavailable);
    rig.quiesce();
    assert_eq!(rig.state(), DerivedState::Drained);
    rig.context.in_flight = 1;
    let effects = rig.drain(DrainActor::Operator);
    assert_eq!(
        effects[..2],
        [BackendEffect::CloseGate, BackendEffect::NewEpoch(2)]
    );
    assert_eq!(rig.state(), DerivedState::Draining);
    assert_eq!(announced(&rig.quiesce()), [DrainOutcome::Drained]);
}

#[test]
fn a_drain_while_starting_or_down_closes_too() {
    let mut rig = Rig::new();
    assert_eq!(
        rig.drain(DrainActor::Operator)[..2],
        [BackendEffect::CloseGate, BackendEffect::NewEpoch(1)]
    );
    rig.passes(2);
    rig.on(BackendEvent::Resume { all: false });
    assert_eq!(
        rig.state(),
        DerivedState::Ready,
        "it has passed its probes meanwhile"
    );
}
