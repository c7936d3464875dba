//! Suspicion that a backend is about to stop: one of its connections was closed, and no probe has passed since.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::Time;
use crate::rt::clock;

/// Time after which the suspicion ends without a probe. Usually a probe decides within milliseconds.
const LASTS: Time = Time::from_secs(1);

/// While it is raised, requests go to other backends, if there are any. No request in flight is affected.
#[derive(Debug, Default)]
pub struct ClosingSuspicion {
    /// Clock time in microseconds, plus one; 0: not raised.
    since: AtomicU64,
}

impl ClosingSuspicion {
    /// Raises the suspicion as of now.
    pub fn raise(&self) {
        self.since
            .store(microseconds(clock::now()), Ordering::Release);
    }

    /// Clears the suspicion, because a probe that began at `began` has passed.
    pub fn clear(&self, began: Time) {
        let since = self.since.load(Ordering::Acquire);
        if since != 0 && since <= microseconds(began) {
            // If it was raised again in between, it stays.
            let _ = self
                .since
                .compare_exchange(since, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        let since = self.since.load(Ordering::Acquire);
        since != 0 && microseconds(clock::now()).saturating_sub(since) < LASTS.as_micros() as u64
    }
}

fn microseconds(time: Time) -> u64 {
    (time.as_micros() as u64).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_probe_that_began_later_clears_it() {
        let suspicion = ClosingSuspicion::default();
        assert!(!suspicion.is_raised());
        let before = clock::now();
        std::thread::sleep(std::time::Duration::from_millis(1));
        suspicion.raise();
        assert!(suspicion.is_raised());
        suspicion.clear(before);
        assert!(suspicion.is_raised());
        std::thread::sleep(std::time::Duration::from_millis(1));
        suspicion.clear(clock::now());
        assert!(!suspicion.is_raised());
    }
}
