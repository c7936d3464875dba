//! Counters of responses that lameduck made itself, by status.

use std::sync::atomic::{AtomicU64, Ordering};

/// Lowest status of such a response: they are all final, from 200 to 599.
const MIN_STATUS: u16 = 200;

/// Counters of lameduck's own responses, by status.
#[derive(Debug)]
pub(crate) struct LocalAnswers(Box<[AtomicU64]>);

impl Default for LocalAnswers {
    fn default() -> Self {
        Self((MIN_STATUS..600).map(|_| AtomicU64::new(0)).collect())
    }
}

impl LocalAnswers {
    pub(crate) fn add(&self, status: u16) {
        let index = status.checked_sub(MIN_STATUS).map(usize::from);
        if let Some(counter) = index.and_then(|index| self.0.get(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Statuses that have occurred, with their counts.
    pub(crate) fn read(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        (MIN_STATUS..)
            .zip(&self.0)
            .map(|(status, counter)| (status, counter.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_final_status_is_counted() {
        let answers = LocalAnswers::default();
        for status in [199, 200, 204, 299, 300, 404, 599, 600] {
            answers.add(status);
        }
        let counted: Vec<_> = answers.read().collect();
        let expected = [200, 204, 299, 300, 404, 599].map(|status| (status, 1));
        assert_eq!(counted, expected);
    }
}
