//! One test for each rule. `s(n)`: n seconds after the start.

use super::exit::COUNT;
use super::*;

fn s(seconds: u64) -> Time {
    Time::from_secs(seconds)
}

fn ms(milliseconds: u64) -> Time {
    Time::from_millis(milliseconds)
}

fn plan() -> LaunchPlan {
    LaunchPlan {
        port: true,
        drain_timeout: s(4),
        lame_duck: Time::ZERO,
        until_quiet: false,
        ready_timeout: None,
    }
}

/// Returns a launcher whose app has taken requests since `s(1)`.
fn ready(plan: LaunchPlan) -> AppLaunch {
    let mut launch = AppLaunch::new(plan);
    launch.step(LaunchEvent::Started, Time::ZERO);
    assert_eq!(
        launch.step(LaunchEvent::Listening, ms(100)),
        [LaunchEffect::Register]
    );
    launch.step(LaunchEvent::Registered, ms(200));
    assert_eq!(
        launch.step(LaunchEvent::Ready(true), s(1)),
        [LaunchEffect::TellReady]
    );
    launch
}

/// Returns the effects without messages.
fn deeds(effects: &[LaunchEffect]) -> Vec<&LaunchEffect> {
    let talk = |effect: &&LaunchEffect| {
        !matches!(effect, LaunchEffect::Say(_) | LaunchEffect::TellStopping(_))
    };
    effects.iter().filter(talk).collect()
}

fn said(effects: &[LaunchEffect]) -> String {
    let text = effects.iter().filter_map(|effect| match effect {
        LaunchEffect::Say(text) => Some(text.as_str()),
        _ => None,
    });
    text.collect::<Vec<_>>().join("\n")
}

/// What is done when the app gets its signal.
fn forwarded(signal: &LaunchEffect) -> [&LaunchEffect; 2] {
    [&LaunchEffect::StopRegistering, signal]
}

#[test]
fn the_app_is_drained_before_it_is_signalled() {
    let mut launch = ready(plan());
    let begun = launch.step(LaunchEvent::Signal(15), s(10));
    assert_eq!(deeds(&begun), [&LaunchEffect::AskDrain(s(4))]);
    let drained = launch.step(LaunchEvent::Drained(DrainOutcome::Drained), s(11));
    assert_eq!(deeds(&drained), forwarded(&LaunchEffect::Send(15)));
    let ended = LaunchEvent::Exited {
        fate: ProcessExit::Code(0),
        leftovers: false,
    };
    assert_eq!(
        launch.step(ended, s(12)),
        [LaunchEffect::End(ProcessExit::Code(0))]
    );
}

#[test]
fn the_same_signal_within_a_second_is_one_and_a_later_one_goes_on_at_once() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::Signal(2), s(10));
    assert_eq!(launch.step(LaunchEvent::Signal(2), s(10) + ms(900)), []);
    let again = launch.step(LaunchEvent::Signal(2), s(11) + ms(1));
    assert_eq!(deeds(&again), forwarded(&LaunchEffect::SendGroup(2)));
    // Now that the app stops, each signal is passed on.
    assert_eq!(
        launch.step(LaunchEvent::Signal(2), s(13)),
        [LaunchEffect::SendGroup(2)]
    );
}

#[test]
fn ctrl_c_and_the_group_s_term_are_one_stop_and_do_not_skip_the_drain() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::Signal(2), s(10));
    assert_eq!(launch.step(LaunchEvent::Signal(15), s(10) + ms(10)), []);
    // A later signal is meant as a new one.
    let other = launch.step(LaunchEvent::Signal(3), s(11) + ms(1));
    assert_eq!(deeds(&other), forwarded(&LaunchEffect::SendGroup(3)));
    // Without a drain in progress, no signal is held back.
    assert_eq!(
        launch.step(LaunchEvent::Signal(15), s(11) + ms(2)),
        [LaunchEffect::SendGroup(15)]
    );
}

