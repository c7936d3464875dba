use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> DoubtPolicy {
    DoubtPolicy {
        min_healthy: 1,
        confirm_after: 30 * SECOND,
    }
}

fn set(numbers: impl IntoIterator<Item = u32>) -> DiscoveredSet<u32> {
    let one = |number: u32| (format!("b{number}"), DiscoveredBackend::at(number));
    numbers.into_iter().map(one).collect()
}

fn terminating(mut set: DiscoveredSet<u32>, number: u32) -> DiscoveredSet<u32> {
    let backend = DiscoveredBackend {
        state: DiscoveredState::Terminating,
        ..DiscoveredBackend::at(number)
    };
    set.insert(format!("b{number}"), backend);
    set
}

fn judge(first: DiscoveredSet<u32>) -> AnswerJudge<u32> {
    let mut judge = AnswerJudge::default();
    judge.take_answer(first.into(), &policy(), Time::ZERO);
    judge
}

#[test]
fn a_set_that_grows_or_loses_up_to_half_is_believed_at_once() {
    let mut judge = judge(set(0..4));
    judge.take_answer(set(0..1000).into(), &policy(), SECOND);
    assert_eq!(judge.in_force().len(), 1000);
    judge.take_answer(set(500..1000).into(), &policy(), SECOND);
    assert_eq!(*judge.in_force(), set(500..1000));
    assert_eq!(judge.doubt(), None);
}

#[test]
fn first_answer_of_a_run_is_judged_by_what_the_one_before_had() {
    let mut judge = AnswerJudge::resume(set(0..10));
    assert_eq!(*judge.in_force(), set(0..10));
    judge.take_answer(set(0..1).into(), &policy(), SECOND);
    assert_eq!(judge.in_force().len(), 10);
    assert_eq!(judge.doubt().map(|doubt| doubt.kept), Some(9));
    judge.take_answer(set(0..12).into(), &policy(), 2 * SECOND);
    assert_eq!(*judge.in_force(), set(0..12));
    assert_eq!(judge.doubt(), None);
}

#[test]
fn a_set_that_loses_more_than_half_is_kept_until_it_is_confirmed() {
    let mut judge = judge(set(0..1000));
    judge.take_answer(set(0..3).into(), &policy(), SECOND);
    assert_eq!(judge.in_force().len(), 1000);
    let doubt = judge.doubt().unwrap();
    assert_eq!((doubt.kept, doubt.named), (997, 3));
    assert_eq!((doubt.since, doubt.until), (SECOND, Some(31 * SECOND)));
    judge.take_answer(set(0..3).into(), &policy(), 30 * SECOND);
    assert_eq!(judge.in_force().len(), 1000);
    judge.take_answer(set(0..3).into(), &policy(), 31 * SECOND);
    assert_eq!(*judge.in_force(), set(0..3));
    assert_eq!(judge.doubt(), None);
}

#[test]
fn newcomers_of_a_doubted_answer_are_taken_at_once() {
    let mut judge = judge(set(0..10));
    judge.take_answer(set([100]).into(), &policy(), SECOND);
    assert_eq!(*judge.in_force(), set((0..10).chain([100])));
}

#[test]
fn an_answer_that_is_whole_again_ends_the_doubt_and_its_time_begins_anew() {
    let mut judge = judge(set(0..10));
    judge.take_answer(set(0..1).into(), &policy(), SECOND);
    judge.take_answer(set(0..10).into(), &policy(), 20 * SECOND);
    assert_eq!(judge.doubt(), None);
    judge.take_answer(set(0..1).into(), &policy(), 40 * SECOND);
    assert_eq!(judge.in_force().len(), 10);
    assert_eq!(judge.doubt().unwrap().until, Some(70 * SECOND));
}

#[test]
fn each_backend_has_to_be_missing_for_the_whole_time() {
    let mut judge = judge(set(0..10));
    judge.take_answer(set(0..1).into(), &policy(), SECOND);
    // Named once more in between: its time begins anew.
    judge.take_answer(set([0, 5]).into(), &policy(), 20 * SECOND);
    judge.take_answer(set(0..1).into(), &policy(), 21 * SECOND);
    judge.take_answer(set(0..1).into(), &policy(), 31 * SECOND);
    assert_eq!(*judge.in_force(), set([0, 5]));
    // Losing half of two is no reason for doubt any more.
    judge.take_answer(set(0..1).into(), &policy(), 32 * SECOND);
    assert_eq!(*judge.in_force(), set(0..1));
}

#[test]
fn empty_answer_is_confirmed_only_if_min_healthy_is_zero() {
    let mut judge = judge(set(0..2));
    for second in 1..1000 {
        judge.take_answer(set([]).into(), &policy(), second * SECOND);
        assert_eq!(judge.in_force().len(), 2);
    }
    assert_eq!(judge.doubt().unwrap().until, None);
    let policy = DoubtPolicy {
        min_healthy: 0,
        ..policy()
    };
    judge.take_answer(set([]).into(), &policy, 1000 * SECOND);
    assert!(judge.in_force().is_empty());
}

#[test]
fn missing_backends_are_kept_if_fewer_than_min_healthy_would_be_left() {
    let policy = DoubtPolicy {
        min_healthy: 3,
        ..policy()
    };
    let mut judge = judge(set(0..4));
    judge.take_answer(set(0..3).into(), &policy, SECOND);
    assert_eq!(judge.in_force().len(), 3);
    judge.take_answer(set(0..2).into(), &policy, 1000 * SECOND);
    assert_eq!(judge.in_force().len(), 3);
    // Another backend replaces it, so that it may be removed.
    judge.take_answer(set([0, 1, 7]).into(), &policy, 1001 * SECOND);
    assert_eq!(*judge.in_force(), set([0, 1, 7]));
}

