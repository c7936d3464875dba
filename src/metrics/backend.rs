//! Counters of one backend: plain atomics on the request path, converted to metrics by a scrape.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Histogram;
use crate::core::backend::ProbeResult;

/// Lowest and highest status that has a counter of its own.
const MIN_STATUS: u16 = 100;
const MAX_STATUS: u16 = 599;

/// Counters of one backend.
#[derive(Debug)]
pub struct BackendCounters {
    /// Counters of its probes.
    pub probes: ProbeCounts,
    codes: Box<[AtomicU64]>,
    requests: AtomicU64,
}

impl Default for BackendCounters {
    fn default() -> Self {
        Self {
            probes: ProbeCounts::default(),
            codes: (MIN_STATUS..=MAX_STATUS)
                .map(|_| AtomicU64::new(0))
                .collect(),
            requests: AtomicU64::new(0),
        }
    }
}

impl BackendCounters {
    /// Counts a request that was sent to the backend.
    pub fn sent(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that ended with this status.
    pub fn answered(&self, status: u16) {
        if let Some(counter) = self.codes.get(usize::from(status.wrapping_sub(MIN_STATUS))) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Number of requests sent to the backend.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Statuses that have occurred, with their counts.
    pub fn by_code(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        (MIN_STATUS..=MAX_STATUS)
            .zip(self.codes.iter())
            .filter_map(|(code, counter)| {
                let count = counter.load(Ordering::Relaxed);
                (count > 0).then_some((code, count))
            })
    }
}

/// Results of probes, as they are named in metrics.
const RESULTS: [&str; 6] = [
    "pass",
    "unavailable",
    "refused",
    "reset",
    "status",
    "timeout",
];

/// Counters of a backend's probes.
#[derive(Debug, Default)]
pub struct ProbeCounts {
    results: [AtomicU64; RESULTS.len()],
    durations: Histogram,
}

impl ProbeCounts {
    /// Counts a probe that has ended.
    pub fn ended(&self, probe: ProbeResult, took: Duration) {
        let index = match probe {
            ProbeResult::Pass => 0,
            ProbeResult::Unavailable => 1,
            ProbeResult::Refused => 2,
            ProbeResult::Reset => 3,
            ProbeResult::Status(_) => 4,
            ProbeResult::Timeout => 5,
        };
        self.results[index].fetch_add(1, Ordering::Relaxed);
        self.durations.observe(took);
    }

    /// Results with their counts.
    pub fn by_result(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        RESULTS.into_iter().zip(
            self.results
                .iter()
                .map(|count| count.load(Ordering::Relaxed)),
        )
    }

    /// Durations of the probes.
    pub fn durations(&self) -> &Histogram {
        &self.durations
    }
}
