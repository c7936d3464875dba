//! Counters of one backend: plain atomics on the request path, turned into metrics at scrape time.

use std::sync::atomic::{AtomicU64, Ordering};

/// The lowest and highest status that has a counter of its own.
const FIRST: u16 = 100;
const LAST: u16 = 599;

/// What a backend did so far.
#[derive(Debug)]
pub struct Counters {
    codes: Box<[AtomicU64]>,
    requests: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            codes: (FIRST..=LAST).map(|_| AtomicU64::new(0)).collect(),
            requests: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// A request was sent to it.
    pub fn sent(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A request ended with this status.
    pub fn answered(&self, status: u16) {
        if let Some(counter) = self.codes.get(usize::from(status.wrapping_sub(FIRST))) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests sent to it.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The statuses that were seen, with their counts.
    pub fn by_code(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        (FIRST..=LAST)
            .zip(self.codes.iter())
            .filter_map(|(code, counter)| {
                let count = counter.load(Ordering::Relaxed);
                (count > 0).then_some((code, count))
            })
    }
}
