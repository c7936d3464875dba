use super::*;
use std::time::Duration;

const SECOND: Time = Time::from_secs(1);

fn policy() -> OutlierPolicy {
    OutlierPolicy {
        consecutive_errors: 5,
        error_rate: 0.5,
        latency_factor: 5.0,
        min_requests: 20,
        window: SECOND * 10,
        max_ejected: 0.3,
        ejection: SECOND * 30,
        max_ejection: SECOND * 300,
    }
}

fn eligible(count: u32) -> Vec<(u32, BackendStanding)> {
    (0..count)
        .map(|key| (key, BackendStanding::Eligible))
        .collect()
}

fn counts(well: u32, failed: u32, streak: u32) -> OutcomeCounts {
    OutcomeCounts {
        well,
        failed,
        streak,
        last: (failed > 0).then_some(AttemptError::Status(500)),
        ..OutcomeCounts::default()
    }
}

/// Returns counts with responses that took this many milliseconds.
fn timed(count: u32, milliseconds: u64) -> OutcomeCounts {
    let mut counts = counts(count, 0, 0);
    counts.latencies[latency_step(Duration::from_millis(milliseconds))] = count;
    counts
}

fn ejected(changes: &[OutlierChange<u32>]) -> Vec<(u32, &'static str)> {
    let ejected = changes.iter().filter_map(|change| match change {
        OutlierChange::Ejected(key, ejection) => Some((*key, ejection.reason.as_str())),
        OutlierChange::Returned(..) => None,
    });
    ejected.collect()
}

/// Returns a detector with these figures, judged at the end of its first slice.
fn judged(figures: &[OutcomeCounts]) -> (OutlierDetector<u32>, Vec<OutlierChange<u32>>) {
    let mut detector = OutlierDetector::new(policy(), Time::ZERO);
    for (key, counts) in (0..).zip(figures) {
        detector.note(key, counts);
    }
    let standings = eligible(figures.len() as u32);
    let changes = detector.judge(&standings, SECOND * 2);
    (detector, changes)
}

#[test]
fn errors_in_a_row_eject_when_no_probe_has_said_more() {
    let mut detector = OutlierDetector::new(policy(), Time::ZERO);
    let standings = eligible(3);
    for key in 0..3 {
        detector.note(key, &counts(100, 0, 0));
    }
    detector.note(1, &counts(0, 5, 5));
    detector.suspect(1, &counts(0, 5, 5), SECOND);
    assert_eq!(detector.judge(&standings, SECOND), []);
    let at = SECOND + PROBE_FIRST;
    assert_eq!(detector.next_deadline(), at);
    // One success in between does not undo the suspicion.
    detector.note(1, &counts(1, 0, 0));
    let changes = detector.judge(&standings, at);
    assert_eq!(ejected(&changes), [(1, "consecutive_errors")]);
    let ejection = detector.ejection(1).unwrap();
    assert_eq!(
        ejection.reason.to_string(),
        "5 errors in a row (the last: status 500)"
    );
    assert_eq!((ejection.since, ejection.until), (at, at + SECOND * 30));
}

/// The detector gets figures when its deadline is due, so it must be due even if no backend is suspected.
#[test]
fn detector_without_backends_is_due_at_the_end_of_each_slice() {
    let mut detector = OutlierDetector::new(policy(), Time::ZERO);
    assert_eq!(detector.next_deadline(), SECOND * 2);
    assert_eq!(detector.judge(&eligible(3), SECOND * 2), []);
    assert_eq!(detector.next_deadline(), SECOND * 4);
}

/// At the end of a slice, the detector still has to wait for the probe.
#[test]
fn suspected_backend_is_not_judged_for_its_row_before_the_probe_had_its_time() {
    let mut detector = OutlierDetector::new(policy(), Time::ZERO);
    let failing = counts(0, 6, 6);
    detector.note(1, &failing);
    let before_the_end = SECOND * 2 - Duration::from_millis(10);
    detector.suspect(1, &failing, before_the_end);
    assert_eq!(detector.judge(&eligible(3), SECOND * 2), []);
    let changes = detector.judge(&eligible(3), before_the_end + PROBE_FIRST);
    assert_eq!(ejected(&changes), [(1, "consecutive_errors")]);
}