#[test]
fn interrupt_tells_the_group_and_leaves_what_outlives_its_shell_in_peace() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::Signal(2), s(10));
    let drained = launch.step(LaunchEvent::Drained(DrainOutcome::Drained), s(11));
    assert_eq!(deeds(&drained), forwarded(&LaunchEffect::SendGroup(2)));
    // The shell ends at once; its child got the signal and is stopping.
    let fate = ProcessExit::Signal(2);
    let ended = LaunchEvent::Exited {
        fate,
        leftovers: true,
    };
    let buried = launch.step(ended, s(11));
    assert!(
        !deeds(&buried).contains(&&LaunchEffect::SendAll(15)),
        "{buried:?}"
    );
    // Processes that ignore SIGINT get SIGTERM, and are killed in the end.
    let told = launch.step(LaunchEvent::Tick, s(16));
    assert!(
        deeds(&told).contains(&&LaunchEffect::SendAll(15)),
        "{told:?}"
    );
    let killed = launch.step(LaunchEvent::Tick, s(21));
    assert_eq!(
        deeds(&killed),
        [&LaunchEffect::SendAll(9), &LaunchEffect::End(fate)]
    );
}

#[test]
fn other_signals_go_on_as_they_come() {
    let mut launch = ready(plan());
    for signal in [1, 10, 12, 28] {
        assert_eq!(
            launch.step(LaunchEvent::Signal(signal), s(10)),
            [LaunchEffect::Send(signal)]
        );
    }
    launch.step(LaunchEvent::Signal(15), s(11));
    assert_eq!(
        launch.step(LaunchEvent::Signal(10), s(12)),
        [LaunchEffect::Send(10)]
    );
}

#[test]
fn lame_duck_comes_before_the_drain() {
    let mut launch = ready(LaunchPlan {
        lame_duck: s(5),
        ..plan()
    });
    let begun = launch.step(LaunchEvent::Signal(15), s(10));
    assert_eq!(
        deeds(&begun),
        [&LaunchEffect::AskLameDuck { until_quiet: false }]
    );
    assert_eq!(launch.next_deadline(), Some(s(15)));
    assert_eq!(launch.step(LaunchEvent::Tick, s(14)), []);
    assert_eq!(
        launch.step(LaunchEvent::Tick, s(15)),
        [LaunchEffect::AskDrain(s(4))]
    );
}

#[test]
fn drain_begins_when_nothing_new_comes_and_no_later_than_the_longest_lame_duck() {
    let plan = LaunchPlan {
        lame_duck: s(20),
        until_quiet: true,
        ..plan()
    };
    let mut launch = ready(plan.clone());
    let begun = launch.step(LaunchEvent::Signal(15), s(10));
    let asked = LaunchEffect::AskLameDuck { until_quiet: true };
    assert_eq!(deeds(&begun), [&asked]);
    let quiet = launch.step(LaunchEvent::Quiet, s(12));
    assert_eq!(quiet, [LaunchEffect::AskDrain(s(4))]);
    // The same event again has no effect.
    assert_eq!(launch.step(LaunchEvent::Quiet, s(12)), []);
    let mut launch = ready(plan);
    launch.step(LaunchEvent::Signal(15), s(10));
    let over = launch.step(LaunchEvent::Tick, s(30));
    assert_eq!(over, [LaunchEffect::AskDrain(s(4))]);
}

#[test]
fn the_drain_is_bounded_even_if_the_proxy_says_nothing() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::Signal(15), s(10));
    assert_eq!(launch.step(LaunchEvent::Tick, s(14)), []);
    let late = launch.step(LaunchEvent::Tick, s(14) + SLACK);
    assert_eq!(
        deeds(&late),
        [
            &LaunchEffect::DropLease,
            &LaunchEffect::StopRegistering,
            &LaunchEffect::Send(15)
        ]
    );
}

#[test]
fn deadline_that_cut_requests_is_reported() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::Signal(15), s(10));
    let cut = launch.step(
        LaunchEvent::Drained(DrainOutcome::TimedOut { cut: 3 }),
        s(14),
    );
    assert_eq!(deeds(&cut), forwarded(&LaunchEffect::Send(15)));
    assert!(said(&cut).contains("3 requests cut"), "{cut:?}");
}

#[test]
fn a_lifted_drain_is_asked_for_again() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::Signal(15), s(10));
    let lifted = launch.step(LaunchEvent::Drained(DrainOutcome::Resumed), s(11));
    assert_eq!(deeds(&lifted), [&LaunchEffect::AskDrain(s(3))]);
}

