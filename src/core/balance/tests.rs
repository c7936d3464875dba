use super::*;

#[derive(Clone, Copy)]
struct Fake {
    in_flight: u32,
    weight: u32,
    latency: Option<Duration>,
}

impl BalanceCandidate for Fake {
    fn in_flight(&self) -> u32 {
        self.in_flight
    }
    fn weight(&self) -> u32 {
        self.weight
    }
    fn latency(&self) -> Option<Duration> {
        self.latency
    }
}

fn input(cursor: u64, random: u64) -> PickInput {
    PickInput {
        cursor,
        random,
        key: remix(random),
    }
}

fn fakes(weights: &[u32]) -> Vec<Fake> {
    weights
        .iter()
        .map(|weight| Fake {
            in_flight: 0,
            weight: *weight,
            latency: Some(Duration::from_millis(10)),
        })
        .collect()
}

/// Returns how often each candidate is picked in `rounds`; with `keep`, the load grows with each pick.
fn shares(algorithm: BalanceAlgorithm, weights: &[u32], rounds: u64, keep: bool) -> Vec<u64> {
    let balancer = Balancer::new(algorithm, weights);
    let mut candidates = fakes(weights);
    let mut counts = vec![0; weights.len()];
    let mut random = 1;
    for cursor in 0..rounds {
        random = remix(random);
        let index = balancer
            .pick(&candidates, input(cursor, random), &[])
            .unwrap();
        counts[index] += 1;
        candidates[index].in_flight += u32::from(keep);
    }
    counts
}

#[test]
fn nothing_to_pick_from() {
    for algorithm in BalanceAlgorithm::ALL {
        assert_eq!(
            Balancer::new(algorithm, &[]).pick::<Fake>(&[], input(7, 7), &[]),
            None
        );
        let one = fakes(&[3]);
        assert_eq!(
            Balancer::new(algorithm, &[3]).pick(&one, input(7, 7), &[0]),
            None
        );
    }
}

#[test]
fn excluded_candidates_are_never_picked_and_a_remaining_one_always_is() {
    let weights: Vec<u32> = (0..40).map(|n| n % 4).collect();
    for algorithm in BalanceAlgorithm::ALL {
        for count in [2, 3, 17, 40] {
            let weights = &weights[..count];
            let balancer = Balancer::new(algorithm, weights);
            let candidates = fakes(weights);
            for (keep, weight) in weights.iter().enumerate() {
                let excluded: Vec<usize> = (0..count).filter(|index| *index != keep).collect();
                for n in 0..50 {
                    let picked = balancer.pick(&candidates, input(n, remix(n)), &excluded);
                    let left = (*weight > 0).then_some(keep);
                    assert_eq!(picked, left, "{algorithm:?}, {count} candidates");
                }
            }
        }
    }
}

#[test]
fn weight_zero_is_never_picked() {
    for algorithm in BalanceAlgorithm::ALL {
        let counts = shares(algorithm, &[0, 1, 0, 2], 1000, false);
        assert_eq!((counts[0], counts[2]), (0, 0), "{algorithm:?}");
        for (weights, excluded) in [(&[0, 0, 0][..], &[][..]), (&[0, 1, 0], &[1])] {
            let balancer = Balancer::new(algorithm, weights);
            for random in [0, 1 << 40, u64::MAX] {
                let picked = balancer.pick(&fakes(weights), input(random, random), excluded);
                assert_eq!(picked, None, "{algorithm:?} {weights:?}");
            }
        }
    }
}

#[test]
fn shares_follow_weights() {
    for algorithm in BalanceAlgorithm::ALL {
        // The load stays, as with long requests; `least_requests` has no other criterion.
        let counts = shares(algorithm, &[1, 2, 5], 8000, true);
        for (count, expected) in counts.iter().zip([1000, 2000, 5000]) {
            assert!(count.abs_diff(expected) < 150, "{algorithm:?}: {counts:?}");
        }
    }
}

#[test]
fn ties_spread() {
    let counts = shares(BalanceAlgorithm::LeastRequests, &[1; 5], 5000, false);
    assert!(
        counts.iter().all(|count| count.abs_diff(1000) < 150),
        "{counts:?}"
    );
    let counts = shares(BalanceAlgorithm::LeastRequests, &[1; 50], 50_000, false);
    assert!(
        counts.iter().all(|count| count.abs_diff(1000) < 200),
        "{counts:?}"
    );
}