#[test]
fn suspicion_is_void_when_another_process_is_there() {
    let mut detector = OutlierDetector::new(policy(), Time::ZERO);
    let standings = eligible(3);
    detector.note(1, &counts(0, 5, 5));
    detector.suspect(1, &counts(0, 5, 5), SECOND);
    assert!(!detector.forget(1));
    assert_eq!(detector.judge(&standings, SECOND * 2), []);
}

#[test]
fn share_of_errors_ejects_from_the_least_number_of_requests_on() {
    let well = counts(100, 1, 0);
    let (_, changes) = judged(&[well.clone(), counts(9, 10, 1), well.clone()]);
    assert_eq!(changes, [], "19 requests");
    let (detector, changes) = judged(&[well.clone(), counts(10, 10, 1), well]);
    assert_eq!(ejected(&changes), [(1, "error_rate")]);
    let reason = detector.ejection(1).unwrap().reason;
    assert_eq!(
        reason.to_string(),
        "10 of 20 requests failed in 10 s (the last: status 500)"
    );
}

#[test]
fn share_of_errors_looks_back_no_further_than_the_window() {
    let mut detector = OutlierDetector::new(policy(), Time::ZERO);
    let standings = eligible(3);
    detector.note(1, &counts(0, 19, 1));
    for slice in 1..=5 {
        let changes = detector.judge(&standings, SECOND * 2 * slice);
        assert_eq!(changes, [], "slice {slice}");
    }
    detector.note(1, &counts(0, 1, 1));
    assert_eq!(detector.judge(&standings, SECOND * 12), []);
}

#[test]
fn slow_one_of_three_is_ejected_and_one_of_two_is_not() {
    let quick = timed(100, 30);
    let (detector, changes) = judged(&[quick.clone(), quick.clone(), timed(20, 300)]);
    assert_eq!(ejected(&changes), [(2, "latency")]);
    let reason = detector.ejection(2).unwrap().reason.to_string();
    assert!(reason.starts_with("its answers take 3"), "{reason}");
    let (_, changes) = judged(&[quick.clone(), timed(20, 300)]);
    assert_eq!(changes, [], "which of the two is odd?");
    let (_, changes) = judged(&[quick.clone(), quick.clone(), timed(19, 300)]);
    assert_eq!(changes, [], "19 requests");
    let (_, changes) = judged(&[quick.clone(), quick, timed(100, 110)]);
    assert_eq!(changes, [], "not five times as slow");
    let (_, changes) = judged(&[timed(50, 1), timed(50, 1), timed(50, 15)]);
    assert_eq!(changes, [], "milliseconds are no reason");
}

#[test]
fn slow_minority_of_requests_is_no_reason_to_eject() {
    let mut mixed = timed(60, 10);
    mixed.add(&timed(40, 30_000));
    let (_, changes) = judged(&[timed(100, 10), timed(100, 10), mixed]);
    assert_eq!(changes, []);
}

#[test]
fn no_backend_is_ejected_if_all_fail_alike() {
    let failing = counts(0, 100, 100);
    let (mut detector, changes) = judged(&[failing.clone(), failing.clone(), failing.clone()]);
    assert_eq!(changes, []);
    for key in 0..3 {
        detector.suspect(key, &failing, SECOND * 2);
    }
    assert_eq!(detector.judge(&eligible(3), SECOND * 3), []);
    let slow = timed(100, 900);
    let (_, changes) = judged(&[slow.clone(), slow.clone(), slow]);
    assert_eq!(changes, []);
}

#[test]
fn both_of_two_failing_backends_stay_and_a_single_failing_one_is_ejected() {
    let (_, changes) = judged(&[counts(0, 50, 50), counts(0, 50, 50)]);
    assert_eq!(changes, []);
    let (_, changes) = judged(&[counts(0, 50, 50), counts(50, 0, 0)]);
    assert_eq!(ejected(&changes), [(0, "consecutive_errors")]);
    let (_, changes) = judged(&[counts(0, 50, 50)]);
    assert_eq!(changes, [], "the only one");
}