#[test]
fn signal_is_forwarded_after_a_pause_if_no_proxy_is_reachable() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::LeaseLost, s(5));
    let begun = launch.step(LaunchEvent::Signal(15), s(10));
    assert!(deeds(&begun).is_empty());
    assert!(said(&begun).contains("can't be reached"), "{begun:?}");
    assert_eq!(
        deeds(&launch.step(LaunchEvent::Tick, s(11))),
        forwarded(&LaunchEffect::Send(15))
    );
}

#[test]
fn a_proxy_that_goes_in_mid_drain_does_not_hold_it_up() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::Signal(15), s(10));
    launch.step(LaunchEvent::LeaseLost, s(11));
    assert_eq!(
        deeds(&launch.step(LaunchEvent::Tick, s(12))),
        forwarded(&LaunchEffect::Send(15))
    );
}

#[test]
fn proxy_that_comes_back_during_the_pause_drains_for_what_is_left_of_the_time() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::Signal(15), s(10));
    launch.step(LaunchEvent::LeaseLost, s(12));
    let back = launch.step(LaunchEvent::Registered, s(12) + ms(500));
    let left = s(1) + ms(500);
    assert_eq!(
        back,
        [
            LaunchEffect::TellStopping(left + SLACK),
            LaunchEffect::AskDrain(left)
        ]
    );
    assert_eq!(launch.next_deadline(), Some(s(14) + SLACK));
}

#[test]
fn a_refused_drain_ends_the_lease_instead() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::Signal(15), s(10));
    let refused = launch.step(LaunchEvent::DrainRefused("too many".to_owned()), s(10));
    assert_eq!(deeds(&refused), [&LaunchEffect::DropLease]);
    assert!(said(&refused).contains("too many"));
    assert_eq!(
        deeds(&launch.step(LaunchEvent::Tick, s(11))),
        forwarded(&LaunchEffect::Send(15))
    );
}

#[test]
fn app_that_was_never_registered_is_signalled_at_once() {
    let mut launch = AppLaunch::new(plan());
    launch.step(LaunchEvent::Started, Time::ZERO);
    let stop = launch.step(LaunchEvent::Signal(15), s(1));
    assert_eq!(
        deeds(&stop),
        [&LaunchEffect::StopRegistering, &LaunchEffect::Send(15)]
    );
}

#[test]
fn a_worker_is_ready_at_once_and_has_nothing_to_drain() {
    let mut launch = AppLaunch::new(LaunchPlan {
        port: false,
        ..plan()
    });
    assert_eq!(
        launch.step(LaunchEvent::Started, Time::ZERO),
        [LaunchEffect::TellReady]
    );
    assert_eq!(launch.next_deadline(), None);
    assert_eq!(
        deeds(&launch.step(LaunchEvent::Signal(15), s(1))),
        [&LaunchEffect::Send(15)]
    );
}

#[test]
fn an_app_that_dies_in_mid_drain_is_told_with_what_it_took_along() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::Signal(15), s(10));
    let died = LaunchEvent::Exited {
        fate: ProcessExit::Signal(11),
        leftovers: false,
    };
    let died = launch.step(died, s(11));
    assert!(
        said(&died).contains("before SIGTERM was passed on to it (SIGSEGV)"),
        "{died:?}"
    );
    assert!(deeds(&died).is_empty());
    let counted = launch.step(
        LaunchEvent::Drained(DrainOutcome::Died { lost: 2 }),
        s(11) + ms(50),
    );
    assert!(said(&counted).contains("2 requests lost"));
    assert_eq!(
        deeds(&counted),
        [&LaunchEffect::End(ProcessExit::Signal(11))]
    );
}

#[test]
fn wait_for_the_count_of_losses_is_short() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::Signal(15), s(10));
    let fate = ProcessExit::Code(1);
    let leftovers = false;
    launch.step(LaunchEvent::Exited { fate, leftovers }, s(11));
    assert_eq!(
        launch.step(LaunchEvent::Tick, s(11) + COUNT),
        [LaunchEffect::End(fate)]
    );
}

