mod conditions;

use super::condition::{ConditionLimit, PlanMetric};
use super::*;

fn spec(before: &[u32], target: usize, to: u32) -> PlanSpec {
    PlanSpec {
        target,
        before: before.to_vec(),
        otherwise: before.to_vec(),
        to,
        length: Time::from_secs(100),
        steps: 10,
        conditions: Vec::new(),
        min_requests: DEFAULT_MIN_REQUESTS,
    }
}

fn conditions(texts: &[&str]) -> Vec<AbortCondition> {
    let texts = texts.iter();
    texts
        .map(|text| AbortCondition::parse(text).unwrap())
        .collect()
}

/// Pools whose requests a test counts.
struct Counted {
    bounds: LatencyBounds,
    pools: Vec<PoolObservation>,
}

impl Counted {
    fn of(plan: &SplitPlan) -> Self {
        let bounds = plan.bounds().clone();
        let pool = PoolObservation {
            figures: PoolFigures::new(&bounds),
            open: Vec::new(),
            is_available: true,
        };
        Self {
            pools: vec![pool; plan.spec().before.len()],
            bounds,
        }
    }

    fn request(&mut self, pool: usize, status: u16, latency: u64) {
        let bucket = self.bounds.bucket(Time::from_millis(latency));
        let figures = &mut self.pools[pool].figures;
        figures.requests += 1;
        figures.attempts += 1;
        figures.client_errors += u64::from(status / 100 == 4);
        figures.server_errors += u64::from(status / 100 == 5);
        figures.latencies[bucket] += 1;
    }
}

/// xorshift: the same numbers in each run for one seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("LAMEDUCK_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=300).collect(),
    }
}

#[test]
fn weights_of_a_step_add_up_and_keep_the_proportion_of_the_others() {
    assert_eq!(spec(&[95, 5], 1, 10_000).weights(10), [0, 100]);
    assert_eq!(spec(&[1, 0], 1, 10_000).weights(1), [90, 10]);
    assert_eq!(spec(&[95, 5], 1, 10_000).weights(1), [8550, 1450]);
    assert_eq!(spec(&[60, 30, 10], 2, 10_000).weights(5), [30, 15, 55]);
    // The target has the whole share: the others get the configuration's weights, else equal parts.
    let mut down = spec(&[0, 0, 7], 2, 0);
    down.otherwise = vec![3, 1, 7];
    assert_eq!(down.weights(10), [75, 25, 0]);
    down.otherwise = vec![0, 0, 7];
    assert_eq!(down.weights(10), [50, 50, 0]);
    for seed in seeds() {
        let mut dice = Dice(seed);
        let pools = 2 + dice.below(15) as usize;
        let before: Vec<u32> = (0..pools).map(|_| dice.below(1_000_001) as u32).collect();
        let target = dice.below(pools as u64) as usize;
        let spec = spec(&before, target, dice.below(10_001) as u32);
        for step in 1..=spec.steps {
            let weights = spec.weights(step);
            let all: u32 = weights.iter().sum();
            assert!(all == 10_000 || all == 100, "seed {seed}: {weights:?}");
            let share = weights[target] * (10_000 / all);
            assert_eq!(share, spec.share(step), "seed {seed}: {weights:?}");
        }
    }
}

#[test]
fn plans_that_can_not_be_are_refused() {
    let good = spec(&[95, 5], 1, 10_000);
    assert_eq!(good.check(), Ok(()));
    let with = |change: fn(&mut PlanSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        spec.check()
    };
    assert_eq!(with(|spec| spec.to = 500), Err(PlanError::NothingToDo));
    assert_eq!(with(|spec| spec.steps = 0), Err(PlanError::BadSteps));
    assert_eq!(with(|spec| spec.steps = 101), Err(PlanError::BadSteps));
    let short = |spec: &mut PlanSpec| spec.length = Time::from_millis(9_999);
    assert_eq!(with(short), Err(PlanError::TooFast));
    let long = |spec: &mut PlanSpec| spec.length = LONGEST_PLAN + Time::from_secs(1);
    assert_eq!(with(long), Err(PlanError::TooSlow));
    assert_eq!(
        PlanSpec::steps_of(Time::from_secs(600), Time::from_secs(60)),
        10
    );
    assert_eq!(
        PlanSpec::steps_of(Time::from_secs(10), Time::from_secs(60)),
        1
    );
    assert_eq!(PlanSpec::steps_of(Time::MAX, Time::ZERO), u32::MAX);
}

