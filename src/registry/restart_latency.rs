//! Response times of a pool before, during and after a restart: differences of its histogram, which the registry
//! reads now and then. Requests have no extra cost.

use std::time::Duration;

use super::restart_board::RestartBoard;
use super::restart_view::LatencyWindow;
use crate::core::Time;
use crate::metrics::{Histogram, PoolCounters};
use crate::rt::clock;

/// Interval between two readings, and minimum length of the span after a restart.
const SPAN: Duration = Duration::from_secs(5);

/// Longest time that a reading may take: otherwise its counts are not of one moment, and another reading is tried.
const ONE_MOMENT: Duration = Duration::from_millis(5);

/// Most restarts whose span afterwards is being measured; further ones are not measured.
const MOST_OPEN: usize = 256;

type BucketCounts = [u64; Histogram::BUCKETS];

/// The histogram at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct LatencyReading {
    at: Time,
    counts: BucketCounts,
}

impl LatencyReading {
    fn take(counters: &PoolCounters) -> Self {
        let read = || {
            let at = clock::now();
            let counts = counters.durations.counts();
            Self { at, counts }
        };
        let mut reading = read();
        for _ in 0..3 {
            if clock::now().saturating_sub(reading.at) <= ONE_MOMENT {
                break;
            }
            reading = read();
        }
        reading
    }

    fn until(&self, later: &Self) -> LatencyWindow {
        let counts: BucketCounts =
            std::array::from_fn(|bucket| later.counts[bucket].saturating_sub(self.counts[bucket]));
        let shown = |at: Time| clock::rfc3339(clock::wall(at));
        LatencyWindow {
            from: shown(self.at),
            to: shown(later.at),
            requests: counts.iter().sum(),
            p50_ms: Histogram::percentile(&counts, 50),
            p99_ms: Histogram::percentile(&counts, 99),
        }
    }
}

/// The last readings of a pool, and the restarts that wait for another one.
#[derive(Debug, Default)]
pub(super) struct LatencyReadings {
    older: Option<LatencyReading>,
    newer: Option<LatencyReading>,
    /// Restarts in progress, by number.
    begun: Vec<(u64, LatencyReading)>,
    /// Finished restarts whose span afterwards is being measured, by number.
    over: Vec<(u64, LatencyReading)>,
}

impl LatencyReadings {
    /// Reads the histogram if it is time to. Called at any interval.
    pub(super) fn pass_time(&mut self, counters: &PoolCounters, board: &RestartBoard) {
        let now = clock::now();
        let is_due = |last: &LatencyReading| now.saturating_sub(last.at) >= SPAN;
        if self.newer.as_ref().is_none_or(is_due) {
            self.older = self.newer.take();
            self.newer = Some(LatencyReading::take(counters));
        }
        if self.over.iter().any(|(_, last)| is_due(last)) {
            let reading = LatencyReading::take(counters);
            self.over.retain(|(number, last)| {
                let is_over = is_due(last);
                if is_over {
                    let window = last.until(&reading);
                    board.change(*number, |_, _, latency| latency.after = Some(window));
                }
                !is_over
            });
        }
    }

    /// Drops all readings, because requests also end in another process and the histogram lacks these.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Notes that a restart has begun and is on the board.
    pub(super) fn begin(&mut self, number: u64, counters: &PoolCounters, board: &RestartBoard) {
        let reading = LatencyReading::take(counters);
        if let Some(before) = self.older.or(self.newer) {
            let window = before.until(&reading);
            board.change(number, |_, _, latency| latency.before = Some(window));
        }
        if self.begun.len() < MOST_OPEN {
            self.begun.push((number, reading));
        }
    }

    /// Notes that a restart has ended.
    pub(super) fn end(&mut self, number: u64, counters: &PoolCounters, board: &RestartBoard) {
        let Some(place) = self.begun.iter().position(|(one, _)| *one == number) else {
            return;
        };
        let (_, begun) = self.begun.swap_remove(place);
        let reading = LatencyReading::take(counters);
        let window = begun.until(&reading);
        board.change(number, |_, _, latency| latency.during = Some(window));
        if self.over.len() < MOST_OPEN {
            self.over.push((number, reading));
        }
    }
}
