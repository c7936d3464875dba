//! Requests that wait until a full backend has room again. They are counted, so that releasing a permit costs only
//! one atomic read while no request waits.
//!
//! No wake-up is lost: a waiting request counts itself first and checks the gates afterwards; a leaving request
//! leaves its gate first and checks the count afterwards. If the two overlap, one of them sees the other. Checked
//! with loom, like the gate.

#[cfg(loom)]
use loom::sync::atomic::{AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// Number of requests that wait for room in one pool.
#[derive(Debug)]
pub struct CapacityWaiters(AtomicUsize);

impl CapacityWaiters {
    /// Creates a count of 0.
    pub fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Counts one more waiting request. `true`: it is the only one, so no other request will report room that exists
    /// already; the caller has to check now.
    pub fn wait(&self) -> bool {
        let before = self.0.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        before == 0
    }

    /// Counts one waiting request less.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether a request waits for room. Call this after leaving a gate.
    pub fn is_wanted(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_waited_for()
    }

    /// Whether a request waits, as far as this thread has seen (a relaxed read).
    pub fn is_waited_for(&self) -> bool {
        self.waiting() > 0
    }

    /// Returns the number of waiting requests.
    pub fn waiting(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Default for CapacityWaiters {
    fn default() -> Self {
        Self::new()
    }
}
