//! Records a response for a split plan or a trace that follows its request.

use super::Exchange;
use crate::core::call_status::CallStatus;
use crate::proxy::messages::grpc;

impl Exchange<'_> {
    /// Records that the response head was accepted.
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

    /// Records the head of a gRPC response, before any of it is consumed: it may contain the call's status.
    #[cold]
    pub(super) fn follow_call_head(&mut self) {
        let status = self.judge_call_head();
        self.follow_call(status);
    }

    /// Records the trailers of a gRPC response. Without a status, the client assumes UNKNOWN, unless the HTTP status
    /// says more.
    pub(super) fn follow_trailers(&mut self, status: Option<u8>) {
        if self.client.followed.is_some() && !self.is_call_judged {
            let of_none = (self.response.status == 200).then_some(grpc::UNKNOWN);
            self.follow_call(status.or(of_none));
        }
    }

    #[cold]
    fn follow_call(&mut self, status: Option<u8>) {
        let followed = self.client.followed.as_mut();
        if let Some(attempt) = followed.and_then(|followed| followed.attempt()) {
            attempt.call_status = status.map(CallStatus);
        }
    }
}
