//! Choice of one of several pools for a request, by weight: at random, or always the same for one key.

/// Chooses at random. `random` is a fresh random number. `None`: all weights are 0.
pub fn by_chance(weights: &[u32], random: u64) -> Option<usize> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    // Scales the upper half of `random`, whose 32 bits are enough: a sum of 16 weights has 24 bits.
    let mut mark = ((random >> 32) * total) >> 32;
    for (index, weight) in weights.iter().enumerate() {
        let weight = u64::from(*weight);
        if mark < weight {
            return Some(index);
        }
        mark -= weight;
    }
    None
}

/// Chooses always the same for one key, as long as the weights stay: each share draws a number of its own from the
/// key, and the best for its weight wins (weighted rendezvous hashing: Thaler and Ravishankar; Schindelhauer and
/// Schomaker). If a weight grows, keys move only to that share, and if one shrinks, they move only away from that
/// share.
///
/// A share is the hash of its name, and its weight. `None`: all weights are 0.
pub fn for_key(shares: impl IntoIterator<Item = (u64, u32)>, key: u64) -> Option<usize> {
    let shares = shares.into_iter().enumerate();
    let weighed = shares.filter(|(_, (_, weight))| *weight > 0);
    let drawn = weighed.map(|(index, (name, weight))| {
        let drawn = mix(key ^ mix(name));
        // In (0, 1): never 0, which has no logarithm.
        let uniform = ((drawn >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        (index, -uniform.ln() / f64::from(weight))
    });
    let best = drawn.min_by(|(_, one), (_, other)| one.total_cmp(other));
    best.map(|(index, _)| index)
}

/// Returns a hash that is the same in each process and each version, so that several proxies agree (FNV-1a, then
/// mixed).
pub fn hash(bytes: &[u8]) -> u64 {
    let hashed = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(hashed)
}

/// The finaliser of splitmix64.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u64 = 200_000;

    fn names() -> [u64; 3] {
        ["api", "api-next", "api-old"].map(|name| hash(name.as_bytes()))
    }

    fn key(number: u64) -> u64 {
        hash(format!("client {number}").as_bytes())
    }

    /// Asserts that `count` is within four standard deviations of the expected share.
    fn assert_share(count: u64, weight: u32, total: u32) {
        let expected = f64::from(weight) / f64::from(total);
        let deviation = (expected * (1.0 - expected) / DRAWS as f64).sqrt();
        let share = count as f64 / DRAWS as f64;
        assert!(
            (share - expected).abs() <= 4.0 * deviation + f64::EPSILON,
            "{share} instead of {expected}"
        );
    }

    #[test]
    fn requests_and_keys_are_spread_by_weight() {
        for weights in [
            [95, 5, 0],
            [1, 1, 1],
            [1_000_000, 1, 0],
            [0, 0, 7],
            [50, 30, 20],
        ] {
            let total = weights.iter().sum();
            let (mut chance, mut keyed) = ([0; 3], [0; 3]);
            let mut random = 7_u64;
            for number in 0..DRAWS {
                random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                chance[by_chance(&weights, mix(random)).unwrap()] += 1;
                let shares = names().into_iter().zip(weights);
                keyed[for_key(shares, key(number)).unwrap()] += 1;
            }
            for index in 0..3 {
                assert_share(chance[index], weights[index], total);
                assert_share(keyed[index], weights[index], total);
            }
        }
    }

    #[test]
    fn nothing_is_chosen_where_all_weights_are_zero() {
        assert_eq!(by_chance(&[0, 0], u64::MAX), None);
        assert_eq!(by_chance(&[], 0), None);
        assert_eq!(for_key([(1, 0)], 5), None);
        assert_eq!(by_chance(&[0, 3, 0], u64::MAX), Some(1));
        assert_eq!(by_chance(&[1_000_000; 16], u64::MAX), Some(15));
    }

    /// Stickiness while weights are moved: a client that changes pools goes to one whose weight has grown.
    #[test]
    fn moved_weight_moves_only_the_keys_that_it_has_to() {
        let choose = |weights: [u32; 3], number| {
            for_key(names().into_iter().zip(weights), key(number)).unwrap()
        };
        let (before, after) = ([90, 10, 20], [90, 60, 20]);
        let mut moved = 0;
        for number in 0..20_000 {
            let (from, to) = (choose(before, number), choose(after, number));
            if from != to {
                assert_eq!(to, 1, "only the one that has grown takes any");
                moved += 1;
            }
        }
        // From 10 of 120 to 60 of 170: 27 % of all.
        assert!((5000..6000).contains(&moved), "{moved}");
    }

    #[test]
    fn hash_is_the_same_in_each_version() {
        assert_eq!(hash(b""), 0xf52a_15e9_a9b5_e89b);
        assert_ne!(hash(b"a"), hash(b"b"));
    }
}
