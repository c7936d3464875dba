//! Requests as they come, counted for a lame duck that lasts until no more do ([`crate::core::quiet`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::core::Time;

/// What has come, health checks aside.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// Whether anybody wants to know.
    watched: AtomicBool,
    count: AtomicU64,
    /// When the last one came, in nanoseconds of the clock.
    last: AtomicU64,
}

impl Arrivals {
    /// Whether they are counted.
    #[inline]
    pub fn are_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Begins or ends the count.
    pub fn watch(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// A request has come then.
    pub fn note(&self, now: Time) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.last.fetch_max(nanos, Ordering::Relaxed);
        // After its time: who sees the one sees the other.
        self.count.fetch_add(1, Ordering::Release);
    }

    /// How many have come, and when the last did.
    pub fn read(&self) -> (u64, Time) {
        let count = self.count.load(Ordering::Acquire);
        let last = self.last.load(Ordering::Relaxed);
        (count, Duration::from_nanos(last))
    }
}
