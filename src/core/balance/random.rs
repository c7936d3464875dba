//! Weighted random choice: an alias table is computed in advance (Vose, "A linear algorithm for generating random
//! numbers with a given distribution"), so that a draw costs the same for any number of candidates.

use super::{BalanceCandidate, below, remix};

/// One column per candidate: the probability of staying in it, and the alternative otherwise.
#[derive(Debug, Clone)]
pub struct AliasTable(Box<[Column]>);

#[derive(Debug, Clone, Copy)]
struct Column {
    /// Probability of staying, out of 2^32.
    stay: u64,
    other: usize,
}

impl AliasTable {
    /// Builds the table; empty if all weights are 0.
    pub(super) fn new(weights: &[u32]) -> Self {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        if total == 0 {
            return Self(Box::default());
        }
        // Heights are scaled so that the mean is `total`: a lower column is filled up by a higher one.
        let count = weights.len() as u128;
        let mut height: Vec<u128> = weights
            .iter()
            .map(|weight| u128::from(*weight) * count)
            .collect();
        let full = u128::from(total);
        let (mut low, mut high): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|index| height[*index] < full);
        let mut columns: Vec<Column> = (0..weights.len())
            .map(|index| Column {
                stay: 1 << 32,
                other: index,
            })
            .collect();
        while let (Some(short), Some(tall)) = (low.pop(), high.last().copied()) {
            let stay = (height[short] << 32) / full;
            columns[short] = Column {
                stay: u64::try_from(stay).unwrap_or(1 << 32),
                other: tall,
            };
            height[tall] -= full - height[short];
            if height[tall] < full {
                high.pop();
                low.push(tall);
            }
        }
        Self(columns.into())
    }

    pub(super) fn pick<C: BalanceCandidate>(
        &self,
        candidates: &[C],
        random: u64,
        excluded: &[usize],
    ) -> Option<usize> {
        if !self.0.is_empty() {
            let drawn = below(random, self.0.len());
            let column = self.0[drawn];
            let coin = random & 0xffff_ffff;
            let index = if coin < column.stay {
                drawn
            } else {
                column.other
            };
            if index < candidates.len() && !excluded.contains(&index) {
                return Some(index);
            }
        }
        among_the_rest(candidates, remix(random), excluded)
    }
}

/// Draws among the candidates that are not excluded, by their weights.
fn among_the_rest<C: BalanceCandidate>(
    candidates: &[C],
    random: u64,
    excluded: &[usize],
) -> Option<usize> {
    let left = || {
        let all = candidates.iter().enumerate();
        all.filter(|(index, _)| !excluded.contains(index))
            .map(|(index, candidate)| (index, u64::from(candidate.weight())))
    };
    let total: u64 = left().map(|(_, weight)| weight).sum();
    // All weights are 0.
    let mut mark = random.checked_rem(total)?;
    for (index, weight) in left() {
        if mark < weight {
            return Some(index);
        }
        mark -= weight;
    }
    None
}
