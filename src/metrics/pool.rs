//! Counters of one pool.

use std::time::Duration;

use super::histogram::Histogram;
use super::local_answers::LocalAnswers;
use super::mirror::MirrorCounters;
use super::reasons::ReasonCounters;
use crate::core::retry::RetryReason;
use crate::net::connect_fault::ConnectFault;

/// Counters of one pool. They outlive snapshots and reloads.
#[derive(Debug, Default)]
pub struct PoolCounters {
    pub(crate) durations: Histogram,
    pub(crate) holds: Histogram,
    pub(crate) retried: ReasonCounters,
    pub(crate) denied: ReasonCounters,
    pub(crate) connect_faults: ReasonCounters,
    pub(crate) local: LocalAnswers,
    /// Requests of sticky pools, by state of their sessions.
    pub(crate) sessions: ReasonCounters,
    /// Copies of other pools' requests.
    pub mirror: MirrorCounters,
}

impl PoolCounters {
    /// Counts a request that was held this long because no backend was eligible.
    pub fn held(&self, held: Duration) {
        self.holds.observe(held);
    }

    /// Counts a retry after a failed attempt; with `done` false, one that the retry budget did not allow.
    pub fn retried(&self, reason: RetryReason, done: bool) {
        if done { &self.retried } else { &self.denied }.add(reason.as_str());
    }

    /// Counts a failed connect for a request.
    pub fn connect_failed(&self, fault: ConnectFault) {
        self.connect_faults.add(fault.as_str());
    }

    /// Counts a request that has ended; `ours` is the status if lameduck answered itself.
    pub fn finished(&self, duration: Duration, ours: Option<u16>) {
        self.durations.observe(duration);
        if let Some(status) = ours {
            self.local.add(status);
        }
    }
}
