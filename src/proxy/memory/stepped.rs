//! Memory of one connection, counted towards `max_memory` in steps, so that small and short-lived allocations don't touch
//! the counter that all threads share.

use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::KEPT;

/// Memory of each connection that is not counted, in bytes.
pub(super) const UNCOUNTED: usize = 64 << 10;

/// Step in which further memory is counted, in bytes.
pub(super) const STEP: usize = 32 << 10;

/// Memory is given back when this many bytes too many are counted, so that small changes change nothing.
pub(super) const SLACK: usize = 2 * STEP;

/// Counts the memory of one connection.
#[derive(Debug, Default)]
pub(super) struct SteppedCharge(Mutex<ChargeState>);

#[derive(Debug, Default)]
struct ChargeState {
    /// Bytes in use now.
    held: usize,
    /// Bytes counted towards `max_memory`.
    counted: usize,
}

impl SteppedCharge {
    /// Returns the number of bytes in use now.
    pub(super) fn held(&self) -> usize {
        self.0.lock().held
    }

    /// Returns the number of bytes that are counted towards `max_memory`.
    pub(super) fn counted(&self) -> usize {
        self.0.lock().counted
    }

    /// Adds bytes that are now in use.
    pub(super) fn hold(&self, bytes: usize) {
        let mut state = self.0.lock();
        state.held += bytes;
        let beyond = state.held.saturating_sub(UNCOUNTED);
        if beyond > state.counted {
            state.count(beyond.next_multiple_of(STEP));
        }
    }

    /// Removes bytes that are no longer in use.
    pub(super) fn release(&self, bytes: usize) {
        let mut state = self.0.lock();
        state.held -= bytes;
        if state.counted == 0 {
            return;
        }
        let beyond = state.held.saturating_sub(UNCOUNTED);
        if state.held == 0 || state.counted - beyond.min(state.counted) >= SLACK {
            state.count(beyond.next_multiple_of(STEP));
        }
    }
}

impl ChargeState {
    fn count(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.counted, bytes);
        match bytes > before {
            true => KEPT.fetch_add(bytes - before, Ordering::Relaxed),
            false => KEPT.fetch_sub(before - bytes, Ordering::Relaxed),
        };
    }
}

impl Drop for SteppedCharge {
    fn drop(&mut self) {
        self.0.get_mut().count(0);
    }
}
