//! What an answer says about its backend, for pools that judge their backends by that.

use super::Exchange;
use crate::core::Time;
use crate::core::outlier::AttemptError;
use crate::proxy::messages::grpc;
use crate::registry::endpoint::outcomes::AttemptOutcome;
use crate::rt::clock;

impl Exchange<'_> {
    /// The head of the final answer is here, and nothing of it has been consumed yet.
    #[cold]
    pub(super) fn note_head(&mut self, now: Time) {
        let Some(watch) = self.order.watch else {
            return;
        };
        let error = match self.order.request.is_grpc && self.response.status == 200 {
            // A call that failed at once has its status in the head, and nothing follows.
            true => self
                .field(b"grpc-status")
                .and_then(grpc::status)
                .and_then(call_error),
            false => AttemptError::of_status(self.response.status)
                // Its answer for now, by plan: it says itself when it will be back.
                .filter(|_| self.response.status != 503 || self.field(b"retry-after").is_none()),
        };
        self.tally.error = error;
        watch.note(AttemptOutcome::Head { error }, now);
    }

    /// The answer was delivered whole. Of one that speaks against its backend, the head has told.
    #[cold]
    pub(super) fn note_whole(&self) {
        let declines = self.response.status == 503;
        if let Some(watch) = self.order.watch
            && self.tally.error.is_none()
            && !declines
        {
            watch.note(AttemptOutcome::Whole, clock::now());
        }
    }

    /// The trailers of a call are here: they have its status.
    pub(super) fn note_trailers(&mut self, status: Option<u8>) {
        if let (Some(watch), None) = (self.order.watch, self.tally.error)
            && let Some(error) = status.and_then(call_error)
        {
            self.tally.error = Some(error);
            watch.note(AttemptOutcome::Failed(error), clock::now());
        }
    }

    /// The value of a field of the answer's head.
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        let bytes = self.incoming.bytes();
        let mut fields = self.response.fields.iter();
        let field = fields.find(|field| field.name.of(bytes).eq_ignore_ascii_case(name))?;
        Some(field.value.of(bytes))
    }
}

/// What the status of a call says against the backend, if anything.
fn call_error(status: u8) -> Option<AttemptError> {
    grpc::is_backend_fault(status).then_some(AttemptError::CallStatus(status))
}
