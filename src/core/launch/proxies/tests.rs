//! One test for each rule of several proxies.

use super::*;

fn proxies(count: usize) -> LaunchProxies {
    LaunchProxies::new((0..count).map(|n| format!("p{n}")))
}

/// Returns this number of proxies, all holding the lease and ready.
fn held(count: usize) -> LaunchProxies {
    let mut all = proxies(count);
    for n in 0..count {
        all.step(n, ProxyEvent::Registered);
        all.step(n, ProxyEvent::Ready(true));
    }
    all
}

/// The connection is closed, and the next attempt to get the lease fails.
fn lost(proxies: &mut LaunchProxies, number: usize) -> Vec<ProxyOutcome> {
    assert_eq!(told(&proxies.step(number, ProxyEvent::LeaseLost)), []);
    proxies.step(number, ProxyEvent::Unreachable)
}

fn told(outcomes: &[ProxyOutcome]) -> Vec<LaunchEvent> {
    let told = outcomes.iter().filter_map(|outcome| match outcome {
        ProxyOutcome::Tell(event) => Some(event.clone()),
        _ => None,
    });
    told.collect()
}

fn said(outcomes: &[ProxyOutcome], name: &str) -> bool {
    let of =
        |outcome: &ProxyOutcome| matches!(outcome, ProxyOutcome::Say(text) if text.contains(name));
    outcomes.iter().any(of)
}

#[test]
fn events_of_a_single_proxy_are_passed_on_unchanged() {
    let mut one = proxies(1);
    assert_eq!(
        told(&one.step(0, ProxyEvent::Registered)),
        [LaunchEvent::Registered]
    );
    assert_eq!(
        told(&one.step(0, ProxyEvent::Ready(true))),
        [LaunchEvent::Ready(true)]
    );
    assert_eq!(one.begin_drain(), (vec![0], vec![]));
    let refused = one.step(0, ProxyEvent::DrainRefused("why".into()));
    assert_eq!(
        refused,
        [ProxyOutcome::Tell(LaunchEvent::DrainRefused("why".into()))]
    );
    assert_eq!(
        lost(&mut one, 0),
        [ProxyOutcome::Tell(LaunchEvent::LeaseLost)]
    );
    let mut one = held(1);
    one.begin_drain();
    let cut = DrainOutcome::TimedOut { cut: 2 };
    assert_eq!(
        told(&one.step(0, ProxyEvent::Drained(cut))),
        [LaunchEvent::Drained(cut)]
    );
}

#[test]
fn end_of_somebody_else_s_drain_is_no_answer_to_ours() {
    let mut one = held(1);
    assert_eq!(
        told(&one.step(0, ProxyEvent::Drained(DrainOutcome::Drained))),
        []
    );
    assert_eq!(one.begin_drain(), (vec![0], vec![]));
    let ended = told(&one.step(0, ProxyEvent::Drained(DrainOutcome::Drained)));
    assert_eq!(ended, [LaunchEvent::Drained(DrainOutcome::Drained)]);
}

#[test]
fn instance_is_ready_when_all_say_so_that_can_be_reached() {
    let mut two = proxies(2);
    two.step(0, ProxyEvent::Registered);
    let first = two.step(0, ProxyEvent::Ready(true));
    assert_eq!(
        told(&first),
        [LaunchEvent::Ready(false)],
        "the other may be about to answer"
    );
    let away = two.step(1, ProxyEvent::Unreachable);
    assert_eq!(told(&away), [LaunchEvent::Ready(true)]);
}

#[test]
fn drain_is_over_when_all_have_ended_it_and_counts_what_each_has_cut() {
    let mut two = held(2);
    assert_eq!(two.begin_drain().0, [0, 1]);
    let first = two.step(0, ProxyEvent::Drained(DrainOutcome::TimedOut { cut: 1 }));
    assert_eq!(told(&first), []);
    let second = two.step(1, ProxyEvent::Drained(DrainOutcome::TimedOut { cut: 2 }));
    let whole = DrainOutcome::TimedOut { cut: 3 };
    assert_eq!(told(&second), [LaunchEvent::Drained(whole)]);
}

