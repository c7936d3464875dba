//! By hash: requests of one key meet the same candidate, as long as it is there.
//!
//! Each name has `POINTS` places on a circle. A key looks at `PROBES` of them, in a scatter of its own, and takes the
//! name that follows one of these most closely, its distance divided by the name's weight (multi-probe consistent
//! hashing: Appleton and O'Reilly; by weight as in weighted rendezvous hashing). What follows from that:
//!
//! - The choice depends on names and weights alone: not on addresses, on the order in which they came, or on the process.
//!   Several proxies agree.
//! - A name that goes loses its keys to all others, and no other key moves; one that comes takes keys, and moves no other.
//!   The same holds for a weight that grows or shrinks.
//! - A name's share is that of its weight, within some 4 %. A ring that has only points needs 60 times as many for that.
//!
//! A name that is not ready, that a retry excludes or that is full is passed over, exactly as if it were not there. So the
//! points of all names are kept from one snapshot to the next, in [`RingPoints`], and a change of who is ready costs one
//! number for each name.
//!
//! Load is bounded (consistent hashing with bounded loads: Mirrokni, Thorup and Zadimoghaddam): a candidate that has more
//! than its part of what is in flight, times the bound, is passed over, too.

mod points;

use std::sync::Arc;

use super::{BalanceCandidate, PickInput, below, remix};
use points::{RingLayer, ScaledRing, spread};
pub use points::{RingMember, RingPoints};

/// Places of each name. More of them, or more probes, make shares more even: their standard deviation is about the root of
/// `1 / (2 * POINTS * PROBES)`, which is 0.8 %. The worst of 10,000 is five times that off.
const POINTS: u64 = 256;

/// Places that a key looks at. One costs two cache misses at worst, which don't wait for each other.
const PROBES: usize = 32;

/// Up to this many candidates, the load of all is summed up; above that, the load of so many is taken for all.
const SUMMED: usize = 64;

/// The names of one pool, ready for picks among those of one snapshot.
#[derive(Debug, Clone)]
pub struct HashRing {
    rings: Arc<[ScaledRing]>,
    /// By the number of a name: the index of its candidate, or [`ABSENT`].
    places: Box<[u32]>,
    /// How much more than its part a candidate may have in flight, in percent; 0: no bound.
    load: u32,
}

/// No candidate.
const ABSENT: u32 = u32::MAX;

impl HashRing {
    /// The candidate for the key; of those that are left, where that is excluded or has too much to do.
    pub(super) fn pick<C: BalanceCandidate>(
        &self,
        candidates: &[C],
        input: PickInput,
        excluded: &[usize],
    ) -> Option<usize> {
        let usable = |index: usize| {
            index < candidates.len() && candidates[index].weight() > 0 && !excluded.contains(&index)
        };
        // As good as always it is this one.
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
        // If the load was estimated, it may be that no candidate has room.
        self.find(input.key, free).or(Some(first))
    }

    /// The candidate whose name follows one of the key's probes most closely, of those that are `usable`.
    fn find(&self, key: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        // Hashed once, whatever number of rings and layers there is.
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

    /// The first usable candidate from a spot on, if it is nearer than `limit`. As good as always, the first point already
    /// says that it isn't.
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

/// How much a candidate may have in flight, with this request.
struct LoadBound {
    /// In flight on all, this request included, times the bound in percent.
    allowed: u64,
    /// Weights of all.
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

    /// Whether it has room for one more. Rounded up, so that at any load some candidate has room.
    fn has_room<C: BalanceCandidate>(&self, candidate: &C) -> bool {
        let most = (u128::from(self.allowed) * u128::from(candidate.weight()))
            .div_ceil(u128::from(self.weights));
        u128::from(candidate.in_flight()) < most
    }
}

#[cfg(test)]
mod tests;
