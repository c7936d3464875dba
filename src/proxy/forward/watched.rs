//! What a response says about its backend, for pools that judge their backends by attempts.

use super::Exchange;
use crate::core::Time;
use crate::core::outlier::AttemptError;
use crate::proxy::h1::response::ResponseBody;
use crate::proxy::messages::grpc;
use crate::registry::endpoint::outcomes::AttemptOutcome;
use crate::rt::clock;

impl Exchange<'_> {
    /// Notes the head of the final response, before any of it is consumed.
    #[cold]
    pub(super) fn note_head(&mut self, now: Time) {
        let Some(watch) = self.order.watch else {
            return;
        };
        let error = match self.order.request.is_grpc && self.response.status == 200 {
            true => self.judge_call_head().and_then(call_error),
            false => AttemptError::of_status(self.response.status)
                // A planned response with `Retry-After` doesn't count against the backend.
                .filter(|_| self.response.status != 503 || self.field(b"retry-after").is_none()),
        };
        self.tally.error = error;
        watch.note(AttemptOutcome::Head { error }, now);
    }

    /// Notes a response that was delivered completely. If it counts against the backend, the head has shown that.
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

    /// Notes the trailers of a gRPC response, with its status. Without a status, the client assumes UNKNOWN.
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

    /// Returns the status of a call that failed immediately: it is in the head, and no body follows. If there is no
    /// body and no status, the client assumes UNKNOWN. `None`: the trailers have the status.
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

    /// Returns the value of a header field of the response head.
    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        let bytes = self.incoming.bytes();
        let mut fields = self.response.fields.iter();
        let field = fields.find(|field| field.name.of(bytes).eq_ignore_ascii_case(name))?;
        Some(field.value.of(bytes))
    }
}

/// Returns the error of the backend that a call's status shows, if any.
fn call_error(status: u8) -> Option<AttemptError> {
    grpc::is_backend_fault(status).then_some(AttemptError::CallStatus(status))
}
