//! Counters of mirrored requests: how many a pool was sent, which were dropped and why, and how many are in flight.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::reasons::ReasonCounters;

/// Reason why a copy of a request was dropped or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorDrop {
    /// Too many copies, or too many bytes of them, were in flight.
    TooMany,
    /// The request's body was too large, or had not fully arrived when the request was sent on.
    Body,
    /// The request asks for a protocol upgrade.
    Upgrade,
    /// No backend took it: none was ready, all were full, or the pool was paused.
    NotReady,
    /// The connect to the backend failed.
    Connect,
    /// The backend's response was missing, malformed or late.
    Failed,
}

impl MirrorDrop {
    /// Value of the metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::Body => "body",
            Self::Upgrade => "upgrade",
            Self::NotReady => "not_ready",
            Self::Connect => "connect",
            Self::Failed => "failed",
        }
    }
}

/// Counters of the copies that one pool was sent.
#[derive(Debug, Default)]
pub struct MirrorCounters {
    pub(crate) answered: AtomicU64,
    pub(crate) dropped: ReasonCounters,
}

impl MirrorCounters {
    /// Counts a copy that was answered completely, or was dropped.
    pub fn ended(&self, end: Result<(), MirrorDrop>) {
        match end {
            Ok(()) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => self.dropped.add(why.as_str()),
        }
    }
}

/// Copies in flight in the whole process.
#[derive(Debug, Default)]
pub struct MirrorLoad {
    copies: AtomicUsize,
    bytes: AtomicUsize,
}

impl MirrorLoad {
    /// Counts a copy of this many bytes as in flight; `false`: there are too many, and it is not counted.
    pub fn enter(&self, bytes: usize, most_copies: usize, most_bytes: usize) -> bool {
        let copies = self.copies.fetch_add(1, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = copies < most_copies && before.saturating_add(bytes) <= most_bytes;
        if !fits {
            self.leave(bytes);
        }
        fits
    }

    /// Ends the count of a copy.
    pub fn leave(&self, bytes: usize) {
        self.copies.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_bounded_in_number_and_bytes_and_places_come_back() {
        let load = MirrorLoad::default();
        assert!(load.enter(60, 2, 100));
        assert!(!load.enter(41, 2, 100), "too many bytes");
        assert!(load.enter(40, 2, 100));
        assert!(!load.enter(0, 2, 100), "too many copies");
        load.leave(60);
        assert!(load.enter(60, 2, 100));
    }
}
