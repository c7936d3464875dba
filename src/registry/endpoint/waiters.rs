//! Requests that wait until a full backend has room again: counted, so that a permit that is given back costs one
//! look at a number while nobody waits.
//!
//! No wake-up is lost: who waits counts itself first and looks at the gates afterwards; who leaves a gate leaves
//! first and looks at the count afterwards. Of two that meet, one sees the other. Checked with loom, like the gate.

#[cfg(loom)]
use loom::sync::atomic::{AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// How many wait for room in one pool.
#[derive(Debug)]
pub struct CapacityWaiters(AtomicUsize);

impl CapacityWaiters {
    /// Nobody.
    pub fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// One more waits. `true`: nobody waited before, so nobody else will tell it of room that there is already; it
    /// has to look for itself now.
    pub fn wait(&self) -> bool {
        let before = self.0.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        before == 0
    }

    /// One waits no more.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// To be asked after a gate was left: whether somebody waits for that.
    pub fn is_wanted(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_waited_for()
    }

    /// Whether somebody waits, as far as this thread has heard.
    pub fn is_waited_for(&self) -> bool {
        self.waiting() > 0
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Default for CapacityWaiters {
    fn default() -> Self {
        Self::new()
    }
}
