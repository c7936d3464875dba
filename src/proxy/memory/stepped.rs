//! What one connection keeps, counted in `max_memory` in steps: so that small things which come and go touch no counter
//! that other threads have in their caches, too.

use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::KEPT;

/// What is not counted of each connection.
pub(super) const UNCOUNTED: usize = 64 << 10;

/// The rest is counted by so many bytes…
pub(super) const STEP: usize = 32 << 10;

/// …and given back when so many are counted too much, so that what comes and goes changes nothing.
pub(super) const SLACK: usize = 2 * STEP;

/// The account of one connection.
#[derive(Debug, Default)]
pub(super) struct SteppedCharge(Mutex<ChargeState>);

#[derive(Debug, Default)]
struct ChargeState {
    /// Bytes that are kept now.
    held: usize,
    /// What is counted in `max_memory`.
    counted: usize,
}

impl SteppedCharge {
    /// Bytes that are kept now.
    pub(super) fn held(&self) -> usize {
        self.0.lock().held
    }

    /// What is counted of them.
    pub(super) fn counted(&self) -> usize {
        self.0.lock().counted
    }

    /// So many more are kept.
    pub(super) fn hold(&self, bytes: usize) {
        let mut state = self.0.lock();
        state.held += bytes;
        let beyond = state.held.saturating_sub(UNCOUNTED);
        if beyond > state.counted {
            state.count(beyond.next_multiple_of(STEP));
        }
    }

    /// So many are gone.
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
