//! Conversion of shares of a split to weights.

/// The whole: shares are in percent with two decimals.
pub const SHARE_WHOLE: u32 = 10_000;

/// Returns the share of a pool by weights, out of [`SHARE_WHOLE`]; 0 if all weights are 0.
pub fn share_of(weights: &[u32], pool: usize) -> f64 {
    let all: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let own = weights.get(pool).copied().unwrap_or(0);
    match all {
        0 => 0.0,
        all => f64::from(own) * f64::from(SHARE_WHOLE) / all as f64,
    }
}

/// Returns the weights that give `share` to `target`, and the rest to the others in proportion to their weights in
/// `before`; in proportion to `otherwise`, if these are all 0; else in equal parts.
pub(super) fn weights(before: &[u32], otherwise: &[u32], target: usize, share: u32) -> Vec<u32> {
    let share = share.min(SHARE_WHOLE);
    let parts_of = |weights: &[u32]| -> Vec<u64> {
        let places = 0..before.len();
        let part = |place| match place == target {
            true => 0,
            false => u64::from(weights.get(place).copied().unwrap_or(0)),
        };
        places.map(part).collect()
    };
    let equal = vec![1; before.len()];
    let candidates = [before, otherwise, &equal].map(parts_of);
    let parts = candidates
        .into_iter()
        .find(|parts| parts.iter().sum::<u64>() > 0);
    // A split of one pool has no others.
    let parts = parts.unwrap_or_else(|| vec![0; before.len()]);
    let all = parts.iter().sum::<u64>().max(1);
    let rest = u64::from(SHARE_WHOLE - share);
    let (mut passed, mut given) = (0, 0);
    let mut weights: Vec<u32> = Vec::with_capacity(before.len());
    for (place, part) in parts.into_iter().enumerate() {
        if place == target {
            weights.push(share);
            continue;
        }
        // Rounds the running total, so that the sum is exact.
        passed += part;
        let until = rest * passed / all;
        weights.push((until - given) as u32);
        given = until;
    }
    // Whole percents are easier to read.
    const PERCENT: u32 = SHARE_WHOLE / 100;
    if weights.iter().all(|weight| weight % PERCENT == 0) {
        weights.iter_mut().for_each(|weight| *weight /= PERCENT);
    }
    weights
}
