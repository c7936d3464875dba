//! Counters by reason. Reasons are constants of this code, so there are few; clients can't add any.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Largest number of reasons; further ones are counted as `other`.
const MAX_REASONS: usize = 64;

/// A counter for each reason that has occurred, without a lock.
#[derive(Debug)]
pub(crate) struct ReasonCounters {
    slots: Box<[(OnceLock<&'static str>, AtomicU64)]>,
    others: AtomicU64,
}

impl Default for ReasonCounters {
    fn default() -> Self {
        Self {
            slots: (0..MAX_REASONS).map(|_| Default::default()).collect(),
            others: AtomicU64::new(0),
        }
    }
}

impl ReasonCounters {
    pub(crate) fn add(&self, reason: &'static str) {
        let slot = self
            .slots
            .iter()
            .find(|(name, _)| *name.get_or_init(|| reason) == reason);
        slot.map_or(&self.others, |(_, count)| count)
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let others = self.others.load(Ordering::Relaxed);
        self.slots
            .iter()
            .filter_map(|(name, count)| Some((*name.get()?, count.load(Ordering::Relaxed))))
            .chain((others > 0).then_some(("other", others)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count() {
        let reasons = ReasonCounters::default();
        for reason in ["refused", "died", "refused"] {
            reasons.add(reason);
        }
        let read: Vec<_> = reasons.read().collect();
        assert_eq!(read, [("refused", 2), ("died", 1)]);
    }

    #[test]
    fn too_many_reasons_are_counted_together() {
        let reasons = ReasonCounters::default();
        for number in 0..MAX_REASONS + 5 {
            reasons.add(Box::leak(number.to_string().into_boxed_str()));
        }
        assert_eq!(reasons.read().count(), MAX_REASONS + 1);
        assert_eq!(reasons.read().last(), Some(("other", 5)));
    }
}
