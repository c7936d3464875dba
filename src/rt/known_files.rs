//! Paths that were regular files a moment ago: these are opened without a check before. This is only a hint for a short
//! time; after the open the file is checked in any case.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of remembered paths, a power of two. A new path may replace an earlier one.
const CAPACITY: usize = 256;

/// Paths below one directory.
#[derive(Debug)]
pub(super) struct KnownFiles {
    /// Has a random secret, so that no client can choose a name with the hash of another one.
    hasher: RandomState,
    /// Hash of a path; 0: none.
    marks: [AtomicU64; CAPACITY],
}

impl Default for KnownFiles {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            marks: [const { AtomicU64::new(0) }; CAPACITY],
        }
    }
}

impl KnownFiles {
    /// Remembers that this path is a regular file.
    pub(super) fn note(&self, path: &[u8]) {
        let mark = self.mark(path);
        self.place(mark).store(mark, Ordering::Relaxed);
    }

    /// Whether this path was a regular file.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        let mark = self.mark(path);
        self.place(mark).load(Ordering::Relaxed) == mark
    }

    fn mark(&self, path: &[u8]) -> u64 {
        self.hasher.hash_one(path).max(1)
    }

    fn place(&self, mark: u64) -> &AtomicU64 {
        &self.marks[mark as usize % CAPACITY]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noted_paths_are_known_and_others_are_not() {
        let known = KnownFiles::default();
        assert!(!known.has(b"a"));
        known.note(b"a");
        assert!(known.has(b"a"));
        let others = (0..10_000_u32).filter(|n| known.has(&n.to_le_bytes()));
        assert_eq!(others.count(), 0);
        (0..10_000_u32).for_each(|n| known.note(&n.to_le_bytes()));
        let kept = (0..10_000_u32).filter(|n| known.has(&n.to_le_bytes()));
        assert!(kept.count() <= CAPACITY);
    }
}