/// Checks the plan whenever it is due, with requests of this kind for the target (1) and successful ones for the
/// other pool. Returns the plan's moves with their times.
fn run(plan: &mut SplitPlan, mut request: impl FnMut(Time) -> (u16, u64)) -> Vec<(Time, PlanMove)> {
    let mut counted = Counted::of(plan);
    let (mut now, mut moves) = (Time::ZERO, Vec::new());
    while let Some(next) = plan.next_look() {
        now = next.max(now + Time::from_millis(1));
        for _ in 0..10 {
            let (status, latency) = request(now);
            counted.request(1, status, latency);
            counted.request(0, 200, 10);
        }
        match plan.judge_figures(now, &counted.pools) {
            PlanMove::Stay => {}
            other => moves.push((now, other)),
        }
    }
    moves
}

#[test]
fn plan_without_failures_takes_each_step_in_time_and_reaches_the_target() {
    let mut wanted = spec(&[95, 5], 1, 10_000);
    wanted.conditions = conditions(&["5xx>1%", "4xx>1x", "failed>1%", "p99>500ms", "p99>2x"]);
    let mut plan = SplitPlan::begin(wanted, 1, Time::ZERO);
    let moves = run(&mut plan, |_| (200, 12));
    assert_eq!(moves.len(), 10);
    for (index, (at, step)) in moves.iter().enumerate() {
        let due = Time::from_secs(10 * (index as u64 + 1));
        assert!(*at >= due && *at <= due + LOOK, "{at:?}: {step:?}");
    }
    assert_eq!(moves[8].1, PlanMove::Step(vec![0, 100]));
    assert_eq!(moves[9].1, PlanMove::Reached);
    let counted: u64 = plan
        .records()
        .iter()
        .map(|step| step.figures[1].requests)
        .sum();
    // 4 checks a second, each with 10 requests.
    assert_eq!(counted, 4_000);
}

#[test]
fn weights_of_a_failing_pool_are_restored_within_seconds_with_the_reason() {
    for (texts, bad, says) in [
        (&["5xx>1%"][..], (500, 10), "5xx>1%: "),
        (&["p99>2x", "4xx>5%"], (404, 10), "4xx>5%: "),
        (&["p99>500ms"], (200, 501), "requests took longer ("),
        (&["p99>2x"], (200, 25), "the others' p99 is"),
        (&["5xx>3x"], (503, 10), "of the others' 0 of "),
    ] {
        let mut wanted = spec(&[95, 5], 1, 10_000);
        wanted.conditions = conditions(texts);
        let mut plan = SplitPlan::begin(wanted, 1, Time::ZERO);
        let turns = Time::from_secs(33);
        let moves = run(&mut plan, |now| if now < turns { (200, 10) } else { bad });
        let (at, last) = moves.last().unwrap();
        let PlanMove::Back(reason) = last else {
            panic!("{texts:?}: {moves:?}");
        };
        assert!(*at <= turns + Time::from_secs(2), "{texts:?}: {at:?}");
        assert!(reason.contains(says), "{reason}");
    }
}