#[test]
fn explicit_reports_of_the_source_are_never_doubted() {
    let mut judge = judge(set(0..3));
    let ending = (0..3).fold(set([]), terminating);
    judge.take_answer(ending.clone().into(), &policy(), SECOND);
    assert_eq!(*judge.in_force(), ending);
    judge.take_answer(set([]).into(), &policy(), 2 * SECOND);
    assert!(judge.in_force().is_empty(), "they were terminating");

    let mut judge = AnswerJudge::default();
    judge.take_answer(set(0..3).into(), &policy(), SECOND);
    let answer = SourceAnswer {
        set: set([]),
        deleted: ["b0", "b1"].map(str::to_owned).into(),
    };
    judge.take_answer(answer, &policy(), 2 * SECOND);
    assert_eq!(*judge.in_force(), set([2]), "nobody said anything of b2");
}

#[test]
fn a_backend_under_another_name_is_not_missing() {
    let mut judge = judge(set(0..3));
    let renamed: DiscoveredSet<u32> = (0..3)
        .map(|number| (format!("new{number}"), DiscoveredBackend::at(number)))
        .collect();
    judge.take_answer(renamed.clone().into(), &policy(), SECOND);
    assert_eq!(*judge.in_force(), renamed);
}

#[test]
fn time_to_confirm_may_be_none() {
    let policy = DoubtPolicy {
        confirm_after: Duration::ZERO,
        ..policy()
    };
    let mut judge = judge(set(0..1000));
    judge.take_answer(set(0..1).into(), &policy, SECOND);
    assert_eq!(*judge.in_force(), set(0..1));
}

#[test]
fn changes_lead_from_one_set_to_the_other() {
    let mut new = terminating(set(1..4), 2);
    let weighty = DiscoveredBackend {
        weight: 5,
        ..DiscoveredBackend::at(1)
    };
    new.insert("b1".to_owned(), weighty);
    let changes = set(0..3).changes_to(&new);
    let told: Vec<_> = changes
        .iter()
        .map(|change| match change {
            SetChange::Added { name, .. } => format!("+{name}"),
            SetChange::Changed { name, .. } => format!("~{name}"),
            SetChange::Removed { name, .. } => format!("-{name}"),
        })
        .collect();
    assert_eq!(told, ["+b3", "~b1", "~b2", "-b0"]);
    assert!(new.changes_to(&new).is_empty());
}

/// A small random number generator, so that a seed is enough to repeat a run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// The set of a truthful source, and when each backend was last named.
#[derive(Default)]
struct World {
    named: BTreeMap<String, Time>,
    ended: BTreeSet<String>,
}

#[test]
fn random_sets_never_lose_a_backend_without_a_word_or_time_to_confirm() {
    let seed = std::env::var("LAMEDUCK_SEED").ok();
    let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or(20261129);
    let mut chance = Chance(seed);
    for run in 0..300 {
        let policy = DoubtPolicy {
            min_healthy: chance.below(4) as usize,
            confirm_after: Duration::from_secs(chance.below(40)),
        };
        let (mut judge, mut now, mut world) =
            (AnswerJudge::default(), Time::ZERO, World::default());
        for step in 0..60 {
            now += Duration::from_millis(chance.below(10_000));
            let before = judge.in_force().clone();
            let size = [0, 1, 3, 10, 100][chance.below(5) as usize];
            let mut answer: DiscoveredSet<u32> = (0..size)
                .filter(|_| chance.below(8) > 0)
                .map(|number| (format!("b{number}"), DiscoveredBackend::at(number)))
                .collect();
            if size > 0 && chance.below(3) == 0 {
                answer = terminating(answer, chance.below(size.into()) as u32);
            }
            let deleted: BTreeSet<String> = match chance.below(4) {
                0 => (0..chance.below(5)).map(|n| format!("b{n}")).collect(),
                _ => BTreeSet::new(),
            };
            let place = format!("seed {seed}, run {run}, step {step}, {policy:?}");
            let sent = SourceAnswer {
                set: answer.clone(),
                deleted: deleted.clone(),
            };
            judge.take_answer(sent, &policy, now);
            let after = judge.in_force();
            for (name, backend) in answer.iter() {
                assert_eq!(after.get(name), Some(backend), "{place}: {name} is named");
                world.named.insert(name.to_owned(), now);
                match backend.is_serving() {
                    true => world.ended.remove(name),
                    false => world.ended.insert(name.to_owned()),
                };
            }
            let gone = before.iter().filter(|(name, _)| after.get(name).is_none());
            let silent: Vec<_> = gone
                .filter(|(name, _)| !deleted.contains(*name) && !world.ended.contains(*name))
                .map(|(name, _)| name.to_owned())
                .collect();
            if silent.is_empty() {
                continue;
            }
            let (was, is) = (before.serving(), answer.serving());
            assert!(
                is >= policy.min_healthy.min(was),
                "{place}: {is} of {was} are left by silence"
            );
            if is * 2 < was || is == 0 {
                for name in silent {
                    let since = now - world.named[&name];
                    assert!(
                        since >= policy.confirm_after,
                        "{place}: {name} was lost after {since:?}"
                    );
                }
            }
        }
    }
}
