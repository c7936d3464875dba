//! The points of names on the circle, kept from one snapshot to the next.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::{ABSENT, HashRing, POINTS};
use crate::core::balance::remix;

/// Number of bits of a point that hold the number of its name; the other bits hold its position.
const NUMBER_BITS: u32 = 24;

/// Number of positions on the circle.
const CIRCLE: u64 = 1 << (64 - NUMBER_BITS);

/// Factor for distances, for a weight of 1.
const SCALE: u64 = 1 << NUMBER_BITS;

/// A layer that is less than this factor smaller than the one below it is merged with it: so a pool that grows name
/// by name has few layers, and each point is moved only a few times.
const GROWTH: usize = 8;

/// If fewer than one in this many names are ready, the ready ones get points of their own: skipping the others would
/// take too long.
const CROWD: usize = 16;

/// A name of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingMember {
    /// Hash of the name.
    pub name: u64,
    /// Weight. 0: no requests.
    pub weight: u32,
    /// Index of its candidate; `None`: it is not ready.
    pub place: Option<u32>,
}

impl RingMember {
    /// Returns a hash of its name and weight: a name with another weight is on another circle.
    fn identity(&self) -> u64 {
        remix(self.name ^ (u64::from(self.weight) << 32))
    }
}

/// Hasher for numbers that are hashes already: returns them unchanged.
#[derive(Debug, Default)]
struct HashedKey(u64);

