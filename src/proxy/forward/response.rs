//! Towards the client: the response's head, its body in whatever framing, and events one by one.

use std::task::{Context, Poll};

use super::super::buffer::LARGE;
use super::compressed::{AnswerPlan, CompressedBody};
use super::events::EventStream;
use super::grpc_call::GrpcResponse;
use super::{Exchange, ForwardFailure, ResponseTruncation, is_reset, poll_write_both};
use crate::proxy::forward::headers::{ClientFraming, ResponseEdit, write_response};
use crate::proxy::h1::chunked::{ChunkDecoder, LAST_CHUNK, start_chunk};
use crate::proxy::h1::method::HttpVersion;
use crate::proxy::h1::request::HeadProgress;
use crate::proxy::h1::response::ResponseBody;
use crate::proxy::h2::client_stream::{ClientStream, StreamFault};
use crate::proxy::messages::sse::EventTracker;
use crate::registry::endpoint::RequestKind;
use crate::rt::clock;
use crate::rt::shutdown_signal::ShutdownLevel;

/// Largest trailer section of a response, in bytes.
pub(super) const MAX_TRAILER: usize = 64 * 1024;

/// What is read of a body at first, in bytes.
const PIECE: usize = 16 * 1024;

/// A backend's chunk that is none.
pub(super) const MALFORMED_CHUNK: ResponseTruncation =
    ResponseTruncation::Malformed("malformed chunk from upstream");

/// Interim responses (1xx) taken before the final one; more is a broken or hostile backend.
const MAX_INTERIM: u32 = 16;

/// Which half is where, downwards.
#[derive(Debug)]
pub(super) enum ResponseProgress {
    Head,
    Body(RemainingBody),
    Done,
}

/// What is left of a response's body.
#[derive(Debug)]
pub(super) enum RemainingBody {
    Length(u64),
    Chunked(Box<ChunkDecoder>),
    /// As above, but the client gets the bare data.
    Dechunked(Box<ChunkDecoder>),
    /// Until the backend closes; the client gets chunks, so that it can tell an end from a break.
    Rechunked,
    /// Server-sent events, in chunks of our own: such a stream can be ended between two events.
    Events(Box<EventStream>),
    /// A call of gRPC, whose stream can be ended between two messages.
    Call(Box<GrpcResponse>),
    /// Any body, in chunks of our own that have it compressed.
    Compressed(Box<CompressedBody>),
    /// Until the backend closes, for a client that knows no chunks.
    UntilClose,
}

