use super::table::{RateTable, SLOT_SIZE};
use super::*;
use proptest::prelude::*;

fn rule(limit: u32, period: Duration, burst: u32) -> RateRule {
    let number = |number| NonZeroU32::new(number).unwrap();
    RateRule::new(number(limit), period, number(burst))
}

fn period() -> impl Strategy<Value = Duration> {
    prop_oneof![Just(1), Just(60), Just(3600)].prop_map(Duration::from_secs)
}

proptest! {
    /// In every span of time, no more than the burst and the refill of that time.
    #[test]
    fn no_more_than_burst_and_rate_pass_in_any_span(
        limit in 1u32..=1_000_000,
        period in period(),
        burst in 1u32..=50,
        start in 0u64..=1 << 50,
        pauses in prop::collection::vec(0u64..=4, 1..300),
    ) {
        let rule = rule(limit, period, burst);
        let interval = period.as_nanos() as u64 / u64::from(limit);
        let (mut now, mut full_at) = (start, FillTime::default());
        let mut passed: Vec<u64> = Vec::new();
        for pause in pauses {
            now += pause * interval / 3;
            match rule.take(&mut full_at, Time::from_nanos(now)) {
                RateVerdict::Pass => passed.push(now),
                RateVerdict::Wait(wait) => {
                    prop_assert!(!wait.is_zero());
                    // The reported time is exact, to the nanosecond.
                    let mut copy = full_at;
                    let early = Time::from_nanos(now) + wait - Duration::from_nanos(1);
                    prop_assert!(matches!(rule.take(&mut copy, early), RateVerdict::Wait(_)));
                    let verdict = rule.take(&mut copy, Time::from_nanos(now) + wait);
                    prop_assert_eq!(verdict, RateVerdict::Pass);
                }
            }
        }
        for (first, from) in passed.iter().enumerate() {
            for (count, to) in passed[first..].iter().enumerate() {
                let refilled = u128::from(to - from) * u128::from(limit) / period.as_nanos();
                prop_assert!((count as u128) < u128::from(burst) + refilled);
            }
        }
    }

    /// A client at the permitted rate is never refused.
    #[test]
    fn client_at_the_permitted_rate_is_never_refused(
        limit in 1u32..=1_000_000,
        period in period(),
        burst in 1u32..=5,
        start in 0u64..=1 << 50,
    ) {
        let rule = rule(limit, period, burst);
        let mut full_at = FillTime::default();
        // Rounded up: a clock has no fractions of a nanosecond.
        let interval = period.as_nanos().div_ceil(u128::from(limit)) as u64;
        for count in 0..2000 {
            let at = count * interval;
            let verdict = rule.take(&mut full_at, Time::from_nanos(start + at));
            prop_assert_eq!(verdict, RateVerdict::Pass);
        }
    }

    /// In a table, each key gets the same result as with a bucket of its own, as long as there is room.
    #[test]
    fn keys_in_a_table_do_not_touch_each_other(
        asked in prop::collection::vec((0u64..6, 0u64..400), 1..200),
    ) {
        let rule = rule(10, Duration::from_secs(1), 3);
        let mut table = RateTable::new(1);
        let mut alone = [FillTime::default(); 6];
        let mut now = Time::from_secs(1);
        for (key, pause) in asked {
            now += Duration::from_millis(pause);
            let expected = rule.take(&mut alone[key as usize], now);
            prop_assert_eq!(table.take(key + 1, &rule, now), expected);
        }
        prop_assert_eq!(table.forgotten(), 0);
    }
}

#[test]
fn burst_passes_at_once_and_the_next_waits_one_interval() {
    let rule = rule(10, Duration::from_secs(1), 3);
    let (now, mut full_at) = (Time::from_secs(5), FillTime::default());
    for _ in 0..3 {
        assert_eq!(rule.take(&mut full_at, now), RateVerdict::Pass);
    }
    let wait = Duration::from_millis(100);
    for _ in 0..5 {
        assert_eq!(rule.take(&mut full_at, now), RateVerdict::Wait(wait));
    }
    assert_eq!(rule.take(&mut full_at, now + wait), RateVerdict::Pass);
}

/// Ten times as many keys as there is room for, each at its permitted rate: none is refused, and the table does not
/// grow.
#[test]
fn flood_of_keys_refuses_nobody_within_the_rate() {
    let rule = rule(1, Duration::from_secs(60), 1);
    let mut table = RateTable::new(64);
    let mut key = 1u64;
    for n in 0..64 * 8 * 10 {
        key = key.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let now = Time::from_secs(1) + Duration::from_millis(n);
        assert_eq!(table.take(key, &rule, now), RateVerdict::Pass, "key {n}");
    }
    assert!(table.forgotten() > 64 * 8 * 8, "{}", table.forgotten());
    assert_eq!(SLOT_SIZE, 24);
}

/// A row full of busy keys keeps the busiest one.
#[test]
fn key_far_beyond_its_rate_is_forgotten_last() {
    let rule = rule(1, Duration::from_secs(1), 100);
    let mut table = RateTable::new(1);
    let now = Time::from_secs(1);
    for _ in 0..100 {
        assert_eq!(table.take(7, &rule, now), RateVerdict::Pass);
    }
    for other in 100..200 {
        table.take(other, &rule, now);
    }
    assert!(matches!(table.take(7, &rule, now), RateVerdict::Wait(_)));
}

/// Requests that passed in either of two tables count: together the tables allow no more than one would have.
#[test]
fn buckets_that_another_table_kept_are_added_to_those_here() {
    let rule = rule(1, Duration::from_secs(10), 5);
    let (mut old, mut new) = (RateTable::new(4), RateTable::new(4));
    let now = Time::from_secs(100);
    for _ in 0..3 {
        assert_eq!(old.take(7, &rule, now), RateVerdict::Pass);
    }
    old.take(8, &rule, Time::from_secs(10));
    // Both accept requests for a moment.
    assert_eq!(new.take(7, &rule, now), RateVerdict::Pass);
    let open: Vec<_> = old.open(now).collect();
    assert_eq!(
        open.len(),
        1,
        "a full bucket is nothing to tell of: {open:?}"
    );
    for bucket in open {
        new.add(bucket, now);
    }
    assert_eq!(new.take(7, &rule, now), RateVerdict::Pass, "the fifth");
    let wait = Duration::from_secs(10);
    assert_eq!(new.take(7, &rule, now), RateVerdict::Wait(wait));
    assert_eq!(new.take(8, &rule, now), RateVerdict::Pass);
}
