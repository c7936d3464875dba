//! Counts new requests for those that need it: a lame-duck phase that lasts until no more requests arrive
//! ([`crate::core::quiet`]), and the tracer.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::core::Time;

/// The number of requests received, without health checks.
#[derive(Debug, Default)]
pub struct RequestArrivals {
    /// A bit for each watcher of requests: one load decides for all of them, on every request.
    watchers: AtomicU8,
    count: AtomicU64,
    /// Time of the last request, in nanoseconds of the clock.
    last: AtomicU64,
}

/// Bit: requests are counted.
const COUNTED: u8 = 1;

/// Bit: requests are traced.
const TRACED: u8 = 2;

impl RequestArrivals {
    /// Returns whether anything watches requests.
    #[inline]
    pub fn are_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) != 0
    }

    /// Returns whether requests are counted.
    pub fn are_counted(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) & COUNTED != 0
    }

    /// Starts or stops counting.
    pub fn watch(&self, watched: bool) {
        match watched {
            true => self.watchers.fetch_or(COUNTED, Ordering::Relaxed),
            false => self.watchers.fetch_and(!COUNTED, Ordering::Relaxed),
        };
    }

    /// Starts tracing.
    pub fn trace(&self) {
        self.watchers.fetch_or(TRACED, Ordering::Relaxed);
    }

    /// Counts a request that arrived at `now`.
    pub fn note(&self, now: Time) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.last.fetch_max(nanos, Ordering::Relaxed);
        // Stored after the time: a reader that sees the new count also sees the new time.
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Returns the number of requests, and the time of the last one.
    pub fn read(&self) -> (u64, Time) {
        let count = self.count.load(Ordering::Acquire);
        let last = self.last.load(Ordering::Relaxed);
        (count, Duration::from_nanos(last))
    }
}
