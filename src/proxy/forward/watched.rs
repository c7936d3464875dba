//! What an answer says about its backend, for pools that judge their backends by that.

use super::Exchange;
use crate::core::Time;
use crate::core::outlier::AttemptError;
use crate::proxy::h1::response::ResponseBody;
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
            true => self.judge_call_head().and_then(call_error),
            false => AttemptError::of_status(self.response.status)
                // A planned answer, with `Retry-After`: it doesn't speak against the backend.
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

    /// The trailers of a call are here: they have its status. Without one, its client takes it for UNKNOWN.
    pub(super) fn note_trailers(&mut self, status: Option<u8>) {
        self.follow_trailers(status);
        if let (Some(watch), None) = (self.order.watch, self.tally.error)
            && self.response.status == 200
            && !self.is_call_judged
            && let Some(error) = call_error(status.unwrap_or(grpc::UNKNOWN))
        {
            self.tally.error = Some(error);
            watch.note(AttemptOutcome::Failed(error), clock::now());
        }
    }

    /// A call that failed at once has its status in the head, and nothing follows. Where nothing follows, and there is
    /// none, the client takes it for UNKNOWN. `None`: the trailers have it.
    pub(super) fn judge_call_head(&mut self) -> Option<u8> {
        let status = match self.field(b"grpc-status") {
            Some(value) => Some(grpc::status(value).unwrap_or(grpc::UNKNOWN)),
            None => (self.response.status == 200 && self.has_no_body()).then_some(grpc::UNKNOWN),
        };
        self.is_call_judged = status.is_some();
        status
    }

    fn has_no_body(&self) -> bool {
        matches!(
            self.response.body,
            ResponseBody::None | ResponseBody::Length(0)
        )
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