#[test]
fn drained_and_down_ones_take_the_room_of_the_ejected() {
    let mut detector = OutlierDetector::new(policy(), Time::ZERO);
    let mut standings = eligible(6);
    detector.note(1, &counts(0, 50, 50));
    standings[4].1 = BackendStanding::Away;
    assert_eq!(detector.judge(&standings, SECOND * 2), [], "0.3 × 6 is one");
    // The errors counted against it are not forgotten.
    standings[4].1 = BackendStanding::Eligible;
    let changes = detector.judge(&standings, SECOND * 4);
    assert_eq!(ejected(&changes), [(1, "consecutive_errors")]);
}

#[test]
fn worst_one_goes_first() {
    let (_, changes) = judged(&[
        counts(100, 0, 0),
        counts(10, 90, 9),
        counts(0, 100, 100),
        counts(100, 0, 0),
    ]);
    assert_eq!(ejected(&changes), [(2, "consecutive_errors")]);
}

#[test]
fn ejections_grow_up_to_the_longest_and_good_times_make_up_for_them() {
    let mut detector = OutlierDetector::new(policy(), Time::ZERO);
    let standings = eligible(3);
    let mut now = Time::ZERO;
    let mut lasted = Vec::new();
    for _ in 0..12 {
        detector.note(1, &counts(0, 50, 50));
        now += SECOND * 2;
        let changes = detector.judge(&standings, now);
        let [OutlierChange::Ejected(1, ejection)] = changes.as_slice() else {
            panic!("{changes:?}");
        };
        lasted.push((ejection.until - now).as_secs());
        now = ejection.until;
        let changes = detector.judge(&standings, now);
        assert_eq!(changes, [OutlierChange::Returned(1, ReturnCause::Over)]);
    }
    assert_eq!(
        lasted,
        [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
    );
    now += SECOND * 30 * 11;
    detector.note(1, &counts(0, 50, 50));
    let changes = detector.judge(&standings, now);
    let [OutlierChange::Ejected(1, ejection)] = changes.as_slice() else {
        panic!("{changes:?}");
    };
    assert_eq!((ejection.until - now).as_secs(), 60, "the second of two");
}

#[test]
fn last_one_is_taken_back_when_the_others_go_away() {
    let (mut detector, changes) = judged(&[counts(0, 50, 50), counts(50, 0, 0), counts(50, 0, 0)]);
    assert_eq!(ejected(&changes).len(), 1);
    let mut standings = eligible(3);
    standings[1].1 = BackendStanding::Away;
    assert_eq!(detector.return_if_none_left(&standings, SECOND * 3), []);
    standings[2].1 = BackendStanding::Away;
    let back = [OutlierChange::Returned(0, ReturnCause::LastReady)];
    assert_eq!(detector.return_if_none_left(&standings, SECOND * 3), back);
    assert_eq!(detector.ejected().count(), 0);
}

/// Random numbers from a seed, which is shown if the test fails.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn chance(&mut self, share: f64) -> bool {
        (self.below(1 << 30) as f64) < share * f64::from(1 << 30)
    }
}

/// A pool whose backends fail, lag, go away and come back at random.
#[test]
fn random_failures_respect_the_limits_and_every_ejection_ends() {
    for seed in 0..200_u64 {
        simulate(seed);
    }
}