#[test]
fn limit_of_a_condition_is_counted_exactly() {
    let mut wanted = spec(&[95, 5], 1, 10_000);
    wanted.conditions = conditions(&["p99>487ms"]);
    let mut plan = SplitPlan::begin(wanted.clone(), 1, Time::ZERO);
    let moves = run(&mut plan, |_| (200, 487));
    assert_eq!(moves.last().unwrap().1, PlanMove::Reached);
    let mut plan = SplitPlan::begin(wanted, 1, Time::ZERO);
    let moves = run(&mut plan, |_| (200, 488));
    assert!(matches!(moves[0].1, PlanMove::Back(_)));
}

/// One error of three is no 33 %, and neither are two of a hundred over 1 %.
#[test]
fn too_few_requests_are_not_judged() {
    let mut wanted = spec(&[95, 5], 1, 10_000);
    wanted.conditions = conditions(&["5xx>1%", "5xx>1x", "p99>1ms"]);
    for (good, bad, is_back) in [(0, 3, false), (0, 19, false), (98, 2, false), (17, 3, true)] {
        let mut plan = SplitPlan::begin(wanted.clone(), 1, Time::ZERO);
        let mut counted = Counted::of(&plan);
        (0..good).for_each(|_| counted.request(1, 200, 0));
        (0..bad).for_each(|_| counted.request(1, 500, 0));
        let moved = plan.judge_figures(Time::from_secs(1), &counted.pools);
        assert_eq!(
            matches!(moved, PlanMove::Back(_)),
            is_back,
            "{good}, {bad}: {moved:?}"
        );
    }
}

/// One request a second, all of them errors: ten seconds contain too few, so the window reaches further back.
#[test]
fn window_reaches_back_until_there_are_enough_requests() {
    let mut wanted = spec(&[95, 5], 1, 10_000);
    wanted.conditions = conditions(&["5xx>1%"]);
    let mut plan = SplitPlan::begin(wanted, 1, Time::ZERO);
    let mut counted = Counted::of(&plan);
    for second in 1..=20 {
        counted.request(1, 500, 1);
        let moved = plan.judge_figures(Time::from_secs(second), &counted.pools);
        assert_eq!(matches!(moved, PlanMove::Back(_)), second == 20, "{second}");
    }
}

/// Requests that have left the window don't count.
#[test]
fn window_slides() {
    let mut wanted = spec(&[95, 5], 1, 10_000);
    wanted.conditions = conditions(&["p50>100ms"]);
    let mut plan = SplitPlan::begin(wanted, 1, Time::ZERO);
    // A minute of fast requests must not hide that they have become slow.
    let turns = Time::from_secs(60);
    let moves = run(&mut plan, |now| (200, if now < turns { 10 } else { 200 }));
    let (at, last) = moves.last().unwrap();
    assert!(
        matches!(last, PlanMove::Back(_)) && *at < turns + Time::from_secs(7),
        "{at:?}"
    );
}

#[test]
fn requests_that_hang_count_before_they_end() {
    let mut wanted = spec(&[95, 5], 1, 10_000);
    wanted.conditions = conditions(&["p99>500ms"]);
    let mut plan = SplitPlan::begin(wanted, 1, Time::ZERO);
    let mut counted = Counted::of(&plan);
    counted.pools[1].open = vec![(Time::from_millis(500), 100)];
    assert_eq!(
        plan.judge_figures(Time::from_secs(1), &counted.pools),
        PlanMove::Stay
    );
    counted.pools[1].open = vec![(Time::from_millis(750), 20), (Time::ZERO, 7)];
    let PlanMove::Back(reason) = plan.judge_figures(Time::from_secs(1), &counted.pools) else {
        panic!("it stays");
    };
    assert!(
        reason.contains("20 of 20 requests took longer (100 %)"),
        "{reason}"
    );
}

