//! Properties of the ring: shares by weight, no more moves than needed, bounded load. `LAMEDUCK_SEED` sets other
//! names and keys than the default ones.

use super::*;
use crate::core::split;

struct Fake {
    in_flight: u32,
    weight: u32,
}

impl BalanceCandidate for Fake {
    fn in_flight(&self) -> u32 {
        self.in_flight
    }
    fn weight(&self) -> u32 {
        self.weight
    }
}

/// Seed of names and keys.
fn seed() -> u64 {
    let given = std::env::var("LAMEDUCK_SEED").ok();
    given.map_or(1, |seed| seed.parse().unwrap())
}

fn name(seed: u64, number: usize) -> u64 {
    split::hash(format!("app-{seed}-{number}").as_bytes())
}

/// Returns these names as members, all ready, in this order.
fn members(names: &[(u64, u32)]) -> Vec<RingMember> {
    let names = names.iter().enumerate();
    names
        .map(|(index, (name, weight))| RingMember {
            name: *name,
            weight: *weight,
            place: Some(index as u32),
        })
        .collect()
}

fn fakes(names: &[(u64, u32)]) -> Vec<Fake> {
    let fake = |(_, weight): &(u64, u32)| Fake {
        in_flight: 0,
        weight: *weight,
    };
    names.iter().map(fake).collect()
}

fn by_key(key: u64) -> PickInput {
    PickInput {
        key,
        ..PickInput::default()
    }
}

/// Computes the share of each name: a point gets a key if one of the key's spots is nearer to it than to the point
/// before it, and no other spot is nearer to any point.
fn exact_shares(ring: &HashRing, count: usize) -> Vec<f64> {
    let mut gaps: Vec<(f64, usize)> = Vec::new();
    for layer in ring.rings.iter().flat_map(|ring| &ring.layers) {
        gaps.extend(
            layer
                .gaps()
                .map(|(gap, number)| (gap, ring.places[number] as usize)),
        );
    }
    gaps.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    // The part of the circle that is further than `t` from its next point falls linearly between one gap and the next.
    let mut shares = vec![0.0; count];
    let (mut so_far, mut left, mut before) = (0.0, 1.0_f64, 0.0);
    let longer = gaps.len();
    for (shorter, (gap, owner)) in gaps.iter().enumerate() {
        let density = (longer - shorter) as f64;
        let rest = (left - density * (gap - before)).max(0.0);
        // The integral of K * S^(K-1) over this piece, where S falls by `density`.
        so_far += (left.powi(PROBES as i32) - rest.powi(PROBES as i32)) / density;
        (left, before) = (rest, *gap);
        shares[*owner] += so_far;
    }
    shares
}

#[test]
fn share_is_within_5_percent_of_the_weight() {
    let seed = seed();
    for count in [3, 10, 100, 10_000] {
        let names: Vec<_> = (0..count).map(|n| (name(seed, n), 1)).collect();
        let mut points = RingPoints::default();
        let ring = points.prepare(&members(&names), 0);
        let shares = exact_shares(&ring, count);
        let sum: f64 = shares.iter().sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        let off = |share: &f64| (share * count as f64 - 1.0).abs();
        let worst = shares.iter().map(off).fold(0.0, f64::max);
        // At 10,000, the worst is five standard deviations off.
        assert!(worst < 0.05, "{count} backends: {worst}");
    }
}

#[test]
fn share_follows_different_weights() {
    let seed = seed();
    for weights in [&[1, 2, 5][..], &[100, 50, 1, 1000], &[3, 3, 7, 7, 10, 1]] {
        let names: Vec<_> = (0..)
            .zip(weights)
            .map(|(n, w)| (name(seed, n), *w))
            .collect();
        let ring = RingPoints::default().prepare(&members(&names), 0);
        let candidates = fakes(&names);
        let mut counts = vec![0_u32; names.len()];
        let keys = 60_000;
        for n in 0..keys {
            let key = remix(seed ^ n);
            counts[ring.pick(&candidates, by_key(key), &[]).unwrap()] += 1;
        }
        let total: u32 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(weights) {
            let expected = f64::from(*weight) / f64::from(total) * keys as f64;
            // 5 %, and four standard deviations of the sample.
            let allowed = 0.05 * expected + 4.0 * expected.sqrt();
            let off = (f64::from(*count) - expected).abs();
            assert!(off <= allowed, "{weights:?}: {counts:?}");
        }
    }
}

/// Returns the name to which each of these keys goes.
fn assign(points: &mut RingPoints, names: &[(u64, u32)], keys: &[u64]) -> Vec<u64> {
    let ring = points.prepare(&members(names), 0);
    let candidates = fakes(names);
    let pick = |key: &u64| ring.pick(&candidates, by_key(*key), &[]).unwrap();
    keys.iter().map(|key| names[pick(key)].0).collect()
}

