//! The gate: a closed bit and the number in flight, in one atomic word.
//!
//! Choosing a backend and counting the request is one step, so no request can slip in after "closed" was
//! read as "drained". Checked with loom (`cargo test --manifest-path tests/loom/Cargo.toml`).

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

const CLOSED: u64 = 1 << 63;

/// A closed bit and an in-flight count that change together.
#[derive(Debug)]
pub struct Gate(AtomicU64);

/// What leaving the gate found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateLeave {
    /// Nobody waits for this one.
    Busy,
    /// The gate is closed and this was the last in flight.
    LastOut,
}

impl Gate {
    /// A gate; backends start closed (no traffic before the first `rise`).
    pub fn new(open: bool) -> Self {
        Self(AtomicU64::new(if open { 0 } else { CLOSED }))
    }

    /// Enters if the gate is open: checks and counts in one atomic step.
    pub fn try_enter(&self) -> bool {
        self.try_enter_below(0)
    }

    /// Enters if the gate is open and fewer than `limit` are in flight (0: no limit).
    pub fn try_enter_below(&self, limit: u32) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & CLOSED != 0 || (limit != 0 && word >= u64::from(limit)) {
                return false;
            }
            match self
                .0
                .compare_exchange_weak(word, word + 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
    }

    /// Enters whether it is open or not (`fail_open`): what is counted is still given back.
    pub fn enter_anyway(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives one back.
    pub fn leave(&self) -> GateLeave {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & !CLOSED > 0, "left a gate that nobody had entered");
        if before == CLOSED | 1 {
            GateLeave::LastOut
        } else {
            GateLeave::Busy
        }
    }

    /// Closes it; says how many are still in flight.
    pub fn close(&self) -> u32 {
        (self.0.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED) as u32
    }

    /// Opens it.
    pub fn open(&self) {
        self.0.fetch_and(!CLOSED, Ordering::AcqRel);
    }

    /// How many are in flight.
    pub fn in_flight(&self) -> u32 {
        (self.0.load(Ordering::Acquire) & !CLOSED) as u32
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) & CLOSED != 0
    }
}
