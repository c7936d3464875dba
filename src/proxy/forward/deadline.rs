//! Timeouts of an attempt: how long it waits for which peer, and how it fails after that.

use std::task::{Context, Poll};

use super::{Exchange, ForwardEnd, ForwardFailure, ResponseTruncation, Sending};
use crate::core::Time;
use crate::metrics::ServerLimit;
use crate::net::socket::unsent;
use crate::proxy::client::heard::WaitEnd;
use crate::rt::clock;

impl Exchange<'_> {
    /// Returns whether the client is the one to send next: the backend has everything received so far, and the client
    /// doesn't wait for a `100 Continue` first (RFC 9110 §10.1.1).
    fn waits_for_body(&self) -> bool {
        let asked_first = self.order.request.expect_continue;
        self.sending == Sending::Active
            && !self.upload.is_complete()
            && self.head_sent == self.head.len()
            && self.upload.unsent(&self.client.buffer).is_empty()
            && !(asked_first && self.interim == 0 && self.upload.total() == 0)
    }

    /// Polls the deadline: ready once a peer has kept the attempt waiting for too long.
    pub(super) fn poll_deadline(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ForwardEnd, ForwardFailure>> {
        let (at, failure) = match self.deadline() {
            Some((at, failure)) => (at, failure),
            None if self.is_deaf => (Time::MAX, ForwardFailure::ClientGone),
            None => return Poll::Pending,
        };
        self.looks
            .poll(cx, self.client, self.is_deaf, at)
            .map(|waited| match waited {
                WaitEnd::Enough => Err(failure),
                WaitEnd::Abandoned => Err(ForwardFailure::ClientGone),
            })
    }

    /// Returns the deadline of the peer that is waited for now, and the failure if it passes.
    fn deadline(&mut self) -> Option<(Time, ForwardFailure)> {
        let server = self.order.server;
        let for_body = self.waits_for_body();
        let (mut at, mut failure) = if !self.is_delivered() {
            let end = self.progress + server.body_timeout;
            (end, self.cut(ServerLimit::BodyTimeout))
        } else if self.may_be_silent(for_body) {
            return None;
        } else if !self.begun && for_body {
            let end = self.progress + server.body_timeout;
            (end, self.limited(ServerLimit::BodyTimeout, 408))
        } else {
            let end = self.progress + self.order.read_timeout;
            (
                end,
                match self.begun {
                    true => ForwardFailure::Truncated(ResponseTruncation::Silent),
                    false => ForwardFailure::Timeout,
                },
            )
        };
        let mut sooner = |end: Option<Time>, then: ForwardFailure| {
            if let Some(end) = end.filter(|end| *end < at) {
                (at, failure) = (end, then);
            }
        };
        if !self.is_delivered() && self.pace_down.is_waiting() {
            let taken = self
                .tally
                .bytes_out
                .saturating_sub(unsent(&self.client.stream));
            sooner(
                self.pace_down.deadline(taken),
                self.cut(ServerLimit::ResponseRate),
            );
        } else if for_body {
            if self.pace_up.wants_to_know() {
                self.pace_up.wait(clock::now());
            }
            let end = self.pace_up.deadline(self.upload.total());
            sooner(end, self.limited(ServerLimit::BodyRate, 408));
        }
        if self.order.ends.is_some() && !(self.begun && self.may_last()) {
            let status = if for_body { 408 } else { 504 };
            sooner(
                self.order.ends,
                self.limited(ServerLimit::TotalTimeout, status),
            );
        }
        Some((at, failure))
    }

    /// Returns the failure for a reached limit: answered with `status` if no response has begun.
    pub(super) fn limited(&self, limit: ServerLimit, status: u16) -> ForwardFailure {
        ForwardFailure::Limited {
            limit,
            answer: (!self.begun).then_some(status),
        }
    }

    /// Returns the failure for a reached limit if no response can be sent: the client is cut off.
    fn cut(&self, limit: ServerLimit) -> ForwardFailure {
        ForwardFailure::Limited {
            limit,
            answer: None,
        }
    }
}