#[test]
fn change_moves_only_keys_of_the_name_that_changes() {
    let seed = seed();
    for count in [3, 10, 100, 1_000] {
        let names: Vec<_> = (0..count)
            .map(|n| (name(seed, n), 1 + remix(n as u64) as u32 % 3))
            .collect();
        let keys: Vec<_> = (0..6_000).map(|n| remix(seed.wrapping_add(n))).collect();
        let mut points = RingPoints::default();
        let before = assign(&mut points, &names, &keys);
        let changed = (seed % count as u64) as usize;
        let (one, weight) = names[changed];
        let removed: Vec<_> = names.iter().copied().filter(|(n, _)| *n != one).collect();
        let mut grown = names.clone();
        grown[changed].1 = weight + 2;
        for (what, other) in [("removed", removed), ("grown", grown)] {
            let after = assign(&mut points, &other, &keys);
            for (from, to) in before.iter().zip(&after).filter(|(from, to)| from != to) {
                let only = if what == "removed" { from } else { to };
                assert_eq!(*only, one, "{what} of {count}");
            }
            // A ring that never had the other names gives the same result: it does not depend on history.
            assert_eq!(after, assign(&mut RingPoints::default(), &other, &keys));
            // If the name is added again, it takes the same keys.
            assert_eq!(before, assign(&mut points, &names, &keys));
        }
    }
}

#[test]
fn name_that_is_not_ready_is_as_good_as_absent() {
    let seed = seed();
    let names: Vec<_> = (0..40).map(|n| (name(seed, n), 1)).collect();
    let keys: Vec<_> = (0..2000).map(|n| remix(seed ^ n)).collect();
    for ready in [39, 20, 5, 1] {
        let mut all = members(&names);
        for member in &mut all[ready..] {
            member.place = None;
        }
        let ring = RingPoints::default().prepare(&all, 0);
        let candidates = fakes(&names[..ready]);
        let only = assign(&mut RingPoints::default(), &names[..ready], &keys);
        for (key, expected) in keys.iter().zip(only) {
            let picked = ring.pick(&candidates, by_key(*key), &[]).unwrap();
            assert_eq!(names[picked].0, expected);
        }
    }
    let mut nobody = members(&names);
    nobody.iter_mut().for_each(|member| member.place = None);
    let ring = RingPoints::default().prepare(&nobody, 125);
    assert_eq!(ring.pick::<Fake>(&[], by_key(seed), &[]), None);
}

#[test]
fn growing_pool_has_few_layers_and_forgets_removed_names() {
    let names: Vec<_> = (0..300).map(|n| (name(7, n), 1)).collect();
    let mut points = RingPoints::default();
    for count in 1..=names.len() {
        points.prepare(&members(&names[..count]), 0);
    }
    assert!(points.rings[0].layers.len() <= 4);
    let left = &names[..3];
    points.prepare(&members(left), 0);
    assert!(points.count() <= 2 * left.len() + POINTS as usize);
    // No points are computed if only readiness changes.
    let (one, other) = (points.prepare(&members(left), 0), {
        let mut ready = members(left);
        ready[0].place = None;
        points.prepare(&ready, 0)
    });
    assert!(Arc::ptr_eq(&one.rings, &other.rings));
}

#[test]
fn two_of_one_name_both_get_requests() {
    let mut all = members(&[(5, 1), (6, 1), (5, 1)]);
    let ring = RingPoints::default().prepare(&all, 0);
    let candidates = fakes(&[(5, 1), (6, 1), (5, 1)]);
    let mut counts = [0; 3];
    for n in 0..3000 {
        counts[ring.pick(&candidates, by_key(remix(n)), &[]).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| *count > 800), "{counts:?}");
    // The draining backend keeps nothing from the one that has taken over its name.
    all[0].place = None;
    all[2].place = Some(0);
    let after = RingPoints::default().prepare(&all, 0);
    let before = RingPoints::default().prepare(&members(&[(5, 1), (6, 1)]), 0);
    let same = fakes(&[(5, 1), (6, 1)]);
    for n in 0..1000 {
        let key = by_key(remix(n));
        let expected = before.pick(&same, key, &[]);
        all[1].place = Some(1);
        assert_eq!(after.pick(&same, key, &[]), expected);
    }
}

#[test]
fn load_is_bounded_by_the_part_of_each_weight() {
    let seed = seed();
    for count in [4, 50] {
        let names: Vec<_> = (0..count)
            .map(|n| (name(seed, n), 1 + n as u32 % 2))
            .collect();
        let ring = RingPoints::default().prepare(&members(&names), 125);
        let mut candidates = fakes(&names);
        let total: u32 = names.iter().map(|(_, weight)| weight).sum();
        // All requests have one key, and none ever ends.
        for requests in 1..=400_u32 {
            let input = PickInput {
                random: remix(u64::from(requests)),
                ..by_key(seed)
            };
            let picked = ring.pick(&candidates, input, &[]).unwrap();
            candidates[picked].in_flight += 1;
            let (load, weight) = (candidates[picked].in_flight, candidates[picked].weight);
            let bound = (1.25 * f64::from(requests * weight) / f64::from(total)).ceil();
            assert!(f64::from(load) <= bound, "{load} of {requests}");
        }
    }
    // Without a bound, all requests go to one candidate.
    let names = [(1, 1), (2, 1)];
    let ring = RingPoints::default().prepare(&members(&names), 0);
    let mut candidates = fakes(&names);
    let first = ring.pick(&candidates, by_key(seed), &[]).unwrap();
    candidates[first].in_flight = 1000;
    assert_eq!(ring.pick(&candidates, by_key(seed), &[]), Some(first));
}
