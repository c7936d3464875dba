//! Balancing by hash: requests with the same key go to the same candidate, as long as it is there.
//!
//! Each name has `POINTS` points on a circle. For a key, `PROBES` pseudo-random spots on the circle are examined, and
//! the key goes to the name whose point follows one of these spots most closely, with distances divided by the name's
//! weight (multi-probe consistent hashing: Appleton and O'Reilly; weights as in weighted rendezvous hashing).
//! Consequences:
//!
//! - The choice depends only on names and weights: not on addresses, on the order of names, or on the process. So
//!   several proxies agree.
//! - The keys of a removed name go to all others, and no other key moves; an added name takes keys, and moves no
//!   others. The same holds if a weight grows or shrinks.
//! - A name's share corresponds to its weight, within some 4 %. A ring with a single probe would need 60 times as
//!   many points for that.
//!
//! A name that is not ready, excluded by a retry or full is skipped, exactly as if it were not there. So the points
//! of all names are kept from one snapshot to the next, in [`RingPoints`], and a change of readiness costs one number
//! for each name.
//!
//! Load is bounded (consistent hashing with bounded loads: Mirrokni, Thorup and Zadimoghaddam): a candidate whose
//! requests in flight exceed its share, times the bound, is skipped, too.

mod points;

use std::sync::Arc;

use super::{BalanceCandidate, PickInput, below, remix};
use points::{RingLayer, ScaledRing, spread};
pub use points::{RingMember, RingPoints};

/// Points of each name. More points, or more probes, make shares more even: their standard deviation is about the
/// square root of `1 / (2 * POINTS * PROBES)`, which is 0.8 %. The worst of 10,000 names is five times that off.
const POINTS: u64 = 256;

/// Spots that are examined for a key. Each costs at most two cache misses, which don't wait for each other.
const PROBES: usize = 32;

/// Most candidates whose load is added up; above that, the total is estimated from a sample of this size.
const SUMMED: usize = 64;

/// The names of one pool, ready for picks among the candidates of one snapshot.
#[derive(Debug, Clone)]
pub struct HashRing {
    rings: Arc<[ScaledRing]>,
    /// For each number of a name: the index of its candidate, or [`ABSENT`].
    places: Box<[u32]>,
    /// Most requests in flight of a candidate, in percent of its share; 0: no bound.
    load: u32,
}

/// Marks a name without a candidate.
const ABSENT: u32 = u32::MAX;

impl HashRing {
    /// Returns the candidate for the key; if that one is excluded or overloaded, the best of the others.
    pub(super) fn pick<C: BalanceCandidate>(
        &self,
        candidates: &[C],
        input: PickInput,
        excluded: &[usize],
    ) -> Option<usize> {
        let usable = |index: usize| {
            index < candidates.len() && candidates[index].weight() > 0 && !excluded.contains(&index)
        };
        // This is almost always the result.
        let first = self.find(input.key, |_| true)?;
        let first = match usable(first) {
            true => first,
            false => self.find(input.key, usable)?,
        };
        if self.load == 0 || candidates[first].in_flight() == 0 {
            return Some(first);
        }
        let bound = LoadBound::new(candidates, self.load, input.random);
        if bound.has_room(&candidates[first]) {
            return Some(first);
        }
        let free = |index: usize| usable(index) && bound.has_room(&candidates[index]);
        // If the load was estimated, possibly no candidate has room.
        self.find(input.key, free).or(Some(first))
    }

    /// Returns the `usable` candidate whose name follows one of the key's spots most closely.
    fn find(&self, key: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        // Hashed once, whatever the number of rings and layers.
        let mut spots = [0; PROBES];
        for (nth, spot) in spots.iter_mut().enumerate() {
            *spot = spread(key, nth as u64);
        }
        let (mut nearest, mut best) = (u64::MAX, None);
        for ring in self.rings.iter() {
            for layer in &ring.layers {
                for spot in spots {
                    if let Some((distance, index)) =
                        self.follow(layer, ring.scale, spot, nearest, &usable)
                    {
                        (nearest, best) = (distance, Some(index));
                    }
                }
            }
        }
        best
    }

    /// Returns the first usable candidate from a spot on, if it is nearer than `limit`. The first point almost always
    /// shows that it isn't.
    #[inline(always)]
    fn follow(
        &self,
        layer: &RingLayer,
        scale: u64,
        spot: u64,
        limit: u64,
        usable: &impl Fn(usize) -> bool,
    ) -> Option<(u64, usize)> {
        for (distance, number) in layer.from(spot) {
            let distance = distance.saturating_mul(scale);
            if distance >= limit {
                return None;
            }
            let place = self.places.get(number).copied().unwrap_or(ABSENT);
            if place != ABSENT && usable(place as usize) {
                return Some((distance, place as usize));
            }
        }
        None
    }
}

/// The limit on a candidate's requests in flight, including this one.
struct LoadBound {
    /// Requests in flight on all candidates, including this one, times the bound in percent.
    allowed: u64,
    /// Sum of the weights.
    weights: u64,
}

impl LoadBound {
    fn new<C: BalanceCandidate>(candidates: &[C], load: u32, random: u64) -> Self {
        let count = candidates.len();
        let (mut in_flight, mut weights) = (0_u64, 0_u64);
        let mut add = |candidate: &C| {
            in_flight += u64::from(candidate.in_flight());
            weights += u64::from(candidate.weight());
        };
        if count <= SUMMED {
            candidates.iter().for_each(&mut add);
        } else {
            let mut random = random;
            for _ in 0..SUMMED {
                add(&candidates[below(random, count)]);
                random = remix(random);
            }
        }
        Self {
            allowed: (in_flight + 1) * u64::from(load),
            weights: weights.max(1) * 100,
        }
    }

    /// Whether the candidate has room for one more request. Rounded up, so that at any load some candidate has room.
    fn has_room<C: BalanceCandidate>(&self, candidate: &C) -> bool {
        let most = (u128::from(self.allowed) * u128::from(candidate.weight()))
            .div_ceil(u128::from(self.weights));
        u128::from(candidate.in_flight()) < most
    }
}

#[cfg(test)]
mod tests;