impl Exchange<'_> {
    pub(super) fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<(), ForwardFailure> {
        while self.turn > 0 {
            if !self.is_delivered() {
                if self.poll_deliver(cx)?.is_pending() {
                    return Ok(());
                }
                continue;
            }
            if let ResponseProgress::Done = self.receiving {
                return Ok(());
            }
            if self.ending && self.end_call(self.why_it_ends()) {
                continue;
            }
            // Nothing can be passed on, so what is here is at most a part of a head.
            if self.poll_receive(cx)?.is_pending() {
                return Ok(());
            }
            self.process_received()?;
        }
        Ok(())
    }

    pub(super) fn is_delivered(&self) -> bool {
        self.outgoing_sent == self.outgoing.len() && self.passable == 0
    }

    pub(super) fn poll_deliver(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, ForwardFailure> {
        let own = &self.outgoing[self.outgoing_sent..];
        let passing = &self.incoming.bytes()[..self.passable];
        match poll_write_both(cx, &mut self.client.stream, own, passing) {
            Poll::Ready(Ok(count)) if count > 0 => {
                let of_own = count.min(own.len());
                self.outgoing_sent += of_own;
                if self.outgoing_sent == self.outgoing.len() {
                    self.outgoing.clear();
                    self.outgoing_sent = 0;
                }
                self.incoming.consume(count - of_own);
                self.passable -= count - of_own;
                self.client.is_answered = true;
                self.tally.bytes_out += count as u64;
                self.turn = self.turn.saturating_sub(count);
                self.unflushed_down = true;
                self.note_progress();
                if self.pace_down.is_waiting() {
                    self.pace_down.moved(clock::now());
                }
                Ok(Poll::Ready(()))
            }
            Poll::Ready(_) => Err(ForwardFailure::ClientGone),
            Poll::Pending => {
                self.stalled = true;
                if self.pace_down.wants_to_know() {
                    self.pace_down.wait(clock::now());
                }
                Ok(Poll::Pending)
            }
        }
    }

    /// Something was written. After a stall that is progress; what goes through at once needs no clock.
    pub(super) fn note_progress(&mut self) {
        if std::mem::take(&mut self.stalled) {
            self.progress = clock::now();
        }
    }

    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, ForwardFailure> {
        let most = match self.receiving {
            ResponseProgress::Head => self.order.server.max_header,
            ResponseProgress::Body(RemainingBody::Compressed(_)) => {
                return self.poll_compressed(cx);
            }
            _ => self.piece(),
        };
        self.poll_receive_upto(cx, most)
    }

    /// The same, with so much in the buffer at most.
    #[inline(always)]
    pub(super) fn poll_receive_upto(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Result<Poll<()>, ForwardFailure> {
        if self.incoming.len() >= most {
            return Err(self.broken(ResponseTruncation::Malformed("response head too large")));
        }
        match self
            .incoming
            .poll_fill(cx, &mut self.connection.stream, most)
        {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(count)) if count > 0 => {
                if self.begun {
                    // The clock is read once per piece, and not at all for an answer in one piece.
                    self.progress = clock::now();
                }
                Ok(Poll::Ready(()))
            }
            Poll::Ready(result) => {
                let whole = result.is_ok()
                    && self.connection.ticket.interrupt().level() < ShutdownLevel::Cut;
                match self.receiving {
                    ResponseProgress::Body(RemainingBody::UntilClose) if whole => {}
                    ResponseProgress::Body(RemainingBody::Rechunked) if whole => {
                        self.outgoing.extend_from_slice(LAST_CHUNK);
                    }
                    ResponseProgress::Body(RemainingBody::Events(ref events))
                        if whole && events.decoder.is_none() =>
                    {
                        self.outgoing.extend_from_slice(LAST_CHUNK);
                    }
                    ResponseProgress::Body(RemainingBody::Compressed(ref body))
                        if whole && body.ends_with_its_connection() =>
                    {
                        self.finish_compressed()?;
                    }
                    _ => {
                        match ClientStream::of(self.connection).and_then(ClientStream::fault) {
                            Some(StreamFault::MalformedResponse) => {
                                return Err(self.broken(ResponseTruncation::MalformedHttp2));
                            }
                            Some(StreamFault::Untranslatable) => {
                                return Err(ForwardFailure::Untranslatable);
                            }
                            None => {}
                        }
                        self.reset |= result.is_err_and(|error| is_reset(&error));
                        return Err(self.failure_of_upstream_close());
                    }
                }
                self.receiving = ResponseProgress::Done;
                Ok(Poll::Ready(()))
            }
        }
    }

    /// How much of a body is read at a time. The more the client has taken of it, the more: large pieces are cheap where
    /// they go through, and memory where nobody takes them. A client that reads nothing of a hundred answers has taken
    /// what its socket's and its stream's buffers hold, and no more.
    fn piece(&self) -> usize {
        let taken = usize::try_from(self.tally.bytes_out).unwrap_or(usize::MAX);
        (taken / 4).clamp(PIECE, LARGE)
    }

    pub(super) fn failure_of_upstream_close(&self) -> ForwardFailure {
        if self.begun {
            return ForwardFailure::Truncated(ResponseTruncation::UpstreamClosed);
        }
        if self.connection.ticket.interrupt().level() == ShutdownLevel::Cut {
            return ForwardFailure::Cut;
        }
        if self.incoming.is_empty() {
            ForwardFailure::Died { reset: self.reset }
        } else {
            ForwardFailure::BadResponse("upstream closed within the response head")
        }
    }

    pub(super) fn broken(&self, reason: ResponseTruncation) -> ForwardFailure {
        if self.begun {
            ForwardFailure::Truncated(reason)
        } else {
            ForwardFailure::BadResponse(reason.as_str())
        }
    }

    /// Turns what was read into what can be passed on.
    pub(super) fn process_received(&mut self) -> Result<(), ForwardFailure> {
        match &mut self.receiving {
            ResponseProgress::Head => self.digest_head(),
            ResponseProgress::Body(download) => {
                let bytes = self.incoming.bytes();
                let malformed = |_| ForwardFailure::Truncated(MALFORMED_CHUNK);
                match download {
                    RemainingBody::Length(left) => {
                        let taken = (*left).min(bytes.len() as u64);
                        *left -= taken;
                        self.passable = taken as usize;
                        if *left == 0 {
                            self.receiving = ResponseProgress::Done;
                        }
                    }
                    RemainingBody::Chunked(decoder) => {
                        let (taken, complete) = decoder.skip_body(bytes).map_err(malformed)?;
                        self.passable = taken;
                        if complete {
                            self.receiving = ResponseProgress::Done;
                        }
                    }
                    RemainingBody::Call(call) => {
                        let (taken, complete) =
                            call.follow(bytes, self.ending).map_err(malformed)?;
                        self.passable = taken;
                        if complete {
                            let status = call.status();
                            self.receiving = ResponseProgress::Done;
                            self.note_trailers(status);
                        }
                    }
                    RemainingBody::Dechunked(decoder) => {
                        let (taken, complete) =
                            decoder.decode(bytes, self.outgoing).map_err(malformed)?;
                        self.incoming.consume(taken);
                        if complete {
                            self.receiving = ResponseProgress::Done;
                        }
                    }
                    RemainingBody::Rechunked => {
                        start_chunk(self.outgoing, bytes.len());
                        self.outgoing.extend_from_slice(bytes);
                        self.outgoing.extend_from_slice(b"\r\n");
                        self.incoming.clear();
                    }
                    RemainingBody::Events(_) => return self.digest_events(),
                    RemainingBody::Compressed(_) => return self.compress_received(),
                    RemainingBody::UntilClose => self.passable = bytes.len(),
                }
                Ok(())
            }
            ResponseProgress::Done => Ok(()),
        }
    }

    pub(super) fn digest_head(&mut self) -> Result<(), ForwardFailure> {
        if self.incoming.is_empty() {
            return Ok(());
        }
        let progress = self
            .response
            .parse(
                self.incoming.bytes(),
                self.order.request.method,
                self.order.request.upgrade.is_some(),
                self.order.server.max_header,
            )
            .map_err(|error| ForwardFailure::BadResponse(error.reason()))?;
        if progress == HeadProgress::Partial {
            return Ok(());
        }
        if self.response.interim() {
            return self.digest_interim();
        }
        if self.response.status == 101 {
            self.judge_upgrade()?;
        }
        if self.order.request.is_grpc && self.client.followed.is_some() {
            self.follow_call_head();
        }
        let accepted = match self.order.compression {
            None => self.accept_head(None),
            Some(compression) => self.accept_compressible(compression),
        };
        if self.client.followed.is_some() && accepted.is_ok() {
            self.follow_answer();
        }
        accepted
    }

    /// Writes the final response's head for the client, and begins with its body. `plan`: what changes where the answer
    /// could be compressed.
    #[inline(always)]
    pub(super) fn accept_head(&mut self, plan: Option<AnswerPlan>) -> Result<(), ForwardFailure> {
        let now = clock::now();
        self.tally.status = self.response.status;
        self.tally.answered = Some(now);
        self.progress = now;
        if self.order.watch.is_some() {
            self.note_head(now);
        }
        if self.response.status >= 400 && self.intercepts() {
            self.is_intercepted = true;
            self.receiving = ResponseProgress::Done;
            return Ok(());
        }
        let old_client = self.order.request.version == HttpVersion::Http10;
        let framing = match &plan {
            Some(plan) if plan.is_encoded => ClientFraming::Chunked,
            _ => ClientFraming::choose(self.response, self.order.request.version),
        };
        let events = !old_client && self.response.is_event_stream;
        let until_close = old_client
            && matches!(
                self.response.body,
                ResponseBody::Chunked | ResponseBody::UntilClose
            );
        // A response that overtakes its request's body leaves a connection that nobody can make sense of.
        self.keep_alive = self.order.request.keep_alive
            && self.upload.is_complete()
            && !self.client.finished
            && !until_close
            && !self.plane.is_lame();
        let upgraded = self.response.status == 101;
        let before = self.outgoing.len();
        write_response(
            self.outgoing,
            self.incoming.bytes(),
            self.response,
            &ResponseEdit {
                close: !self.keep_alive && !upgraded,
                client_version: self.order.request.version,
                framing,
                via: self.client.via,
                hsts: self.client.origin.hsts,
                changes: self.order.changes.as_ref(),
            },
        );
        if let Some(plan) = &plan {
            plan.add_lines(self.outgoing);
        }
        if let Some(session) = &self.order.session {
            let bytes = self.incoming.bytes();
            self.tally.ends_session =
                session.add_lines(self.response, bytes, self.outgoing, before);
        }
        let head = (self.outgoing.len() - before) as u64;
        self.tally.head_out += head;
        self.incoming.consume(self.response.len);
        self.begun = true;
        self.receiving = match self.response.body {
            _ if upgraded => ResponseProgress::Done,
            ResponseBody::None | ResponseBody::Length(0) => ResponseProgress::Done,
            ResponseBody::Length(length) => ResponseProgress::Body(RemainingBody::Length(length)),
            ResponseBody::Chunked | ResponseBody::UntilClose if events => {
                let chunked = matches!(self.response.body, ResponseBody::Chunked);
                ResponseProgress::Body(RemainingBody::Events(Box::new(EventStream {
                    decoder: chunked.then(|| ChunkDecoder::of_response(MAX_TRAILER)),
                    data: Vec::new(),
                    tracker: EventTracker::default(),
                })))
            }
            ResponseBody::Chunked if self.order.request.is_grpc && !old_client => {
                ResponseProgress::Body(RemainingBody::Call(Box::default()))
            }
            ResponseBody::Chunked => {
                let decoder = Box::new(ChunkDecoder::of_response(MAX_TRAILER));
                ResponseProgress::Body(if old_client {
                    RemainingBody::Dechunked(decoder)
                } else {
                    RemainingBody::Chunked(decoder)
                })
            }
            ResponseBody::UntilClose if old_client => {
                ResponseProgress::Body(RemainingBody::UntilClose)
            }
            ResponseBody::UntilClose => ResponseProgress::Body(RemainingBody::Rechunked),
        };
        if let Some(plan) = plan {
            self.begin_compressed(plan, before);
        }
        if self.may_last() && matches!(self.receiving, ResponseProgress::Body(_)) {
            self.lasting = Some(self.connection.ticket.lasting(RequestKind::Stream));
        }
        if self.incoming.is_empty() {
            return Ok(());
        }
        self.process_received().map_err(|failure| match failure {
            // The head has gone nowhere yet, so the client can still be told.
            ForwardFailure::Truncated(reason) if self.outgoing_sent == 0 => {
                self.begun = false;
                self.tally.status = 0;
                self.tally.answered = None;
                self.tally.head_out -= head;
                ForwardFailure::BadResponse(reason.as_str())
            }
            other => other,
        })
    }

    /// Whether the client gets a page in the place of the answer whose head is here. Behind interim responses it doesn't:
    /// they were the app's.
    fn intercepts(&self) -> bool {
        let status = self.response.status;
        let intercept = self.order.intercept.filter(|_| self.interim == 0);
        intercept.is_some_and(|intercept| intercept.intercept_status(status))
    }

    /// Whether all of a short answer was read with its head, and nothing behind it.
    pub(super) fn is_here_whole(&self) -> bool {
        let body = match self.response.body {
            ResponseBody::None => 0,
            ResponseBody::Length(length) => length,
            ResponseBody::Chunked | ResponseBody::UntilClose => return false,
        };
        (self.incoming.len() as u64).checked_sub(self.response.len as u64) == Some(body)
    }

    /// RFC 9110 §15.2: interim responses go to clients that can take them, and are dropped for others.
    pub(super) fn digest_interim(&mut self) -> Result<(), ForwardFailure> {
        self.interim += 1;
        self.progress = clock::now();
        if self.interim > MAX_INTERIM {
            return Err(ForwardFailure::BadResponse("too many interim responses"));
        }
        if self.order.request.version != HttpVersion::Http10 {
            let before = self.outgoing.len();
            write_response(
                self.outgoing,
                self.incoming.bytes(),
                self.response,
                &ResponseEdit {
                    close: false,
                    client_version: self.order.request.version,
                    framing: ClientFraming::Same,
                    via: self.client.via,
                    hsts: 0,
                    changes: None,
                },
            );
            self.tally.head_out += (self.outgoing.len() - before) as u64;
        }
        self.incoming.consume(self.response.len);
        self.digest_head()
    }
}
