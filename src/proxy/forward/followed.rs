//! Notes an answer, where somebody follows its request: a plan that moves a split, or its trace.

use super::Exchange;

impl Exchange<'_> {
    /// The answer's head has been taken.
    #[cold]
    pub(super) fn follow_answer(&mut self) {
        let (Some(followed), Some(at)) = (&mut self.client.followed, self.tally.answered) else {
            return;
        };
        if let Some(metered) = &mut followed.metered {
            metered.answer(self.tally.status, at);
        }
        if let Some(attempt) = followed.attempt() {
            attempt.status = self.tally.status;
            attempt.answered = Some(at);
        }
    }
}
