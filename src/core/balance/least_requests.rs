//! Fewest requests in flight per weight.
//!
//! With few candidates, all are compared: exact, and no more expensive than a good random choice. With more, the
//! better of two random candidates is taken: nearly as good, at a constant cost (Mitzenmacher, "The power of two
//! choices in randomized load balancing").

use super::{BalanceCandidate, around, below, remix};

/// Most candidates of which all are compared. 16 loads of an atomic cost at most one or two cache misses each.
const EXACT: usize = 16;

/// Draws for each of the two candidates before all are compared after all: only excluded candidates and those of
/// weight 0 cost further draws.
const DRAWS: usize = 4;

pub(super) fn pick<C: BalanceCandidate>(
    candidates: &[C],
    random: u64,
    excluded: &[usize],
) -> Option<usize> {
    if candidates.len() > EXACT
        && let Some(index) = better_of_two(candidates, random, excluded)
    {
        return Some(index);
    }
    let mut best: Option<(usize, u32, u32)> = None;
    // From a random index on, so that ties are spread.
    for index in around(candidates.len(), below(random, candidates.len())) {
        let Some((load, weight)) = weigh(candidates, index, excluded) else {
            continue;
        };
        if best
            .is_none_or(|(_, best_load, best_weight)| lighter(load, weight, best_load, best_weight))
        {
            best = Some((index, load, weight));
        }
    }
    best.map(|(index, _, _)| index)
}

fn better_of_two<C: BalanceCandidate>(
    candidates: &[C],
    random: u64,
    excluded: &[usize],
) -> Option<usize> {
    let mut random = random;
    let mut draw = |other: Option<usize>| {
        for _ in 0..DRAWS {
            let index = below(random, candidates.len());
            random = remix(random);
            if other != Some(index)
                && let Some((load, weight)) = weigh(candidates, index, excluded)
            {
                return Some((index, load, weight));
            }
        }
        None
    };
    let (first, load, weight) = draw(None)?;
    let Some((second, second_load, second_weight)) = draw(Some(first)) else {
        return Some(first);
    };
    let better = lighter(second_load, second_weight, load, weight);
    Some(if better { second } else { first })
}

fn weigh<C: BalanceCandidate>(
    candidates: &[C],
    index: usize,
    excluded: &[usize],
) -> Option<(u32, u32)> {
    let candidate = &candidates[index];
    let weight = candidate.weight();
    (weight > 0 && !excluded.contains(&index)).then(|| (candidate.in_flight(), weight))
}

/// Compares loads per weight as if the request were already there, so that weights count in an idle pool, too.
fn lighter(load: u32, weight: u32, than_load: u32, than_weight: u32) -> bool {
    let left = (u64::from(load) + 1) * u64::from(than_weight);
    let right = (u64::from(than_load) + 1) * u64::from(weight);
    left < right
}
