//! Answers that lameduck made itself, by status.

use std::sync::atomic::{AtomicU64, Ordering};

/// Answers of our own are errors, or redirects: 300 to 599.
const FIRST_LOCAL: u16 = 300;

/// Answers of our own, by status.
#[derive(Debug)]
pub(crate) struct LocalAnswers(Box<[AtomicU64]>);

impl Default for LocalAnswers {
    fn default() -> Self {
        Self((FIRST_LOCAL..600).map(|_| AtomicU64::new(0)).collect())
    }
}

impl LocalAnswers {
    pub(crate) fn add(&self, status: u16) {
        let index = status.checked_sub(FIRST_LOCAL).map(usize::from);
        if let Some(counter) = index.and_then(|index| self.0.get(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each status that was answered, with its count.
    pub(crate) fn read(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        (FIRST_LOCAL..)
            .zip(&self.0)
            .map(|(status, counter)| (status, counter.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }
}
