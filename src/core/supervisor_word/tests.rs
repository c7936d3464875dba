//! Tests of each rule, and then of every order of words against a model of the process.

use proptest::prelude::*;

use super::*;

fn heard(word: ProcessWord, process: u32, at: u64) -> HeardWord {
    HeardWord {
        word,
        process: Some(ProcessMark(process.to_string())),
        at: Time::from_millis(at),
    }
}

fn hear_all(words: &[(ProcessWord, u32, u64)]) -> Vec<Option<WordEffect>> {
    let mut watched = WatchedProcess::default();
    let words = words.iter();
    words
        .map(|(word, process, at)| watched.hear(heard(*word, *process, *at)))
        .collect()
}

use ProcessWord::{Ended, Running, StopPlanned, Stopping, Unknown};
use WordEffect::{Drain, Lift, Look, RunsAgain};

#[test]
fn restart_drains_once_and_ends_with_the_next_process() {
    let words = [
        (Running, 1, 1),
        (StopPlanned, 1, 2),
        (Stopping, 1, 3),
        (Stopping, 1, 3),
        (Ended, 1, 4),
        (Running, 2, 5),
        (Running, 2, 5),
    ];
    let effects = [
        Some(Lift),
        Some(Drain),
        None,
        None,
        Some(Look),
        Some(RunsAgain),
        None,
    ];
    assert_eq!(hear_all(&words), effects);
}

#[test]
fn stop_without_a_signal_can_be_taken_back_and_one_with_it_can_not() {
    assert_eq!(
        hear_all(&[(Running, 1, 1), (StopPlanned, 1, 2), (Running, 1, 3)]),
        [Some(Lift), Some(Drain), Some(Lift)]
    );
    assert_eq!(
        hear_all(&[(Running, 1, 1), (Stopping, 1, 2), (Running, 1, 3)]),
        [Some(Lift), Some(Drain), None]
    );
}

#[test]
fn late_words_neither_drain_the_next_process_nor_resume_the_last_one() {
    // The stop of a process that has been replaced.
    assert_eq!(
        hear_all(&[
            (Running, 1, 1),
            (Running, 2, 5),
            (Stopping, 1, 6),
            (Stopping, 2, 4)
        ]),
        [Some(Lift), Some(Look), None, None]
    );
    // A query that was begun before the stop was reported.
    assert_eq!(
        hear_all(&[(StopPlanned, 1, 5), (Running, 1, 4)]),
        [Some(Drain), None]
    );
}

#[test]
fn missed_start_and_missed_stop_are_made_up_for_by_a_look() {
    assert_eq!(
        hear_all(&[(Stopping, 1, 1), (Stopping, 2, 2), (Running, 3, 3)]),
        [Some(Drain), Some(Drain), Some(RunsAgain)]
    );
    assert_eq!(
        hear_all(&[(Running, 1, 1), (Ended, 1, 2), (Running, 2, 3)]),
        [Some(Lift), Some(Look), Some(RunsAgain)]
    );
}

#[test]
fn process_that_its_supervisor_no_longer_knows_is_not_kept_drained() {
    assert_eq!(
        hear_all(&[(Stopping, 1, 1), (Unknown, 1, 2), (Unknown, 1, 3)]),
        [Some(Drain), Some(Lift), None]
    );
    assert_eq!(
        hear_all(&[(Stopping, 1, 1), (Ended, 1, 2)]),
        [Some(Drain), Some(Look)]
    );
    let mut watched = WatchedProcess::default();
    watched.hear(heard(Stopping, 1, 1));
    watched.hear(heard(Ended, 1, 2));
    let gone = HeardWord {
        process: None,
        ..heard(Unknown, 0, 3)
    };
    assert_eq!(watched.hear(gone), Some(Lift));
}

#[test]
fn supervisor_that_names_no_processes_is_followed_by_its_order() {
    let unmarked = |word, at| HeardWord {
        process: None,
        ..heard(word, 0, at)
    };
    let mut watched = WatchedProcess::default();
    let words = [Running, Stopping, Stopping, Ended, Stopping, Running];
    let effects: Vec<_> = words
        .iter()
        .enumerate()
        .map(|(at, word)| watched.hear(unmarked(*word, at as u64)))
        .collect();
    assert_eq!(
        effects,
        [
            Some(Lift),
            Some(Drain),
            None,
            Some(Look),
            None,
            Some(RunsAgain)
        ]
    );
}

/// A step of the supervisor with its process.
#[derive(Debug, Clone, Copy)]
enum Step {
    Plan,
    TakeBack,
    Stop,
    End,
    Start,
    Forget,
}

/// The truth: which process there is, and its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Truth {
    process: u32,
    word: ProcessWord,
}

impl Truth {
    fn after(self, step: Step) -> Self {
        let word = match (step, self.word) {
            (Step::Plan, Running) => StopPlanned,
            (Step::TakeBack, StopPlanned) => Running,
            (Step::Stop, Running | StopPlanned) => Stopping,
            (Step::End, Running | StopPlanned | Stopping) => Ended,
            (Step::Start, Ended | Unknown) => {
                return Self {
                    process: self.process + 1,
                    word: Running,
                };
            }
            (Step::Forget, Ended) => Unknown,
            (_, word) => word,
        };
        Self { word, ..self }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop::sample::select(vec![
        Step::Plan,
        Step::TakeBack,
        Step::Stop,
        Step::Stop,
        Step::End,
        Step::Start,
        Step::Start,
        Step::Forget,
    ])
}

/// How a word arrives: not at all, once or twice, and after how many later ones.
fn arrival() -> impl Strategy<Value = (usize, usize)> {
    (0..3_usize, 0..4_usize)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever words are lost, duplicated or late: a drain is never lifted while the signalled process is the
    /// present one, none is begun for a process that has been reported to run later, and one query at the end
    /// corrects everything.
    #[test]
    fn any_order_of_words_ends_with_what_is_true(
        steps in prop::collection::vec((step(), arrival()), 1..40),
    ) {
        let mut truth = Truth { process: 1, word: Running };
        let mut truths = vec![truth];
        let mut arrivals = Vec::new();
        for (at, (step, (times, behind))) in steps.iter().enumerate() {
            truth = truth.after(*step);
            truths.push(truth);
            let at = at + 1;
            for _ in 0..*times {
                arrivals.push((at + behind, at));
            }
        }
        arrivals.sort();
        let mut watched = WatchedProcess::default();
        // The process for which a drain is open.
        let mut drained: Option<u32> = None;
        let last = truths.len();
        let words = arrivals.into_iter().chain([(last, last - 1)]);
        for (now, at) in words {
            let said = truths[at];
            let present = truths[now.min(last - 1)];
            match watched.hear(heard(said.word, said.process, at as u64)) {
                Some(Drain) => drained = Some(said.process),
                Some(Lift | RunsAgain) => {
                    let signalled = present.word == Stopping && drained == Some(present.process);
                    let lifted_too_soon = signalled && said.process == present.process
                        && truths[..=at].iter().any(|t| t.process == said.process && t.word == Stopping);
                    prop_assert!(!lifted_too_soon, "at {now}: {said:?} lifted, {present:?}");
                    drained = None;
                }
                Some(Look) | None => {}
            }
        }
        let present = truths[last - 1];
        match present.word {
            Running => prop_assert_eq!(drained, None, "it runs"),
            StopPlanned | Stopping => prop_assert_eq!(drained, Some(present.process), "it stops"),
            Unknown => prop_assert_eq!(drained, None, "there is nothing"),
            Ended => {}
        }
    }
}
