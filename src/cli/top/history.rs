//! Values of a figure in the last minutes, one for each second.

use std::collections::VecDeque;

/// Number of seconds that are kept.
const LENGTH: usize = 240;

/// The last values; `None` for seconds in which it was unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct History(VecDeque<Option<f64>>);

impl History {
    /// Adds the newest value.
    pub(super) fn push(&mut self, value: Option<f64>) {
        if self.0.len() == LENGTH {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// The newest `count` values, the oldest first; fewer if there are fewer.
    pub(super) fn last(&self, count: usize) -> impl Iterator<Item = Option<f64>> + '_ {
        let skipped = self.0.len().saturating_sub(count);
        self.0.iter().skip(skipped).copied()
    }

    /// The newest value, if it is known.
    pub(super) fn newest(&self) -> Option<f64> {
        self.0.back().copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn history_keeps_the_newest_values_in_their_order(
            values in prop::collection::vec(prop::option::of(0.0f64..1e6), 0..600),
            count in 0usize..300,
        ) {
            let mut history = History::default();
            for value in &values {
                history.push(*value);
            }
            let kept = values.len().min(LENGTH).min(count);
            let shown: Vec<_> = history.last(count).collect();
            prop_assert_eq!(&shown[..], &values[values.len() - kept..]);
            prop_assert_eq!(history.newest(), values.last().copied().flatten());
        }
    }
}
