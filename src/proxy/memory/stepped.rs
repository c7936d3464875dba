//! Memory of one connection, counted towards `max_memory` in steps, so that small and short-lived allocations don't
//! touch the counter that all threads share.

use std::sync::atomic::Ordering;

use super::KEPT;

/// Memory of each connection that is not counted, in bytes.
pub(super) const UNCOUNTED: usize = 64 << 10;

/// Step in which further memory is counted, in bytes.
pub(super) const STEP: usize = 32 << 10;

/// Memory is given back when this many bytes too many are counted, so that small changes change nothing.
pub(super) const SLACK: usize = 2 * STEP;

/// Counts the memory of one connection.
#[derive(Debug, Default)]
pub(super) struct SteppedCharge {
    /// Bytes in use now.
    held: usize,
    /// Bytes counted towards `max_memory`.
    counted: usize,
}

impl SteppedCharge {
    /// Returns the number of bytes in use now.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Returns the number of bytes that are counted towards `max_memory`.
    #[cfg(test)]
    pub(super) fn counted(&self) -> usize {
        self.counted
    }

    /// Adds bytes that are now in use; returns how many more are counted.
    pub(super) fn hold(&mut self, bytes: usize) -> usize {
        self.held += bytes;
        let beyond = self.held.saturating_sub(UNCOUNTED);
        if beyond <= self.counted {
            return 0;
        }
        let more = beyond.next_multiple_of(STEP) - self.counted;
        self.counted += more;
        KEPT.fetch_add(more, Ordering::Relaxed);
        more
    }

    /// Removes bytes that are no longer in use; returns how many fewer are counted.
    pub(super) fn release(&mut self, bytes: usize) -> usize {
        self.held -= bytes;
        let beyond = self.held.saturating_sub(UNCOUNTED);
        let excess = self.counted.saturating_sub(beyond);
        if self.counted == 0 || (self.held > 0 && excess < SLACK) {
            return 0;
        }
        let fewer = self.counted.saturating_sub(beyond.next_multiple_of(STEP));
        self.counted -= fewer;
        KEPT.fetch_sub(fewer, Ordering::Relaxed);
        fewer
    }
}

impl Drop for SteppedCharge {
    fn drop(&mut self) {
        KEPT.fetch_sub(self.counted, Ordering::Relaxed);
    }
}