impl Hasher for HashedKey {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Keys are whole numbers, which are passed to `write_u64`.
        for byte in bytes {
            self.0 = remix(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// The points of all names of a pool.
#[derive(Debug, Default)]
pub struct RingPoints {
    /// By weight: names with the same weight are on the same circle.
    pub(super) rings: Vec<ScaledRing>,
    /// Maps the identity of a name and its weight to its number.
    numbers: HashMap<u64, u32, BuildHasherDefault<HashedKey>>,
    /// Copy of `rings` that is shared with snapshots; `None` after a change.
    shared: Option<Arc<[ScaledRing]>>,
}

/// The points of all names of one weight.
#[derive(Debug, Clone)]
pub(super) struct ScaledRing {
    weight: u32,
    /// Factor for distances: the larger the weight, the smaller it is.
    pub(super) scale: u64,
    /// From the largest layer on.
    pub(super) layers: Vec<Arc<RingLayer>>,
}

/// Points in the order of the circle.
#[derive(Debug)]
pub(super) struct RingLayer {
    /// Position and number of each point, combined.
    points: Box<[u64]>,
    /// For the upper bits of a position: the index of the first point from there on.
    starts: Box<[u32]>,
    /// Number of bits by which a position is shifted to get an index of `starts`.
    shift: u32,
}

impl RingPoints {
    /// Returns a ring for picks among the `members` that have a candidate. Points of new members are computed; points
    /// of names that are gone are removed once they outnumber the others. `load`: see [`HashRing`].
    pub fn prepare(&mut self, members: &[RingMember], load: u32) -> HashRing {
        let ready = members.iter().filter(|member| member.place.is_some());
        if ready.clone().count() * CROWD < members.len() {
            let ready: Vec<_> = ready.copied().collect();
            return RingPoints::default().prepare(&ready, load);
        }
        self.add(members);
        if self.numbers.len() > 2 * members.len() + POINTS as usize {
            *self = Self::default();
            self.add(members);
        }
        let mut places = vec![ABSENT; self.numbers.len()];
        let mut namesakes = self.place(members, &mut places);
        while !namesakes.is_empty() {
            self.add(&namesakes);
            places.resize(self.numbers.len(), ABSENT);
            namesakes = self.place(&namesakes, &mut places);
        }
        let rings = match &self.shared {
            Some(shared) => shared.clone(),
            None => self.shared.insert(self.rings.as_slice().into()).clone(),
        };
        HashRing {
            rings,
            places: places.into(),
            load,
        }
    }

    /// Returns the number of names that have points.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.numbers.len()
    }

    /// Notes the candidates of members. If two are ready under one name, the second would get no requests, so it is
    /// returned under another name.
    fn place(&self, members: &[RingMember], places: &mut [u32]) -> Vec<RingMember> {
        let mut namesakes = Vec::new();
        for member in members.iter().filter(|member| member.weight > 0) {
            let Some(place) = member.place else {
                continue;
            };
            let Some(number) = self.numbers.get(&member.identity()) else {
                continue;
            };
            let slot = &mut places[*number as usize];
            match *slot {
                ABSENT => *slot = place,
                _ => namesakes.push(RingMember {
                    name: remix(member.name),
                    ..*member
                }),
            }
        }
        namesakes
    }

    /// Computes points for members that have none.
    fn add(&mut self, members: &[RingMember]) {
        let mut fresh: HashMap<u32, Vec<(u64, u32)>> = HashMap::new();
        for member in members.iter().filter(|member| member.weight > 0) {
            let number = self.numbers.len() as u32;
            self.numbers.entry(member.identity()).or_insert_with(|| {
                let names = fresh.entry(member.weight).or_default();
                names.push((member.name, number));
                number
            });
        }
        for (weight, names) in fresh {
            self.shared = None;
            let at = self.rings.iter().position(|ring| ring.weight == weight);
            let at = at.unwrap_or_else(|| {
                self.rings.push(ScaledRing {
                    weight,
                    scale: (SCALE / u64::from(weight)).max(1),
                    layers: Vec::new(),
                });
                self.rings.len() - 1
            });
            self.rings[at].add(&names);
        }
    }
}

impl ScaledRing {
    fn add(&mut self, names: &[(u64, u32)]) {
        let mut points: Vec<u64> = names
            .iter()
            .flat_map(|(name, number)| {
                let of = u64::from(*number);
                (0..POINTS).map(move |point| spread(*name, point) << NUMBER_BITS | of)
            })
            .collect();
        points.sort_unstable();
        while let Some(last) = self
            .layers
            .pop_if(|last| last.points.len() < points.len() * GROWTH)
        {
            points = merge(&last.points, &points);
        }
        self.layers.push(Arc::new(RingLayer::new(points)));
    }
}

impl RingLayer {
    fn new(points: Vec<u64>) -> Self {
        // One or two points in each cell: there are few to skip, and the index takes half as many bytes as the
        // points.
        let bits = points.len().max(1).ilog2();
        let shift = CIRCLE.ilog2() - bits;
        let mut starts = Vec::with_capacity(1 << bits);
        for (index, point) in points.iter().enumerate() {
            let cell = (point >> NUMBER_BITS) >> shift;
            while starts.len() as u64 <= cell {
                starts.push(index as u32);
            }
        }
        starts.resize(1 << bits, points.len() as u32);
        Self {
            points: points.into(),
            starts: starts.into(),
            shift,
        }
    }

    /// Returns every point once, from `spot` around the circle: its distance, and the number of its name.
    #[inline(always)]
    pub(super) fn from(&self, spot: u64) -> PointWalk<'_> {
        let least = spot << NUMBER_BITS;
        let mut next = self.starts[(spot >> self.shift) as usize] as usize;
        while self.points.get(next).is_some_and(|point| *point < least) {
            next += 1;
        }
        PointWalk {
            points: &self.points,
            next,
            left: self.points.len(),
            spot,
        }
    }

    /// Returns the distance of each point from the one before it, as a fraction of the circle, and the number of its
    /// name.
    #[cfg(test)]
    pub(super) fn gaps(&self) -> impl Iterator<Item = (f64, usize)> {
        let last = self.points.last().copied().unwrap_or_default() >> NUMBER_BITS;
        let mut before = last as f64 - CIRCLE as f64;
        self.points.iter().map(move |point| {
            let place = (point >> NUMBER_BITS) as f64;
            let gap = (place - before) / CIRCLE as f64;
            before = place;
            (gap, (point & (SCALE - 1)) as usize)
        })
    }
}

/// Iterator along the circle: see [`RingLayer::from`].
pub(super) struct PointWalk<'l> {
    points: &'l [u64],
    next: usize,
    left: usize,
    spot: u64,
}

impl Iterator for PointWalk<'_> {
    type Item = (u64, usize);

    #[inline(always)]
    fn next(&mut self) -> Option<(u64, usize)> {
        self.left = self.left.checked_sub(1)?;
        let point = match self.points.get(self.next) {
            Some(point) => *point,
            None => {
                self.next = 0;
                *self.points.first()?
            }
        };
        self.next += 1;
        // Positions begin anew after the end of the circle.
        let distance = (point >> NUMBER_BITS).wrapping_sub(self.spot) % CIRCLE;
        Some((distance, (point & (SCALE - 1)) as usize))
    }
}

/// Returns the position of point number `nth` of a name or key.
#[inline]
pub(super) fn spread(hash: u64, nth: u64) -> u64 {
    remix(hash ^ nth.wrapping_mul(0xd6e8_feb8_6659_fd93)) >> NUMBER_BITS
}

/// Merges two sorted lists.
fn merge(one: &[u64], other: &[u64]) -> Vec<u64> {
    let mut merged = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    while let (Some(a), Some(b)) = (one.peek(), other.peek()) {
        let next = if a <= b { one.next() } else { other.next() };
        merged.extend(next);
    }
    merged.extend(one);
    merged.extend(other);
    merged
}