#[test]
fn pool_without_a_backend_is_a_reason_after_the_time_of_a_restart() {
    let plan = || SplitPlan::begin(spec(&[95, 5], 1, 10_000), 1, Time::ZERO);
    let (mut away, mut restarted) = (plan(), plan());
    let mut counted = Counted::of(&away);
    for tenth in 1..=60 {
        let now = Time::from_millis(tenth * 100);
        counted.pools[1].is_available = false;
        let moved = away.judge_figures(now, &counted.pools);
        assert_eq!(
            matches!(moved, PlanMove::Back(_)),
            tenth == 51,
            "{tenth}: {moved:?}"
        );
        counted.pools[1].is_available = tenth % 49 == 0;
        assert_eq!(restarted.judge_figures(now, &counted.pools), PlanMove::Stay);
    }
    // While the pool is unavailable, its share does not grow.
    let mut waiting = plan();
    counted.pools[1].is_available = false;
    assert_eq!(
        waiting.judge_figures(Time::from_secs(9), &counted.pools),
        PlanMove::Stay
    );
    assert_eq!(
        waiting.judge_figures(Time::from_secs(11), &counted.pools),
        PlanMove::Stay
    );
    assert_eq!(waiting.next_look(), Some(Time::from_secs(11) + LOOK));
    counted.pools[1].is_available = true;
    let moved = waiting.judge_figures(Time::from_secs(12), &counted.pools);
    assert!(matches!(moved, PlanMove::Step(_)));
    // The other pool, whose share shrinks, does not matter.
    let mut other = plan();
    counted.pools[1].is_available = true;
    counted.pools[0].is_available = false;
    for second in 1..10 {
        let moved = other.judge_figures(Time::from_secs(second), &counted.pools);
        assert_eq!(moved, PlanMove::Stay);
    }
}

/// If the target's share shrinks, the shares of the others grow: they are watched.
#[test]
fn others_are_watched_where_the_share_shrinks() {
    let mut wanted = spec(&[5, 95], 1, 0);
    wanted.conditions = conditions(&["5xx>1%"]);
    let mut plan = SplitPlan::begin(wanted.clone(), 1, Time::ZERO);
    let moves = run(&mut plan, |_| (500, 1));
    assert_eq!(moves.last().unwrap().1, PlanMove::Reached);
    let mut plan = SplitPlan::begin(wanted, 1, Time::ZERO);
    let mut counted = Counted::of(&plan);
    (0..20).for_each(|_| counted.request(0, 502, 1));
    let moved = plan.judge_figures(Time::from_secs(1), &counted.pools);
    assert!(matches!(moved, PlanMove::Back(_)));
}

#[test]
fn percentile_is_within_a_tenth() {
    let bounds = LatencyBounds::new([]);
    let mut figures = PoolFigures::new(&bounds);
    assert_eq!(figures.quantile(990, &bounds), None);
    for millis in 1..=1000 {
        figures.latencies[bounds.bucket(Time::from_millis(millis))] += 1;
    }
    for (permille, exact) in [(500, 500.0), (900, 900.0), (990, 990.0)] {
        let read = figures.quantile(permille, &bounds).unwrap().as_secs_f64() * 1000.0;
        assert!(read >= exact && read <= exact * 1.1, "{permille}: {read}");
    }
    let mut late = PoolFigures::new(&bounds);
    late.latencies[bounds.bucket(Time::MAX)] += 1;
    assert_eq!(late.quantile(500, &bounds), Some(Time::from_secs(120)));
}

