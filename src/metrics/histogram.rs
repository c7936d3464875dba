//! Histogram of durations: a few atomics, without any lookup.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets in microseconds: from a fast response on loopback to the default deadlines. Long streams
/// are above the last bound.
const BOUNDS: [u64; 15] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Histogram of durations with fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Counts by bucket; there is one more than bounds, and the last has none.
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Histogram {
    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().take_while(|bound| micros > **bound).count();
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// Number of buckets; the last one has no bound.
    pub const BUCKETS: usize = BOUNDS.len() + 1;

    /// Index of the bucket for a duration.
    pub fn bucket(duration: Duration) -> usize {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        BOUNDS.iter().take_while(|bound| micros > **bound).count()
    }

    /// Index of the bucket with this bound in milliseconds, or of the one without a bound for `None`. Returns `None` if
    /// there is no such bucket.
    pub fn bucket_of_bound(bound_ms: Option<f64>) -> Option<usize> {
        match bound_ms {
            None => Some(BOUNDS.len()),
            Some(ms) => BOUNDS
                .iter()
                .position(|bound| (millis(*bound) - ms).abs() < 1e-9),
        }
    }

    /// Rank of a percentile among this many values, sorted and counted from 1 (nearest rank).
    pub fn rank(percent: u64, requests: u64) -> u64 {
        requests.saturating_mul(percent).div_ceil(100).max(1)
    }

    /// Current count of each bucket.
    pub fn counts(&self) -> [u64; Self::BUCKETS] {
        std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed))
    }

    /// Bound of the bucket with this percentile, in milliseconds; `None`: there are no values, or it is above the last
    /// bound.
    pub fn percentile(counts: &[u64; Self::BUCKETS], percent: u64) -> Option<f64> {
        let all = counts.iter().sum();
        if all == 0 {
            return None;
        }
        let rank = Self::rank(percent, all);
        let mut sum = 0;
        let bucket = counts.iter().position(|count| {
            sum += count;
            sum >= rank
        })?;
        BOUNDS.get(bucket).map(|bound| millis(*bound))
    }

    /// Histogram in the form of the encoder: cumulative, in seconds.
    pub(crate) fn read(&self) -> prometheus::proto::Histogram {
        let mut total = 0;
        let mut buckets = Vec::with_capacity(BOUNDS.len());
        for (bound, count) in BOUNDS.iter().zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            let mut bucket = prometheus::proto::Bucket::default();
            bucket.set_upper_bound(seconds(*bound));
            bucket.set_cumulative_count(total);
            buckets.push(bucket);
        }
        total += self.counts[BOUNDS.len()].load(Ordering::Relaxed);
        let mut histogram = prometheus::proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(total);
        histogram.set_sample_sum(seconds(self.sum.load(Ordering::Relaxed)));
        histogram
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        for micros in [0, 1_000, 1_001, 60_000_000, 60_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let read = histogram.read();
        let cumulative: Vec<_> = read
            .get_bucket()
            .iter()
            .map(|bucket| bucket.cumulative_count())
            .collect();
        assert_eq!(cumulative, [2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4]);
        assert_eq!(read.get_sample_count(), 5);
        assert!((read.get_sample_sum() - 120.002_002).abs() < 1e-9);
    }

    #[test]
    fn the_longest_duration_does_not_panic() {
        let histogram = Histogram::default();
        histogram.observe(Duration::MAX);
        assert_eq!(histogram.read().get_sample_count(), 1);
    }
}
