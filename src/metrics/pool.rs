//! Counters of one pool.

use std::time::Duration;

use super::histogram::Histogram;
use super::local_answers::LocalAnswers;
use super::mirror::MirrorCounters;
use super::reasons::ReasonCounters;
use crate::core::retry::RetryReason;
use crate::net::connect_fault::ConnectFault;

/// What one pool did so far. It outlives snapshots and reloads.
#[derive(Debug, Default)]
pub struct PoolCounters {
    pub(crate) durations: Histogram,
    pub(crate) holds: Histogram,
    pub(crate) retried: ReasonCounters,
    pub(crate) denied: ReasonCounters,
    pub(crate) connect_faults: ReasonCounters,
    pub(crate) local: LocalAnswers,
    /// Requests of sticky pools, by what has become of their sessions.
    pub(crate) sessions: ReasonCounters,
    /// Copies of other pools' requests.
    pub mirror: MirrorCounters,
}

impl PoolCounters {
    /// A request had to wait this long because nothing was eligible.
    pub fn held(&self, held: Duration) {
        self.holds.observe(held);
    }

    /// A failed attempt is tried again; or, with `done` false, would have been if the budget allowed it.
    pub fn retried(&self, reason: RetryReason, done: bool) {
        if done { &self.retried } else { &self.denied }.add(reason.as_str());
    }

    /// A connect for a request failed.
    pub fn connect_failed(&self, fault: ConnectFault) {
        self.connect_faults.add(fault.as_str());
    }

    /// A request ended; `ours` is the status where lameduck answered by itself.
    pub fn finished(&self, duration: Duration, ours: Option<u16>) {
        self.durations.observe(duration);
        if let Some(status) = ours {
            self.local.add(status);
        }
    }
}
