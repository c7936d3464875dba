//! The buckets of many keys in a table of a fixed size.
//!
//! A key is a number: whoever asks has hashed it with a secret, so nobody can choose where it is kept. It has a place in
//! one row of the table. Where a row is full, the key whose bucket is full first is forgotten: if it was full already,
//! nothing is lost; otherwise that key begins anew, and may send a burst earlier than its rate allows. So a flood of keys
//! makes limits laxer, and refuses nobody.

use super::{FillTime, RateRule, RateVerdict};
use crate::core::Time;

/// Keys in a row.
const ROW: usize = 8;

/// A key, the time at which its bucket is full, and that time's fraction. Zeros: nobody's.
type Slot = [u64; 3];

/// What a key costs, in bytes.
pub const SLOT_SIZE: usize = size_of::<Slot>();

/// Buckets by key. Its memory is asked for at once and used as keys come.
#[derive(Debug)]
pub struct RateTable {
    slots: Vec<Slot>,
    rows: usize,
    forgotten: u64,
}

impl RateTable {
    /// A table for `rows` times eight keys; at least one row.
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
        // The low bits choose a table, where there are several.
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
        let slot = &mut row[place];
        let mut full_at = FillTime {
            nanos: slot[1],
            part: slot[2] as u32,
        };
        let verdict = rule.take(&mut full_at, now);
        *slot = [key, full_at.nanos, full_at.part.into()];
        verdict
    }

    /// Keys that had to begin anew for want of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}
