//! Counts of a pool while a plan runs, and values derived from them.

use std::sync::Arc;

use crate::core::Time;

/// The first bound, in microseconds, and the ratio between bounds: there are eight for each doubling, so that a
/// percentile has an error below a tenth.
const FIRST: f64 = 250.0;
const GROWTH: f64 = 1.090_507_732_665_257_7;

/// Largest bound, in microseconds.
const LAST: u64 = 120_000_000;

/// Upper bounds of the buckets of a latency histogram. The limits of a plan's conditions are bounds themselves, so
/// that exceeding requests are counted exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyBounds(Arc<[u64]>);

impl LatencyBounds {
    /// Creates the usual bounds, and these.
    pub fn new(limits: impl IntoIterator<Item = Time>) -> Self {
        let mut bounds: Vec<u64> = limits.into_iter().map(micros).collect();
        let mut bound = FIRST;
        while (bound as u64) < LAST {
            bounds.push(bound as u64);
            bound *= GROWTH;
        }
        bounds.push(LAST);
        bounds.sort_unstable();
        bounds.dedup();
        Self(bounds.into())
    }

    /// Returns the number of buckets: one more than bounds.
    pub fn buckets(&self) -> usize {
        self.0.len() + 1
    }

    /// Returns the bucket of a latency: the first whose bound is not below it.
    pub fn bucket(&self, latency: Time) -> usize {
        let latency = micros(latency);
        self.0.partition_point(|bound| *bound < latency)
    }

    /// Returns the bound of a bucket; for the last one, the largest bound.
    fn bound(&self, bucket: usize) -> Time {
        let bound = self.0.get(bucket).or(self.0.last());
        Time::from_micros(bound.copied().unwrap_or(LAST))
    }
}

fn micros(time: Time) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Counts of the requests of one pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolFigures {
    /// Requests that were answered, or whose clients have gone.
    pub requests: u64,
    /// Those of them that were answered with 400 to 499.
    pub client_errors: u64,
    /// Those of them that were answered with 500 to 599, by the app or by lameduck.
    pub server_errors: u64,
    /// Attempts to have requests answered by a backend.
    pub attempts: u64,
    /// Attempts without a complete response.
    pub failed: u64,
    /// Times from the moment when a request could be sent until its response began, by bucket.
    pub latencies: Vec<u64>,
}

impl PoolFigures {
    /// Creates counts of zero.
    pub fn new(bounds: &LatencyBounds) -> Self {
        Self {
            latencies: vec![0; bounds.buckets()],
            ..Self::default()
        }
    }

    /// Returns the difference from earlier counts.
    pub fn since(&self, earlier: &Self) -> Self {
        let latencies = self.latencies.iter().enumerate();
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            client_errors: self.client_errors.saturating_sub(earlier.client_errors),
            server_errors: self.server_errors.saturating_sub(earlier.server_errors),
            attempts: self.attempts.saturating_sub(earlier.attempts),
            failed: self.failed.saturating_sub(earlier.failed),
            latencies: latencies
                .map(|(bucket, count)| {
                    let before = earlier.latencies.get(bucket).copied().unwrap_or(0);
                    count.saturating_sub(before)
                })
                .collect(),
        }
    }

    /// Adds the counts of another pool.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.client_errors += other.client_errors;
        self.server_errors += other.server_errors;
        self.attempts += other.attempts;
        self.failed += other.failed;
        if self.latencies.len() < other.latencies.len() {
            self.latencies.resize(other.latencies.len(), 0);
        }
        for (own, other) in self.latencies.iter_mut().zip(&other.latencies) {
            *own += other;
        }
    }

    /// Returns the number of requests that took longer than `limit`; exact if it is a bound.
    pub fn slower_than(&self, limit: Time, bounds: &LatencyBounds) -> u64 {
        let bucket = bounds.bucket(limit);
        self.latencies.iter().skip(bucket + 1).sum()
    }

    /// Returns the number of latencies.
    pub fn timed(&self) -> u64 {
        self.latencies.iter().sum()
    }

    /// Returns the latency that `permille` of a thousand requests don't exceed, as the bound of its bucket; `None`:
    /// there are no latencies.
    pub fn quantile(&self, permille: u64, bounds: &LatencyBounds) -> Option<Time> {
        let rank = (self.timed() * permille).div_ceil(1000).max(1);
        let mut passed = 0;
        let bucket = self.latencies.iter().position(|count| {
            passed += count;
            passed >= rank
        });
        bucket.map(|bucket| bounds.bound(bucket))
    }
}