/// Random plans with random requests, checked at random times: each ends, in time if nothing was wrong; the share
/// moves in one direction and never beyond its target; and there is a reason whenever the old weights are restored.
#[test]
fn random_plans_end_and_move_in_one_direction() {
    let mut ended = [0, 0];
    for seed in seeds() {
        let mut dice = Dice(seed);
        let pools = 2 + dice.below(4) as usize;
        let before: Vec<u32> = (0..pools).map(|_| dice.below(100) as u32).collect();
        let mut wanted = spec(
            &before,
            dice.below(pools as u64) as usize,
            dice.below(10_001) as u32,
        );
        wanted.steps = 1 + dice.below(20) as u32;
        wanted.length = SHORTEST_STEP * wanted.steps + Time::from_millis(dice.below(100_000));
        wanted.min_requests = dice.below(40);
        const TEXTS: [&str; 5] = ["5xx>2%", "4xx>3x", "failed>1%", "p99>80ms", "p90>2x"];
        wanted.conditions = conditions(&TEXTS[..dice.below(6) as usize]);
        if before.iter().all(|weight| *weight == 0) || wanted.check().is_err() {
            continue;
        }
        let error_rate = [0, 0, 1, 30][dice.below(4) as usize];
        let grows = wanted.grows();
        let from = share_of(&wanted.before, wanted.target);
        let mut plan = SplitPlan::begin(wanted.clone(), 1, Time::ZERO);
        let mut counted = Counted::of(&plan);
        let (mut now, mut last) = (Time::ZERO, from);
        let mut weights = wanted.weights(1);
        let (mut late, mut looks) = (Time::ZERO, 0);
        while plan.next_look().is_some() {
            let share = share_of(&weights, wanted.target);
            let (low, high) = (from.min(wanted.to.into()), from.max(wanted.to.into()));
            assert!(
                share >= low - 0.5 && share <= high + 0.5,
                "seed {seed}: {share}"
            );
            let is_onwards = if grows {
                share >= last - 0.5
            } else {
                share <= last + 0.5
            };
            assert!(is_onwards, "seed {seed}: {last} → {share}");
            last = share;
            let pause = match dice.below(50) {
                0 => Time::from_millis(dice.below(30_000)),
                _ => Time::from_millis(1 + dice.below(400)),
            };
            late += pause.saturating_sub(LOOK);
            now += pause;
            looks += 1;
            for _ in 0..dice.below(20) {
                let pool = dice.below(pools as u64) as usize;
                let status = if dice.below(100) < error_rate {
                    503
                } else {
                    200
                };
                counted.request(pool, status, dice.below(60));
            }
            for pool in &mut counted.pools {
                pool.is_available = dice.below(10) > 0;
            }
            match plan.judge_figures(now, &counted.pools) {
                PlanMove::Stay => {}
                PlanMove::Step(next) => weights = next,
                PlanMove::Back(reason) => {
                    assert!(!reason.is_empty(), "seed {seed}");
                    ended[0] += 1;
                }
                PlanMove::Reached => {
                    assert_eq!(plan.step(), wanted.steps, "seed {seed}");
                    assert_eq!(weights, wanted.weights(wanted.steps), "seed {seed}");
                    let least = wanted.length;
                    assert!(
                        now + Time::from_millis(1) >= least,
                        "seed {seed}: {now:?} of {least:?}"
                    );
                    ended[1] += 1;
                }
            }
            let most = wanted.length + late + Time::from_secs(30) * 2;
            assert!(
                now < most,
                "seed {seed}: no end after {looks} looks, {now:?} of {most:?}"
            );
        }
        assert_eq!(
            plan.judge_figures(now, &counted.pools),
            PlanMove::Stay,
            "seed {seed}"
        );
    }
    assert!(
        std::env::var("LAMEDUCK_SEED").is_ok() || ended.iter().all(|count| *count > 10),
        "{ended:?}"
    );
}

/// After a restart of the proxy, a plan continues at the step that it had reached.
#[test]
fn plan_goes_on_at_a_later_step() {
    let mut plan = SplitPlan::begin(spec(&[1, 0], 1, 10_000), 7, Time::from_secs(5));
    assert_eq!((plan.step(), plan.spec().weights(7)), (7, vec![30, 70]));
    assert_eq!(plan.ends(), Time::from_secs(45));
    let counted = Counted::of(&plan);
    let moved = plan.judge_figures(Time::from_secs(15), &counted.pools);
    assert_eq!(moved, PlanMove::Step(vec![20, 80]));
    plan.stop();
    assert_eq!(plan.next_look(), None);
}