fn simulate(seed: u64) {
    let random = &mut Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let size = 1 + random.below(12) as u32;
    let policy = OutlierPolicy {
        max_ejected: [0.1, 0.3, 0.5, 1.0][random.below(4) as usize],
        ..policy()
    };
    let allowed = ((policy.max_ejected * f64::from(size) + 1e-9) as usize).max(1);
    let mut detector = OutlierDetector::new(policy, Time::ZERO);
    let mut standings = eligible(size);
    let mut out: BTreeMap<u32, Time> = BTreeMap::new();
    let shares: Vec<f64> = (0..size)
        .map(|_| [0.0, 0.02, 0.6, 1.0][random.below(4) as usize])
        .collect();
    let mut now = Time::ZERO;
    for _ in 0..400 {
        for key in 0..size {
            let (mut well, mut failed, mut streak) = (0, 0, 0);
            for _ in 0..random.below(12) {
                match random.chance(shares[key as usize]) {
                    true => (failed, streak) = (failed + 1, streak + 1),
                    false => (well, streak) = (well + 1, 0),
                }
            }
            let mut seen = counts(well, failed, streak);
            let took = Duration::from_millis(1 + random.below(4) * random.below(1000));
            seen.latencies[latency_step(took)] = well;
            detector.note(key, &seen);
            if streak >= 5 {
                detector.suspect(key, &seen, now);
            }
        }
        let one = random.below(u64::from(size)) as u32;
        let mut changes = Vec::new();
        if random.chance(0.1) {
            let is_away = standings[one as usize].1 == BackendStanding::Away;
            standings[one as usize].1 = match is_away {
                true => BackendStanding::Eligible,
                false => BackendStanding::Away,
            };
            // A drain, a death and a new process cause this.
            assert_eq!(
                detector.forget(one),
                out.remove(&one).is_some(),
                "seed {seed}"
            );
            changes.extend(detector.return_if_none_left(&standings, now));
        }
        now = match random.chance(0.5) {
            true => detector.next_deadline().max(now),
            false => now + Duration::from_millis(random.below(3000)),
        };
        changes.extend(detector.judge(&standings, now));
        for change in changes {
            match change {
                OutlierChange::Returned(key, cause) => {
                    let until = out.remove(&key).unwrap_or_else(|| panic!("seed {seed}"));
                    assert!(
                        cause == ReturnCause::LastReady || until <= now,
                        "seed {seed}"
                    );
                }
                OutlierChange::Ejected(key, ejection) => {
                    assert_eq!(standings[key as usize].1, BackendStanding::Eligible);
                    assert_eq!(out.insert(key, ejection.until), None, "seed {seed}");
                    let away = standings.iter();
                    let away = away.filter(|(_, s)| *s == BackendStanding::Away).count();
                    assert!(away + out.len() <= allowed, "seed {seed}: {away} {out:?}");
                }
            }
        }
        let taking = standings.iter();
        let mut taking = taking.filter(|(_, standing)| *standing == BackendStanding::Eligible);
        let any = taking.clone().next().is_some();
        assert!(
            !any || taking.any(|(key, _)| !out.contains_key(key)),
            "seed {seed}: the last one"
        );
        // No ejection lasts longer than announced, as long as the detector is called.
        assert!(out.values().all(|until| *until > now), "seed {seed}");
        let known: Vec<u32> = detector.ejected().collect();
        assert_eq!(
            known,
            out.keys().copied().collect::<Vec<_>>(),
            "seed {seed}"
        );
    }
}

/// A fault that all backends share counts against none: only chance makes a difference, within the limits.
#[test]
fn pool_that_fails_evenly_loses_nobody_and_one_bad_backend_is_found() {
    for seed in 0..50_u64 {
        let random = &mut Random(seed | 1 << 40);
        let mut detector = OutlierDetector::new(policy(), Time::ZERO);
        let standings = eligible(10);
        for tick in 1..=50 {
            for key in 0..10 {
                // 5 % of errors everywhere; one backend fails two of three.
                let share = if key == 7 && tick > 25 { 0.66 } else { 0.05 };
                let failed = (0..40).filter(|_| random.chance(share)).count() as u32;
                detector.note(key, &counts(40 - failed, failed, 0));
            }
            let changes = detector.judge(&standings, SECOND * 2 * tick);
            let bad = ejected(&changes);
            assert!(tick > 25 || bad.is_empty(), "seed {seed}: {bad:?}");
            assert!(bad.iter().all(|(key, _)| *key == 7), "seed {seed}: {bad:?}");
            if tick == 35 {
                assert!(detector.ejection(7).is_some(), "seed {seed}");
            }
        }
    }
}
