//! Which paths were files a moment ago: those are opened without a look at what they are. Only a hint, and a short-lived one;
//! what was opened is looked at in any case.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Paths that are remembered: a power of two. One that is noted later takes the place of an earlier one.
const PLACES: usize = 256;

/// Paths below one directory.
#[derive(Debug)]
pub(super) struct KnownFiles {
    /// With a random secret, so that a client can't choose a name that is taken for another one.
    hasher: RandomState,
    /// 0: none.
    marks: [AtomicU64; PLACES],
}

impl Default for KnownFiles {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            marks: [const { AtomicU64::new(0) }; PLACES],
        }
    }
}

impl KnownFiles {
    /// This one is a file.
    pub(super) fn note(&self, path: &[u8]) {
        let mark = self.mark(path);
        self.place(mark).store(mark, Ordering::Relaxed);
    }

    /// It was one.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        let mark = self.mark(path);
        self.place(mark).load(Ordering::Relaxed) == mark
    }

    fn mark(&self, path: &[u8]) -> u64 {
        self.hasher.hash_one(path).max(1)
    }

    fn place(&self, mark: u64) -> &AtomicU64 {
        &self.marks[mark as usize % PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_and_nothing_else_is() {
        let known = KnownFiles::default();
        assert!(!known.has(b"a"));
        known.note(b"a");
        assert!(known.has(b"a"));
        let others = (0..10_000_u32).filter(|n| known.has(&n.to_le_bytes()));
        assert_eq!(others.count(), 0);
        (0..10_000_u32).for_each(|n| known.note(&n.to_le_bytes()));
        let kept = (0..10_000_u32).filter(|n| known.has(&n.to_le_bytes()));
        assert!(kept.count() <= PLACES);
    }
}
