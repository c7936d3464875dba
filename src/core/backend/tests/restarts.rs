//! Drains that end with a restart, for each sign of one.

use super::*;
use crate::core::drain::{RestartSign, UNSEEN_AFTER};

fn until(rig: &Rig, sign: RestartSign) -> DrainSpec {
    DrainSpec {
        until: DrainUntil::Restarted(sign),
        ..rig.order(DrainActor::Supervisor)
    }
}

/// Returns a backend that is drained until a restart with this sign.
fn drained(sign: RestartSign) -> Rig {
    let mut rig = Rig::ready();
    let order = until(&rig, sign);
    rig.on(BackendEvent::Drain(order));
    rig.quiesce();
    assert_eq!(rig.state(), DerivedState::Drained);
    rig
}

/// Advances the time by the period within which a restart should be seen.
fn wait(rig: &mut Rig) {
    rig.now += UNSEEN_AFTER;
}

fn told(effects: &[BackendEffect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, BackendEffect::Unseen { id, .. } if id == "deploy"))
}

fn ended(rig: &mut Rig) -> Vec<BackendEffect> {
    rig.on(BackendEvent::Ended {
        actor: DrainActor::Supervisor,
        id: "deploy".into(),
    })
}

#[test]
fn unseen_restart_is_reported_once_after_some_time() {
    for sign in [RestartSign::NewProcess, RestartSign::Exit] {
        let mut rig = drained(sign);
        for _ in 0..100 {
            assert!(!told(&rig.probe(ProbeResult::Pass)));
        }
        wait(&mut rig);
        assert!(!told(&rig.probe(ProbeResult::Timeout)), "nobody answers");
        assert!(told(&rig.probe(ProbeResult::Pass)), "{sign:?}");
        assert!(!told(&rig.probe(ProbeResult::Pass)));
        let unseen = rig.backend.drains().all(|(_, drain)| drain.unseen);
        assert!(unseen && rig.state() == DerivedState::Drained);
        // Another order is for the process that is there then, and its time begins anew.
        let again = until(&rig, sign);
        rig.on(BackendEvent::Drain(again));
        assert!(!told(&rig.probe(ProbeResult::Pass)));
        wait(&mut rig);
        assert!(told(&rig.probe(ProbeResult::Pass)));
    }
}

#[test]
fn while_requests_are_in_flight_no_restart_is_missed() {
    let mut rig = Rig::ready();
    rig.context.in_flight = 1;
    let order = until(&rig, RestartSign::Probe);
    rig.on(BackendEvent::Drain(order));
    wait(&mut rig);
    rig.probe(ProbeResult::Timeout);
    assert!(!told(&rig.probe(ProbeResult::Pass)));
    rig.passes(5);
    assert_eq!(rig.state(), DerivedState::Draining);
}

#[test]
fn drain_that_is_lifted_manually_is_never_reported_as_unseen() {
    let mut rig = Rig::ready();
    rig.drain(DrainActor::Operator);
    rig.quiesce();
    wait(&mut rig);
    assert!(!told(&rig.probe(ProbeResult::Pass)));
}

#[test]
fn by_probe_it_ends_with_passes_behind_a_gap() {
    for gap in [
        ProbeResult::Timeout,
        ProbeResult::Unavailable,
        ProbeResult::Status(500),
    ] {
        let mut rig = drained(RestartSign::Probe);
        rig.passes(10);
        assert_eq!(rig.state(), DerivedState::Drained, "the old one's");
        rig.probe(gap);
        rig.passes(1);
        assert_eq!(rig.state(), DerivedState::Drained, "one is no row");
        rig.passes(1);
        assert_eq!(
            (rig.state(), rig.backend.incarnation()),
            (DerivedState::Ready, 2)
        );
    }
}

#[test]
fn by_probe_a_gap_from_before_it_was_quiet_says_nothing() {
    let mut rig = Rig::ready();
    rig.probe(ProbeResult::Timeout);
    let order = until(&rig, RestartSign::Probe);
    rig.on(BackendEvent::Drain(order));
    rig.probe(ProbeResult::Timeout);
    rig.quiesce();
    rig.passes(10);
    assert_eq!(rig.state(), DerivedState::Drained);
}

#[test]
fn by_probe_it_ends_without_a_gap_when_its_time_has_passed() {
    let mut rig = drained(RestartSign::Probe);
    wait(&mut rig);
    let effects = rig.probe(ProbeResult::Pass);
    assert!(!told(&effects));
    assert_eq!(rig.state(), DerivedState::Drained);
    rig.passes(1);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn by_exit_it_ends_with_fresh_passes_after_the_end_and_not_before() {
    let mut rig = drained(RestartSign::Exit);
    rig.probe(ProbeResult::Timeout);
    rig.passes(10);
    assert_eq!(rig.state(), DerivedState::Drained, "a gap is no exit");
    let before = rig.now;
    assert!(ended(&mut rig).contains(&BackendEffect::ProbeNow));
    rig.probe_begun(ProbeResult::Pass, before);
    rig.probe_begun(ProbeResult::Pass, before);
    assert_eq!(rig.state(), DerivedState::Drained, "begun before");
    rig.passes(2);
    assert_eq!(
        (rig.state(), rig.backend.incarnation()),
        (DerivedState::Ready, 2)
    );
}

#[test]
fn by_exit_the_end_of_another_drain_s_processes_says_nothing() {
    let mut rig = drained(RestartSign::NewProcess);
    ended(&mut rig);
    rig.passes(10);
    assert_eq!(rig.state(), DerivedState::Drained);
}

#[test]
fn operators_drain_stays_whatever_sign_a_restart_shows() {
    let mut rig = drained(RestartSign::Probe);
    rig.drain(DrainActor::Operator);
    wait(&mut rig);
    rig.passes(5);
    assert_eq!(rig.backend.drains().count(), 1);
    assert_eq!(rig.state(), DerivedState::Drained);
}
