//! Counts an answer, where a plan moves the split that its request has come by.

use super::Exchange;

impl Exchange<'_> {
    /// The answer's head has been taken.
    #[cold]
    pub(super) fn meter_answer(&mut self) {
        if let (Some(metered), Some(at)) = (&mut self.client.metered, self.tally.answered) {
            metered.answer(self.tally.status, at);
        }
    }
}
