//! Smooth weighted round robin: a schedule computed in advance, and a cursor of the caller's.
//!
//! Weights 5, 1, 1 give `a a b a c a a`, not `a a a a a b c`: the turns of the heavy candidate are spread over the
//! round.

use super::{BalanceCandidate, around};

/// Most entries of a schedule. Longer rounds are scaled down: with 4096 entries, a share is off by at most 1/4096.
const LONGEST: u64 = 4096;

/// Entries that are examined before any other candidate is taken: only excluded candidates cost further ones.
const LOOKS: usize = 32;

/// One round of turns.
#[derive(Debug, Clone)]
pub struct RoundRobinSchedule(Box<[u32]>);

impl RoundRobinSchedule {
    pub(super) fn new(weights: &[u32]) -> Self {
        let weights = reduce(weights);
        let round: i64 = weights.iter().sum();
        let mut credit = vec![0_i64; weights.len()];
        let mut turns = Vec::with_capacity(usize::try_from(round).unwrap_or_default());
        // At each turn, every candidate's credit grows by its weight; the one with the most credit is picked, and its
        // credit is reduced by the sum of all weights.
        for _ in 0..round {
            let mut richest = 0;
            for index in 0..weights.len() {
                credit[index] += weights[index];
                if credit[index] > credit[richest] {
                    richest = index;
                }
            }
            credit[richest] -= round;
            turns.push(u32::try_from(richest).unwrap_or_default());
        }
        Self(turns.into())
    }

    pub(super) fn pick<C: BalanceCandidate>(
        &self,
        candidates: &[C],
        cursor: u64,
        excluded: &[usize],
    ) -> Option<usize> {
        let start = (cursor % (self.0.len() as u64).max(1)) as usize;
        let usable = |index: &usize| *index < candidates.len() && !excluded.contains(index);
        let mut turns = around(self.0.len(), start).map(|turn| self.0[turn] as usize);
        let found = turns.by_ref().take(LOOKS).find(usable);
        found.or_else(|| {
            let start = if candidates.is_empty() {
                0
            } else {
                cursor as usize % candidates.len()
            };
            let mut rest = around(candidates.len(), start);
            rest.find(|index| candidates[*index].weight() > 0 && usable(index))
        })
    }
}

/// Divides weights by their greatest common divisor, and scales them down to a sum of at most [`LONGEST`]. A weight
/// above 0 stays above 0.
fn reduce(weights: &[u32]) -> Vec<i64> {
    let divisor = weights
        .iter()
        .fold(0, |divisor, weight| gcd(divisor, *weight))
        .max(1);
    let sum: u64 = weights
        .iter()
        .map(|weight| u64::from(weight / divisor))
        .sum();
    let scale = |weight: u32| {
        let weight = u64::from(weight / divisor);
        if sum <= LONGEST {
            weight
        } else {
            (weight * LONGEST / sum).max(u64::from(weight > 0))
        }
    };
    weights
        .iter()
        .map(|weight| i64::try_from(scale(*weight)).unwrap_or_default())
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
