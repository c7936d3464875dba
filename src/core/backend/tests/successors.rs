//! Drains that end because the actor that ordered them reports that another process runs.

use super::*;

fn runs_again(rig: &mut Rig) -> Vec<BackendEffect> {
    rig.on(BackendEvent::RunsAgain {
        actor: DrainActor::Supervisor,
        id: "deploy".into(),
    })
}

#[test]
fn word_of_a_new_process_is_a_new_incarnation_and_its_probes_open_it() {
    let mut rig = Rig::ready();
    rig.drain(DrainActor::Supervisor);
    rig.quiesce();
    let effects = runs_again(&mut rig);
    assert_eq!(rig.backend.incarnation(), 2);
    assert_eq!(rig.state(), DerivedState::Starting);
    assert!(effects.contains(&BackendEffect::ProbeNow), "{effects:?}");
    rig.passes(2);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn word_of_a_new_process_that_probes_have_seen_already_counts_no_other_one() {
    let mut rig = Rig::new();
    rig.listener = Some(1);
    rig.passes(2);
    rig.drain(DrainActor::Supervisor);
    rig.quiesce();
    rig.listener = Some(2);
    rig.probe(ProbeResult::Pass);
    assert_eq!(rig.backend.incarnation(), 2);
    runs_again(&mut rig);
    assert_eq!(rig.backend.incarnation(), 2);
    rig.passes(2);
    assert_eq!(rig.state(), DerivedState::Ready);
}

#[test]
fn word_of_a_new_process_lifts_nobody_elses_drain_and_opens_none_without_its_own() {
    let mut rig = Rig::ready();
    assert!(runs_again(&mut rig).is_empty());
    assert_eq!(
        (rig.state(), rig.backend.incarnation()),
        (DerivedState::Ready, 1)
    );
    rig.drain(DrainActor::Operator);
    runs_again(&mut rig);
    assert_eq!(rig.state(), DerivedState::Draining);
}