#[test]
fn least_requests_takes_the_least_loaded() {
    let mut candidates = fakes(&[1; 16]);
    for (load, candidate) in candidates.iter_mut().enumerate() {
        candidate.in_flight = 20 - load as u32;
    }
    for random in 0..100 {
        let picked = Balancer::LeastRequests.pick(&candidates, input(0, remix(random)), &[]);
        assert_eq!(picked, Some(15));
    }
}

#[test]
fn two_choices_avoid_the_overloaded() {
    let mut candidates = fakes(&[1; 100]);
    candidates[42].in_flight = 1000;
    for random in 0..10_000 {
        let picked = Balancer::LeastRequests.pick(&candidates, input(0, remix(random)), &[]);
        assert_ne!(picked, Some(42), "two different ones are compared");
    }
}

#[test]
fn round_robin_spreads_a_heavy_ones_turns() {
    let balancer = Balancer::new(BalanceAlgorithm::RoundRobin, &[5, 1, 1]);
    let candidates = fakes(&[5, 1, 1]);
    let turns: Vec<usize> = (0..7)
        .map(|cursor| balancer.pick(&candidates, input(cursor, 0), &[]).unwrap())
        .collect();
    assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn schedule_is_bounded_and_includes_every_candidate() {
    let weights = [u32::MAX, 1, 1_000_000];
    let counts = shares(BalanceAlgorithm::RoundRobin, &weights, 5000, false);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    let counts = shares(BalanceAlgorithm::RoundRobin, &[600, 400], 5, false);
    assert_eq!(counts, [3, 2], "reduced by the common divisor");
}

#[test]
fn a_random_draw_after_exclusions_heeds_weights() {
    let weights = [100, 1, 3];
    let balancer = Balancer::new(BalanceAlgorithm::Random, &weights);
    let candidates = fakes(&weights);
    let mut counts = [0_u64; 3];
    for n in 0..4000 {
        counts[balancer
            .pick(&candidates, input(0, remix(n)), &[0])
            .unwrap()] += 1;
    }
    assert_eq!(counts[0], 0);
    assert!(counts[2].abs_diff(3000) < 150, "{counts:?}");
}

#[test]
fn peak_ewma_prefers_the_lower_expected_wait() {
    let ms = Duration::from_millis;
    let peak = |candidates: &[Fake]| {
        let pick = |random| {
            let balancer = Balancer::new(BalanceAlgorithm::PeakEwma, &[]);
            balancer.pick(candidates, input(0, remix(random)), &[])
        };
        let mut counts = vec![0_u32; candidates.len()];
        (0..2000).for_each(|random| counts[pick(random).unwrap()] += 1);
        counts
    };
    let fake = |in_flight, weight, latency| Fake {
        in_flight,
        weight,
        latency,
    };
    // A ten times slower, idle candidate gets requests only when the other has ten times as many in flight.
    let mut all = [fake(8, 1, Some(ms(10))), fake(0, 1, Some(ms(100)))];
    assert_eq!(peak(&all), [2000, 0]);
    all[0].in_flight = 10;
    assert_eq!(peak(&all), [0, 2000]);
    // Weight 3 counts as three of them.
    let all = [fake(2, 3, Some(ms(10))), fake(1, 1, Some(ms(10)))];
    assert_eq!(peak(&all), [2000, 0]);
    // A new candidate gets one request at once, and the next when it has answered.
    let all = [fake(0, 1, Some(ms(1))), fake(0, 1, None)];
    assert_eq!(peak(&all), [0, 2000]);
    let all = [fake(50, 1, Some(ms(500))), fake(1, 1, None)];
    assert_eq!(peak(&all), [2000, 0]);
    // If all are new, they fill evenly.
    let all = [fake(1, 1, None), fake(2, 1, None)];
    assert_eq!(peak(&all), [2000, 0]);
}

#[test]
fn peak_ewma_avoids_one_slow_among_many() {
    let mut all = fakes(&[1; 100]);
    all[42].latency = Some(Duration::from_secs(1));
    for random in 0..10_000 {
        let balancer = Balancer::new(BalanceAlgorithm::PeakEwma, &[]);
        let picked = balancer.pick(&all, input(0, remix(random)), &[]);
        assert_ne!(picked, Some(42), "two different ones are compared");
    }
}
