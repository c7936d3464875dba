//! The buckets of many keys in a table of a fixed size.
//!
//! A key is a number: the caller has hashed it with a secret, so that a client can't choose its place. Each key
//! belongs to one row of the table. If a row is full, the key whose bucket is full first is forgotten: if the bucket
//! was full already, nothing is lost; otherwise that key begins anew, and may send a burst earlier than its rate
//! allows. So a flood of keys makes limits less strict, but refuses no request.

use super::{FillTime, RateRule, RateVerdict};
use crate::core::Time;

/// Keys per row.
const ROW: usize = 8;

/// A key, the time at which its bucket is full, and the fraction of that time. Zeros: unused.
type Slot = [u64; 3];

/// Memory per key, in bytes.
pub const SLOT_SIZE: usize = size_of::<Slot>();

/// A bucket that is not full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenBucket {
    /// Key of the bucket.
    pub key: u64,
    /// Time at which it will be full, to the nanosecond.
    pub full_at: Time,
}

/// Buckets by key. The memory is allocated at once, and used as keys come.
#[derive(Debug)]
pub struct RateTable {
    slots: Vec<Slot>,
    rows: usize,
    forgotten: u64,
}

impl RateTable {
    /// Creates a table for `rows` times eight keys; at least one row.
    pub fn new(rows: usize) -> Self {
        let rows = rows.max(1);
        Self {
            slots: vec![[0; 3]; rows * ROW],
            rows,
            forgotten: 0,
        }
    }

    /// Takes a request of this key out of its bucket.
    pub fn take(&mut self, key: u64, rule: &RateRule, now: Time) -> RateVerdict {
        let slot = self.slot(key, now);
        let mut full_at = FillTime {
            nanos: slot[1],
            part: slot[2] as u32,
        };
        let verdict = rule.take(&mut full_at, now);
        *slot = [key, full_at.nanos, full_at.part.into()];
        verdict
    }

    /// Returns a key's slot; a new key may replace another one.
    fn slot(&mut self, key: u64, now: Time) -> &mut Slot {
        // The low bits choose a table, if there are several.
        let first = (key >> 16) as usize % self.rows * ROW;
        let row = &mut self.slots[first..first + ROW];
        let place = match row.iter().position(|slot| slot[0] == key) {
            Some(place) => place,
            None => {
                let (place, oldest) = row
                    .iter()
                    .enumerate()
                    .min_by_key(|(_, slot)| slot[1])
                    .map_or((0, 0), |(place, slot)| (place, slot[1]));
                if u128::from(oldest) > now.as_nanos() {
                    self.forgotten += 1;
                }
                row[place] = [key, 0, 0];
                place
            }
        };
        &mut row[place]
    }

    /// Returns the buckets that are not full now.
    pub fn open(&self, now: Time) -> impl Iterator<Item = OpenBucket> + '_ {
        let slots = self.slots.iter();
        let open = slots.filter(move |slot| u128::from(slot[1]) > now.as_nanos());
        open.map(|slot| OpenBucket {
            key: slot[0],
            full_at: Time::from_nanos(slot[1]),
        })
    }

    /// Merges a bucket from another table: requests that have passed in either count.
    pub fn add(&mut self, bucket: OpenBucket, now: Time) {
        let missing = bucket.full_at.saturating_sub(now).as_nanos();
        let Some(missing) = u64::try_from(missing).ok().filter(|missing| *missing > 0) else {
            return;
        };
        let now_nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let slot = self.slot(bucket.key, now);
        if slot[1] < now_nanos {
            (slot[1], slot[2]) = (now_nanos, 0);
        }
        slot[1] = slot[1].saturating_add(missing);
    }

    /// Returns how many keys had to begin anew for lack of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}
