//! gRPC calls: streams that can be ended between two messages, and that may be silent for any time.

use std::time::Duration;

use super::response::{MAX_TRAILER, RemainingBody, ResponseProgress};
use super::{Exchange, ForwardFailure, ResponseTruncation};
use crate::proxy::error_response::SHUTTING_DOWN;
use crate::proxy::h1::chunked::{ChunkDecoder, ChunkError};
use crate::proxy::h1::request::RequestHead;
use crate::proxy::messages::grpc::{self, MessageTracker};
use crate::rt::clock;
use crate::rt::shutdown_signal::ShutdownLevel;

/// Longest time for writing the status of a call that failed.
const LAST_WORD: Duration = Duration::from_millis(100);

/// The response of a call in progress.
#[derive(Debug)]
pub(super) struct GrpcResponse {
    decoder: ChunkDecoder,
    tracker: MessageTracker,
    /// Its trailers, as far as they have arrived.
    trailers: Vec<u8>,
}

impl Default for GrpcResponse {
    fn default() -> Self {
        Self {
            decoder: ChunkDecoder::of_response(MAX_TRAILER),
            tracker: MessageTracker::default(),
            trailers: Vec::new(),
        }
    }
}

impl GrpcResponse {
    /// Returns how many bytes belong to the response, and whether it is complete with them. If it is `ending`, at
    /// most the bytes up to the end of a message are counted.
    pub(super) fn follow(
        &mut self,
        bytes: &[u8],
        ending: bool,
    ) -> Result<(usize, bool), ChunkError> {
        let mut at = 0;
        while at < bytes.len() && !self.decoder.is_complete() {
            if ending && self.may_end() {
                break;
            }
            let most = if ending { at + 1 } else { bytes.len() };
            let piece = self
                .decoder
                .next_piece(&bytes[at..most], &mut self.trailers)?;
            at += piece.framing;
            self.tracker.feed(&bytes[at..at + piece.content]);
            self.decoder.took(piece.content);
            at += piece.content;
        }
        Ok((at, self.decoder.is_complete()))
    }

    /// Returns the status in its trailers, once they have arrived.
    pub(super) fn status(&self) -> Option<u8> {
        grpc::status_of(&self.trailers)
    }

    /// Returns whether the bytes passed on end with a complete message and a complete chunk.
    fn may_end(&self) -> bool {
        self.decoder.is_between_chunks() && self.tracker.is_between_messages()
    }
}

impl Exchange<'_> {
    /// Returns whether the response may last for any time, with pauses.
    pub(super) fn may_last(&self) -> bool {
        self.response.is_event_stream || self.order.request.is_grpc
    }

    /// Returns whether no data is due for now: an event, a message, or (`for_body`) more of the client's side of a
    /// call.
    pub(super) fn may_be_silent(&self, for_body: bool) -> bool {
        let calls = self.order.request.is_grpc && for_body;
        calls || (self.begun && self.may_last())
    }

    /// Returns why a call is ended that could go on: the backend is about to stop, or the proxy is.
    pub(super) fn why_it_ends(&self) -> &'static str {
        match self.connection.ticket.interrupt().level() >= ShutdownLevel::End {
            true => grpc::STOPPING,
            false => SHUTTING_DOWN,
        }
    }

    /// Ends a call with UNAVAILABLE, if it is between two messages and the client has received all of it.
    pub(super) fn end_call(&mut self, why: &str) -> bool {
        let ResponseProgress::Body(RemainingBody::Call(call)) = &self.receiving else {
            return false;
        };
        if !call.may_end() || !self.is_delivered() {
            return false;
        }
        grpc::write_end(self.outgoing, why);
        self.client.follow_call(grpc::UNAVAILABLE);
        self.receiving = ResponseProgress::Done;
        self.tally.ended_orderly = true;
        true
    }

    /// Sends the client of a failed call a status, if possible, instead of only resetting the stream.
    pub(super) async fn tell_of(&mut self, failure: ForwardFailure) {
        let why = match failure {
            ForwardFailure::Truncated(ResponseTruncation::UpstreamClosed) => {
                "the backend closed the connection"
            }
            ForwardFailure::Truncated(ResponseTruncation::CutByShutdown) => SHUTTING_DOWN,
            ForwardFailure::Truncated(cause @ ResponseTruncation::MalformedHttp2) => cause.as_str(),
            ForwardFailure::Truncated(_) => grpc::STOPPING,
            _ => return,
        };
        if self.end_call(why) {
            self.tally.ended_orderly = false;
            let end = std::mem::take(self.outgoing);
            if self
                .client
                .write_all(&end, clock::now() + LAST_WORD)
                .await
                .is_ok()
            {
                self.tally.bytes_out += end.len() as u64;
            }
        }
    }
}

/// Returns the timeout for a call's response: one second more than `grpc-timeout`, or `otherwise` if that is longer.
/// The client watches its own deadline.
pub fn answer_timeout(head: &RequestHead, buffer: &[u8], otherwise: Duration) -> Duration {
    if !head.is_grpc {
        return otherwise;
    }
    let said = head
        .fields
        .iter()
        .find(|field| field.name.of(buffer).eq_ignore_ascii_case(b"grpc-timeout"));
    let said = said.and_then(|field| grpc::timeout(field.value.of(buffer)));
    said.map_or(otherwise, |said| {
        otherwise.max(said + Duration::from_secs(1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ending_call_stops_after_a_message_and_its_chunk() {
        let whole =
            b"7\r\n\0\0\0\0\x02ab\r\n6\r\n\0\0\0\0\x02a\r\n1\r\nb\r\n0\r\ngrpc-status: 0\r\n\r\n";
        let mut call = GrpcResponse::default();
        assert_eq!(call.follow(whole, false), Ok((whole.len(), true)));
        let mut call = GrpcResponse::default();
        assert_eq!(call.follow(&whole[..5], false), Ok((5, false)));
        assert_eq!(call.follow(&whole[5..], true), Ok((7, false)));
        assert!(call.may_end());
        assert_eq!(call.follow(&whole[12..26], false), Ok((14, false)));
        assert_eq!(call.follow(&whole[26..], true), Ok((3, false)));
        assert!(call.may_end());
    }
}