#[test]
fn processes_that_the_app_leaves_running_are_ended() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::Signal(15), s(10));
    launch.step(LaunchEvent::Drained(DrainOutcome::Drained), s(10));
    let fate = ProcessExit::Code(0);
    let leftovers = true;
    assert_eq!(
        launch.step(LaunchEvent::Exited { fate, leftovers }, s(11)),
        [
            LaunchEffect::StopRegistering,
            LaunchEffect::DropLease,
            LaunchEffect::SendAll(15)
        ]
    );
    let mut other = launch.step(LaunchEvent::NobodyLeft, s(12));
    assert_eq!(other.pop(), Some(LaunchEffect::End(fate)));

    let mut launch = ready(plan());
    let ended = launch.step(LaunchEvent::Exited { fate, leftovers }, s(11));
    assert!(said(&ended).contains("stays in the foreground"));
    let killed = launch.step(LaunchEvent::Tick, s(11) + LEFTOVERS);
    assert_eq!(
        deeds(&killed),
        [&LaunchEffect::SendAll(9), &LaunchEffect::End(fate)]
    );
}

#[test]
fn an_app_that_ignores_its_signal_is_told_once() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::Signal(15), s(10));
    launch.step(LaunchEvent::Drained(DrainOutcome::Drained), s(11));
    let ignored = launch.step(LaunchEvent::Tick, s(11) + IGNORED);
    assert!(
        said(&ignored).contains("after SIGTERM: it ignores it"),
        "{ignored:?}"
    );
    assert_eq!(launch.next_deadline(), None);
    assert_eq!(launch.step(LaunchEvent::Tick, s(60)), []);
}

#[test]
fn reason_for_missing_readiness_is_repeated_at_growing_intervals() {
    let mut launch = AppLaunch::new(plan());
    launch.step(LaunchEvent::Started, Time::ZERO);
    for at in [10, 20, 40, 80] {
        assert_eq!(launch.next_deadline(), Some(s(at)));
        assert_eq!(
            launch.step(LaunchEvent::Tick, s(at)),
            [LaunchEffect::Explain { after: s(at) }]
        );
    }
    launch.step(LaunchEvent::Ready(true), s(81));
    assert_eq!(launch.next_deadline(), None);
}

#[test]
fn an_app_that_is_not_ready_in_time_is_given_up() {
    let mut launch = AppLaunch::new(LaunchPlan {
        ready_timeout: Some(s(7)),
        ..plan()
    });
    launch.step(LaunchEvent::Started, Time::ZERO);
    let failed = launch.step(LaunchEvent::Tick, s(7));
    assert!(
        deeds(&failed).contains(&&LaunchEffect::Send(15)),
        "{failed:?}"
    );
    assert_eq!(
        launch.step(LaunchEvent::Tick, s(7) + FAILED),
        [LaunchEffect::SendAll(9)]
    );
    let fate = ProcessExit::Signal(9);
    let leftovers = false;
    assert_eq!(
        launch.step(LaunchEvent::Exited { fate, leftovers }, s(13)),
        [LaunchEffect::End(ProcessExit::GivenUp)]
    );
}

#[test]
fn a_lease_that_comes_back_is_drained_again() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::LeaseLost, s(5));
    launch.step(LaunchEvent::Registered, s(6));
    // The supervisor has been told already.
    assert_eq!(launch.step(LaunchEvent::Ready(true), s(6)), []);
    let begun = launch.step(LaunchEvent::Signal(15), s(10));
    assert!(
        deeds(&begun).contains(&&LaunchEffect::AskDrain(s(4))),
        "{begun:?}"
    );
}

#[test]
fn a_lease_that_is_granted_too_late_is_not_kept_open() {
    let mut launch = ready(plan());
    launch.step(LaunchEvent::LeaseLost, s(5));
    launch.step(LaunchEvent::Signal(15), s(10));
    let late = launch.step(LaunchEvent::Registered, s(10) + ms(100));
    assert_eq!(deeds(&late), [&LaunchEffect::AskDrain(s(4) - ms(100))]);
    launch.step(LaunchEvent::Drained(DrainOutcome::Drained), s(11));
    assert_eq!(
        launch.step(LaunchEvent::Registered, s(11)),
        [LaunchEffect::DropLease]
    );
}