#[test]
fn unreachable_proxy_is_named_and_not_waited_for() {
    let gone = |proxies: &mut LaunchProxies, is_refused: bool| match is_refused {
        true => proxies.step(1, ProxyEvent::DrainRefused("no answer".into())),
        false => lost(proxies, 1),
    };
    for is_refused in [false, true] {
        // Before the other has ended, and after it.
        let mut two = held(2);
        two.begin_drain();
        let lost = gone(&mut two, is_refused);
        assert!(said(&lost, "p1") && told(&lost).is_empty(), "{lost:?}");
        let end = two.step(0, ProxyEvent::Drained(DrainOutcome::Drained));
        assert_eq!(told(&end), [LaunchEvent::Drained(DrainOutcome::Drained)]);
        let mut two = held(2);
        two.begin_drain();
        two.step(0, ProxyEvent::Drained(DrainOutcome::Drained));
        let lost = gone(&mut two, is_refused);
        assert!(said(&lost, "p1"), "{lost:?}");
        assert_eq!(told(&lost), [LaunchEvent::Drained(DrainOutcome::Drained)]);
    }
}

#[test]
fn proxy_that_is_gone_is_not_named_again_when_the_drain_could_not_be_asked_for() {
    let mut two = held(2);
    two.begin_drain();
    assert!(said(&lost(&mut two, 1), "p1"));
    let refused = two.step(1, ProxyEvent::DrainRefused("no answer".into()));
    assert_eq!(refused, []);
}

#[test]
fn lease_that_breaks_matters_when_it_was_the_last() {
    let mut two = held(2);
    assert_eq!(told(&lost(&mut two, 0)), [LaunchEvent::Ready(true)]);
    let (asked, said) = two.begin_drain();
    assert_eq!(asked, [1]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(told(&lost(&mut two, 1)), [LaunchEvent::LeaseLost]);
}

#[test]
fn drain_goes_on_where_the_lease_is_granted_again_and_is_waited_for() {
    // Asked for before the connection was closed, and after it.
    for is_asked_before in [true, false] {
        let mut two = held(2);
        if is_asked_before {
            assert_eq!(two.begin_drain(), (vec![0, 1], vec![]));
            let lost = two.step(0, ProxyEvent::LeaseLost);
            assert_eq!(lost, [ProxyOutcome::AskDrain(0)]);
        } else {
            assert_eq!(two.step(0, ProxyEvent::LeaseLost), []);
            assert_eq!(two.begin_drain(), (vec![0, 1], vec![]));
        }
        let other = two.step(1, ProxyEvent::Drained(DrainOutcome::Drained));
        assert_eq!(other, []);
        let again = two.step(0, ProxyEvent::Registered);
        assert_eq!(again, [ProxyOutcome::Tell(LaunchEvent::Registered)]);
        let ended = two.step(0, ProxyEvent::Drained(DrainOutcome::Drained));
        assert_eq!(told(&ended), [LaunchEvent::Drained(DrainOutcome::Drained)]);
    }
}

#[test]
fn proxy_that_comes_late_learns_what_was_asked_of_the_others() {
    let mut two = held(2);
    lost(&mut two, 1);
    assert_eq!(two.begin_lame_duck(), [0]);
    let late = two.step(1, ProxyEvent::Registered);
    assert!(late.contains(&ProxyOutcome::AskLameDuck(1)), "{late:?}");
    lost(&mut two, 1);
    two.begin_drain();
    let late = two.step(1, ProxyEvent::Registered);
    assert!(late.contains(&ProxyOutcome::AskDrain(1)), "{late:?}");
    let first = two.step(0, ProxyEvent::Drained(DrainOutcome::Drained));
    assert_eq!(told(&first), [], "the late one has to end, too");
}

#[test]
fn lame_duck_goes_on_where_the_lease_is_granted_again() {
    let mut one = held(1);
    one.begin_lame_duck();
    assert_eq!(one.step(0, ProxyEvent::LeaseLost), []);
    let again = one.step(0, ProxyEvent::Registered);
    assert_eq!(
        again,
        [
            ProxyOutcome::Tell(LaunchEvent::Registered),
            ProxyOutcome::AskLameDuck(0)
        ]
    );
}

#[test]
fn launcher_is_quiet_when_all_remaining_proxies_are() {
    let mut two = held(2);
    two.begin_lame_duck();
    assert_eq!(told(&two.step(0, ProxyEvent::Quiet)), []);
    let lost = lost(&mut two, 1);
    assert!(told(&lost).contains(&LaunchEvent::Quiet), "{lost:?}");
}

#[test]
fn lifted_drain_is_requested_again_from_the_proxy_that_lifted_it() {
    let mut two = held(2);
    two.begin_drain();
    two.step(0, ProxyEvent::Drained(DrainOutcome::Drained));
    let lifted = two.step(1, ProxyEvent::Drained(DrainOutcome::Resumed));
    assert_eq!(told(&lifted), [LaunchEvent::Drained(DrainOutcome::Resumed)]);
    assert_eq!(two.begin_drain().0, [1]);
}
