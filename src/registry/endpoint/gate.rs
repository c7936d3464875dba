//! The gate: two bits that close it and the number in flight, in one atomic word.
//!
//! Entering the gate and counting the request is one step, so no request can enter after "closed" was read as
//! "drained". One bit closes the gate to new clients; while the other bit is set too, clients with a session may
//! still enter, and no leave counts as the last. Checked with loom
//! (`cargo test --manifest-path tests/loom/Cargo.toml`).

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

const CLOSED: u64 = 1 << 63;
/// Set only together with `CLOSED`.
const SESSIONS: u64 = 1 << 62;
const COUNT: u64 = SESSIONS - 1;

/// The two bits that close the gate, and the in-flight count, which change together.
#[derive(Debug)]
pub struct Gate(AtomicU64);

/// The result of leaving the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateLeave {
    /// Other requests are in flight, or the gate is open.
    Busy,
    /// The gate is closed to everybody and this was the last request in flight.
    LastOut,
}

/// Result of entering the gate with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEntry {
    /// The request has entered and is counted.
    Entered,
    /// The backend is at its limit.
    Full,
    /// The gate is closed to everybody.
    Closed,
}

impl Gate {
    /// Creates a gate. Backends start with a closed gate (no traffic before the first `rise`).
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

    /// Enters if the gate is open or closed only to new clients, and fewer than `limit` are in flight (0: no limit).
    pub fn try_enter_with_session(&self, limit: u32) -> SessionEntry {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word & (CLOSED | SESSIONS) == CLOSED {
                return SessionEntry::Closed;
            }
            if limit != 0 && word & COUNT >= u64::from(limit) {
                return SessionEntry::Full;
            }
            match self
                .0
                .compare_exchange_weak(word, word + 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return SessionEntry::Entered,
                Err(seen) => word = seen,
            }
        }
    }

    /// Enters whether the gate is open or not (`fail_open`). The request is counted and has to leave.
    pub fn enter_anyway(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// Leaves the gate.
    pub fn leave(&self) -> GateLeave {
        let before = self.0.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & COUNT > 0, "left a gate that nobody had entered");
        if before == CLOSED | 1 {
            GateLeave::LastOut
        } else {
            GateLeave::Busy
        }
    }

    /// Closes the gate to everybody; returns how many requests are still in flight.
    pub fn close(&self) -> u32 {
        // One atomic step: a request that leaves meanwhile is in this count, or has left an open gate.
        let closed = |word: u64| Some((word | CLOSED) & !SESSIONS);
        match (self.0).fetch_update(Ordering::AcqRel, Ordering::Acquire, closed) {
            Ok(before) | Err(before) => (before & COUNT) as u32,
        }
    }

    /// Closes the gate to new clients; clients with a session may still enter.
    pub fn close_to_new(&self) {
        self.0.fetch_or(CLOSED | SESSIONS, Ordering::AcqRel);
    }

    /// Opens the gate.
    pub fn open(&self) {
        self.0.fetch_and(!(CLOSED | SESSIONS), Ordering::AcqRel);
    }

    /// Returns the number of requests in flight.
    pub fn in_flight(&self) -> u32 {
        (self.0.load(Ordering::Acquire) & COUNT) as u32
    }

    /// Whether the gate is closed to new clients.
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Whether the gate is closed to everybody, including clients with a session.
    pub fn is_closed_to_all(&self) -> bool {
        self.0.load(Ordering::Acquire) & (CLOSED | SESSIONS) == CLOSED
    }
}
