//! The points of names on the circle, kept from one snapshot to the next.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::{ABSENT, HashRing, POINTS};
use crate::core::balance::remix;

/// Bits of a point that say whose it is; the others say where it is.
const NUMBER_BITS: u32 = 24;

/// Places on the circle.
const CIRCLE: u64 = 1 << (64 - NUMBER_BITS);

/// What distances are multiplied by, for a weight of 1.
const SCALE: u64 = 1 << NUMBER_BITS;

/// A layer that is smaller than the one below it by less than this factor is merged with it: a pool that grows name by
/// name has few layers, and each point is moved a few times.
const GROWTH: usize = 8;

/// Where fewer than one of so many names are ready, they get points of their own: the way past the others is too long.
const CROWD: usize = 16;

/// A name of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingMember {
    /// Its hash.
    pub name: u64,
    /// Its share. 0: none.
    pub weight: u32,
    /// The index of its candidate; `None`: it is not ready.
    pub place: Option<u32>,
}

impl RingMember {
    /// A number for its name and its weight: with another weight, it stands on another circle.
    fn identity(&self) -> u64 {
        remix(self.name ^ (u64::from(self.weight) << 32))
    }
}

/// Takes a number that is a hash already as it is.
#[derive(Debug, Default)]
struct HashedKey(u64);

impl Hasher for HashedKey {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Keys are whole numbers, and come by `write_u64`.
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
    /// By weight: names with the same one are on the same circle.
    pub(super) rings: Vec<ScaledRing>,
    /// By what a name and its weight make together: its number.
    numbers: HashMap<u64, u32, BuildHasherDefault<HashedKey>>,
    /// `rings`, as snapshots share it; `None` after a change.
    shared: Option<Arc<[ScaledRing]>>,
}

/// The points of all names of one weight.
#[derive(Debug, Clone)]
pub(super) struct ScaledRing {
    weight: u32,
    /// What a distance is multiplied by: the heavier, the nearer.
    pub(super) scale: u64,
    /// The largest first.
    pub(super) layers: Vec<Arc<RingLayer>>,
}

/// Points in the order of the circle.
#[derive(Debug)]
pub(super) struct RingLayer {
    /// Place and number in one.
    points: Box<[u64]>,
    /// By the upper bits of a place: the first point from there on.
    starts: Box<[u32]>,
    /// How far a place is shifted to be an index of `starts`.
    shift: u32,
}

impl RingPoints {
    /// A ring for picks among those of `members` that have a place. Points of members that it doesn't know yet are made;
    /// those of names that are no longer there go when they are more than the others. `load`: see [`HashRing`].
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

    /// How many names have points.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.numbers.len()
    }

    /// Notes the places of members. Of two that are ready under one name, the second would have no requests: it is given
    /// back under another one.
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

    /// Makes points for those that have none.
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
        // One or two points in each cell: few to pass over, and half as many bytes as the points have.
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

    /// Every point once, from `spot` on and around: its distance, and whose it is.
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

    /// How far each point is from the one before it, as a part of the circle, and whose it is.
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

/// A way along the circle: see [`RingLayer::from`].
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
        // Behind the circle's end, places begin anew.
        let distance = (point >> NUMBER_BITS).wrapping_sub(self.spot) % CIRCLE;
        Some((distance, (point & (SCALE - 1)) as usize))
    }
}

/// The place number `nth` of a name or key.
#[inline]
pub(super) fn spread(hash: u64, nth: u64) -> u64 {
    remix(hash ^ nth.wrapping_mul(0xd6e8_feb8_6659_fd93)) >> NUMBER_BITS
}

/// Two sorted lists as one.
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
