//! Notes an answer, where its request is followed by a split plan or a trace.

use super::Exchange;
use crate::core::call_status::CallStatus;
use crate::proxy::messages::grpc;

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

    /// The head of the answer to a call is here, and nothing of it has been consumed yet: it may have all that is said of
    /// the call.
    #[cold]
    pub(super) fn follow_call_head(&mut self) {
        let status = self.judge_call_head();
        self.follow_call(status);
    }

    /// The trailers of a call are here. Without a status, its client takes it for UNKNOWN, unless HTTP's says more.
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
