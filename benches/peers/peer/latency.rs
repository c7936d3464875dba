//! A histogram of latencies: about 1 % precise, whatever the number of samples.

use std::time::Duration;

/// Buckets for each doubling.
const FINE: u64 = 64;
const BUCKETS: usize = (FINE * 60) as usize;

/// How often each latency was seen.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            longest: 0,
        }
    }

    pub fn add(&mut self, latency: Duration) {
        let nanos = latency.as_nanos() as u64;
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.longest = self.longest.max(nanos);
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// The latency that `share` of all stay within, in microseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && *count > 0 {
                return (upper(bucket).min(self.longest)) as f64 / 1e3;
            }
        }
        0.0
    }

    /// How many took longer than this.
    pub fn over(&self, limit: Duration) -> u64 {
        let limit = bucket(limit.as_nanos() as u64);
        self.counts[limit + 1..].iter().sum()
    }

    /// The longest, in microseconds.
    pub fn longest(&self) -> f64 {
        self.longest as f64 / 1e3
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < FINE {
        return nanos as usize;
    }
    let doublings = u64::from(nanos.ilog2() - FINE.ilog2());
    ((doublings + 1) * FINE + (nanos >> doublings) - FINE) as usize
}

/// The largest latency in a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < FINE {
        return bucket;
    }
    let doublings = bucket / FINE - 1;
    ((bucket % FINE + FINE + 1) << doublings) - 1
}
