//! Counters of a route's requests while a plan changes its split; otherwise nothing is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::core::Time;
use crate::core::split_plan::PoolObservation;
use crate::core::split_plan::figures::{LatencyBounds, PoolFigures};

/// Resolution with which waiting requests are distinguished by their start…
const SLOT: Time = Time::from_millis(250);
/// …for this many steps, which is a minute. An older request counts as a younger one for a while, but never the other
/// way round.
const SLOTS: usize = 256;

/// Counts the requests of one route, by pool.
#[derive(Debug)]
pub struct SplitMeter {
    bounds: LatencyBounds,
    pools: Box<[(Arc<str>, PoolMeter)]>,
}

#[derive(Debug)]
struct PoolMeter {
    requests: AtomicU64,
    client_errors: AtomicU64,
    server_errors: AtomicU64,
    attempts: AtomicU64,
    failed: AtomicU64,
    latencies: Box<[AtomicU64]>,
    /// Requests that wait for their answer, by the step in which they began.
    open: Box<[AtomicU32]>,
}

impl PoolMeter {
    fn new(bounds: &LatencyBounds) -> Self {
        Self {
            requests: AtomicU64::new(0),
            client_errors: AtomicU64::new(0),
            server_errors: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            latencies: (0..bounds.buckets()).map(|_| AtomicU64::new(0)).collect(),
            open: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    fn count(&self, status: u16, bucket: usize) {
        match status {
            400..=499 => self.client_errors.fetch_add(1, Ordering::Relaxed),
            500..=599 => self.server_errors.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        if let Some(latency) = self.latencies.get(bucket) {
            latency.fetch_add(1, Ordering::Relaxed);
        }
        // Increased last, so that a reader who reads it first never sees an error without its request.
        self.requests.fetch_add(1, Ordering::Release);
    }
}

/// Number of the quarter of a second that this time is in.
fn slot_number(at: Time) -> u128 {
    at.as_millis() / SLOT.as_millis()
}

impl SplitMeter {
    /// A meter for these pools.
    pub fn new<'a>(bounds: LatencyBounds, pools: impl IntoIterator<Item = &'a str>) -> Self {
        let pools = pools.into_iter();
        Self {
            pools: pools
                .map(|name| (Arc::from(name), PoolMeter::new(&bounds)))
                .collect(),
            bounds,
        }
    }

    /// Index of a pool; `None`: its requests are not counted.
    pub fn place(&self, pool: &str) -> Option<usize> {
        self.pools.iter().position(|(name, _)| **name == *pool)
    }

    /// Counts of each pool so far, and its waiting requests. `is_available` tells whether a pool has a backend.
    pub fn read(&self, now: Time, is_available: impl Fn(&str) -> bool) -> Vec<PoolObservation> {
        let pools = self.pools.iter();
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let observed = pools.map(|(name, pool)| PoolObservation {
            figures: PoolFigures {
                requests: pool.requests.load(Ordering::Acquire),
                client_errors: read(&pool.client_errors),
                server_errors: read(&pool.server_errors),
                attempts: read(&pool.attempts),
                failed: read(&pool.failed),
                latencies: pool.latencies.iter().map(read).collect(),
            },
            open: open_requests(pool, now),
            is_available: is_available(name),
        });
        observed.collect()
    }
}

/// Waiting requests: how long at least, and how many.
fn open_requests(pool: &PoolMeter, now: Time) -> Vec<(Time, u64)> {
    let current = slot_number(now);
    let slots = pool.open.iter().enumerate();
    let waiting = slots.filter_map(|(place, count)| {
        let count = count.load(Ordering::Relaxed);
        let turns = SLOTS as u128;
        let back = (current + turns - place as u128) % turns;
        // A request that began in a step began before its end.
        let age = now
            .as_millis()
            .saturating_sub((current.saturating_sub(back) + 1) * SLOT.as_millis());
        (count > 0).then(|| (Time::from_millis(age as u64), u64::from(count)))
    });
    waiting.collect()
}

/// A request that is counted. It counts as waiting until it has an answer, is put on hold, or is dropped.
#[derive(Debug)]
pub struct MeteredRequest {
    meter: Arc<SplitMeter>,
    pool: usize,
    /// Time at which it could be sent.
    since: Time,
    /// Its index among the waiting requests.
    slot: Option<usize>,
    is_answered: bool,
}

impl MeteredRequest {
    /// Begins to count a request for this pool that can be sent now. `None`: the pool is not counted.
    pub fn begin(meter: Arc<SplitMeter>, pool: &str, now: Time) -> Option<Self> {
        let pool = meter.place(pool)?;
        let mut request = Self {
            meter,
            pool,
            since: now,
            slot: None,
            is_answered: false,
        };
        request.release(now);
        Some(request)
    }

    fn pool(&self) -> &PoolMeter {
        &self.meter.pools[self.pool].1
    }

    /// Stops the time while the request is on hold: that is not a backend's latency.
    pub fn hold(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.pool().open[slot].fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Starts the time again, because the request can be sent now.
    pub fn release(&mut self, now: Time) {
        self.hold();
        self.since = now;
        if !self.is_answered {
            let slot = (slot_number(now) % SLOTS as u128) as usize;
            self.slot = Some(slot);
            self.pool().open[slot].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes the start of its answer, with this status.
    pub fn answer(&mut self, status: u16, now: Time) {
        if self.is_answered {
            return;
        }
        self.is_answered = true;
        self.hold();
        let latency = now.saturating_sub(self.since);
        self.pool().count(status, self.meter.bounds.bucket(latency));
    }

    /// Notes its end after this many attempts. `status`: what the client was told if no backend has answered; 0:
    /// nothing. `is_broken`: the answer was incomplete.
    pub fn end(mut self, status: u16, attempts: u32, is_broken: bool, now: Time) {
        let failed_last = match self.is_answered {
            true => is_broken,
            false => attempts > 0 && status >= 500,
        };
        self.answer(status, now);
        let pool = self.pool();
        let failed = u64::from(attempts.saturating_sub(1)) + u64::from(failed_last);
        pool.failed.fetch_add(failed, Ordering::Relaxed);
        pool.attempts.fetch_add(attempts.into(), Ordering::Relaxed);
    }
}

impl Drop for MeteredRequest {
    fn drop(&mut self) {
        self.hold();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> Arc<SplitMeter> {
        let bounds = LatencyBounds::new([Time::from_millis(500)]);
        Arc::new(SplitMeter::new(bounds, ["app", "next"]))
    }

    fn begin(meter: &Arc<SplitMeter>, at: u64) -> MeteredRequest {
        MeteredRequest::begin(meter.clone(), "next", Time::from_millis(at)).unwrap()
    }

    fn read(meter: &SplitMeter, at: u64) -> PoolObservation {
        let mut pools = meter.read(Time::from_millis(at), |_| true);
        pools.remove(1)
    }

    #[test]
    fn request_is_counted_once_when_its_answer_begins() {
        let meter = meter();
        let mut request = begin(&meter, 1000);
        request.answer(503, Time::from_millis(1600));
        let seen = read(&meter, 1600);
        assert_eq!((seen.figures.requests, seen.figures.server_errors), (1, 1));
        let limit = Time::from_millis(500);
        assert_eq!(seen.figures.slower_than(limit, &meter.bounds), 1);
        assert!(seen.open.is_empty());
        request.end(503, 2, true, Time::from_millis(9000));
        let seen = read(&meter, 9000).figures;
        assert_eq!((seen.requests, seen.attempts, seen.failed), (1, 2, 2));
        assert_eq!(meter.read(Time::ZERO, |_| true)[0].figures.requests, 0);
        assert!(MeteredRequest::begin(meter, "other", Time::ZERO).is_none());
    }

    #[test]
    fn request_that_no_backend_has_answered_is_counted_at_its_end() {
        let meter = meter();
        for (status, attempts) in [(502, 3), (404, 0), (0, 1)] {
            begin(&meter, 0).end(status, attempts, false, Time::from_millis(1));
        }
        let seen = read(&meter, 1).figures;
        assert_eq!(
            (seen.requests, seen.client_errors, seen.server_errors),
            (3, 1, 1)
        );
        assert_eq!((seen.attempts, seen.failed), (4, 3));
    }

    #[test]
    fn request_that_waits_has_an_age_that_is_never_too_large() {
        let meter = meter();
        let request = begin(&meter, 1100);
        assert_eq!(read(&meter, 1100).open, [(Time::ZERO, 1)]);
        assert_eq!(read(&meter, 1249).open, [(Time::ZERO, 1)]);
        assert_eq!(read(&meter, 1750).open, [(Time::from_millis(500), 1)]);
        // Beyond the resolution a request seems younger, never older.
        let (age, _) = read(&meter, 1100 + 70_000).open[0];
        assert!(age < Time::from_secs(70), "{age:?}");
        drop(request);
        assert!(read(&meter, 2000).open.is_empty());
    }

    #[test]
    fn time_on_hold_is_no_latency() {
        let meter = meter();
        let mut request = begin(&meter, 0);
        request.hold();
        assert!(read(&meter, 5000).open.is_empty());
        request.release(Time::from_secs(10));
        assert_eq!(read(&meter, 10_001).open, [(Time::ZERO, 1)]);
        request.answer(200, Time::from_millis(10_100));
        let seen = read(&meter, 10_100).figures;
        let p99 = seen.quantile(990, &meter.bounds).unwrap();
        assert!(p99 < Time::from_millis(110), "{p99:?}");
        request.release(Time::from_secs(11));
        assert!(read(&meter, 11_000).open.is_empty());
    }
}
