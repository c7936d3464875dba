//! `on_drain = "finish"`: which requests may still enter, and until when.

use super::*;

/// Returns a backend with sessions, whose drains finish them.
fn with_sessions(sessions: u32) -> Rig {
    let mut rig = Rig::ready();
    rig.policy.finishes_sessions = true;
    rig.context.sessions = sessions;
    rig
}

fn drain_for(rig: &mut Rig, seconds: u64) -> Vec<BackendEffect> {
    let order = DrainSpec {
        deadline: Some(rig.now + Time::from_secs(seconds)),
        ..rig.order(DrainActor::Operator)
    };
    rig.on(BackendEvent::Drain(order))
}

#[test]
fn drain_that_finishes_sessions_closes_the_gate_to_new_ones_only() {
    let mut rig = with_sessions(2);
    let effects = drain_for(&mut rig, 30);
    assert_eq!(effects[0], BackendEffect::CloseGateToNew);
    assert!(rig.backend.hands_over());
    assert_eq!(rig.state(), DerivedState::Draining);
    // Between two requests of a session nothing is in flight, and the drain is not over.
    assert_eq!(rig.quiesce(), []);
    assert_eq!(rig.state(), DerivedState::Draining);
}

#[test]
fn drain_of_a_backend_without_sessions_closes_the_gate_to_all() {
    let mut rig = with_sessions(0);
    let effects = drain_for(&mut rig, 30);
    assert_eq!(effects[0], BackendEffect::CloseGate);
    assert!(!rig.backend.hands_over());
    assert_eq!(announced(&rig.quiesce()), [DrainOutcome::Drained]);
}

#[test]
fn hand_over_ends_with_the_last_session() {
    let mut rig = with_sessions(1);
    drain_for(&mut rig, 30);
    let next = rig.backend.next_deadline(&rig.policy).unwrap();
    assert_eq!(next, rig.now + Time::from_secs(1));
    assert_eq!(rig.tick_at(next), []);
    rig.context.sessions = 0;
    let next = rig.backend.next_deadline(&rig.policy).unwrap();
    assert_eq!(rig.tick_at(next), [BackendEffect::CloseGate]);
    assert_eq!(announced(&rig.quiesce()), [DrainOutcome::Drained]);
}

#[test]
fn hand_over_ends_early_enough_for_requests_to_finish_before_the_deadline() {
    let mut rig = with_sessions(1);
    drain_for(&mut rig, 30);
    let deadline = rig.now + Time::from_secs(30) - TICK;
    let spread = rig.policy.close_spread;
    assert!(rig.tick_at(deadline - spread - TICK).is_empty());
    let effects = rig.tick_at(deadline - spread);
    assert_eq!(effects[0], BackendEffect::CloseGate);
    assert!(
        matches!(effects[1], BackendEffect::EndStreams { .. }),
        "{effects:?}"
    );
    assert!(!rig.backend.hands_over());
}

/// In a short drain, streams are asked to end from its beginning; streams of sessions that came afterwards are asked,
/// too.
#[test]
fn streams_that_came_during_the_hand_over_are_asked_to_end() {
    let mut rig = with_sessions(1);
    let ends = |effects: &[BackendEffect]| {
        let is_end = |effect: &&BackendEffect| matches!(effect, BackendEffect::EndStreams { .. });
        effects.iter().filter(is_end).count()
    };
    let effects = drain_for(&mut rig, 4);
    assert_eq!(
        (effects[0].clone(), ends(&effects)),
        (BackendEffect::CloseGateToNew, 1)
    );
    let effects = rig.tick_at(rig.now + Time::from_secs(2));
    assert_eq!(
        (effects[0].clone(), ends(&effects)),
        (BackendEffect::CloseGate, 1)
    );
}

#[test]
fn process_that_says_that_it_stops_gets_no_sessions() {
    let mut rig = with_sessions(3);
    drain_for(&mut rig, 30);
    let effects = rig.probe(ProbeResult::Unavailable);
    assert_eq!(effects[0], BackendEffect::CloseGate, "{effects:?}");
    assert!(!rig.backend.hands_over());

    let mut rig = with_sessions(3);
    let effects = rig.probe(ProbeResult::Unavailable);
    assert_eq!(
        effects[0],
        BackendEffect::CloseGate,
        "its own drain hands nothing over"
    );
}

#[test]
fn process_that_fails_its_probes_or_is_another_one_gets_no_sessions() {
    let mut rig = with_sessions(3);
    drain_for(&mut rig, 30);
    for _ in 0..rig.policy.fall {
        rig.probe(ProbeResult::Status(500));
    }
    assert!(!rig.backend.hands_over());

    let mut rig = with_sessions(3);
    drain_for(&mut rig, 30);
    let effects = rig.on(BackendEvent::Replaced);
    assert_eq!(effects[0], BackendEffect::CloseGate);

    let mut rig = with_sessions(3);
    drain_for(&mut rig, 30);
    rig.on(BackendEvent::Ended {
        actor: DrainActor::Operator,
        id: "deploy".into(),
    });
    assert!(!rig.backend.hands_over());
}

#[test]
fn second_order_with_less_time_ends_the_hand_over_sooner() {
    let mut rig = with_sessions(3);
    drain_for(&mut rig, 300);
    drain_for(&mut rig, 0);
    assert!(!rig.backend.hands_over());
    // A longer deadline doesn't begin the hand-over again.
    drain_for(&mut rig, 300);
    assert!(!rig.backend.hands_over());
}

#[test]
fn lifted_drain_opens_the_gate_to_all_again() {
    let mut rig = with_sessions(3);
    drain_for(&mut rig, 30);
    let effects = rig.on(BackendEvent::Resume { all: false });
    assert_eq!(rig.state(), DerivedState::Ready);
    assert!(effects.contains(&BackendEffect::OpenGate), "{effects:?}");
    let closes = effects
        .iter()
        .position(|effect| *effect == BackendEffect::CloseGate);
    let opens = effects
        .iter()
        .position(|effect| *effect == BackendEffect::OpenGate);
    assert!(closes < opens, "it ends open: {effects:?}");
}
