//! The direction to the client: the response head, its body in any framing, and single events.

use std::task::{Context, Poll};

use super::super::buffer::LARGE;
use super::compressed::{AnswerPlan, CompressedBody};
use super::events::EventStream;
use super::grpc_call::GrpcResponse;
use super::scratch::LARGEST;
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

/// Maximum size of a response's trailer section, in bytes.
pub(super) const MAX_TRAILER: usize = 64 * 1024;

/// Size of the first reads of a body, in bytes.
const PIECE: usize = 16 * 1024;

/// The reason for an invalid chunk of a backend.
pub(super) const MALFORMED_CHUNK: ResponseTruncation =
    ResponseTruncation::Malformed("malformed chunk from upstream");

/// Maximum number of interim responses (1xx) before the final one; more indicate a broken or hostile backend.
const MAX_INTERIM: u32 = 16;

/// State of receiving the response.
#[derive(Debug)]
pub(super) enum ResponseProgress {
    Head,
    Body(RemainingBody),
    Done,
}

/// How the rest of a response's body is framed.
#[derive(Debug)]
pub(super) enum RemainingBody {
    Length(u64),
    Chunked(Box<ChunkDecoder>),
    /// In chunks; the client gets the bare data.
    Dechunked(Box<ChunkDecoder>),
    /// Until the backend closes; the client gets chunks, so that it can tell the end from a broken connection.
    Rechunked,
    /// Server-sent events, in new chunks: such a stream can be ended between two events.
    Events(Box<EventStream>),
    /// A gRPC call, whose stream can be ended between two messages.
    Call(Box<GrpcResponse>),
    /// Any body, compressed into new chunks.
    Compressed(Box<CompressedBody>),
    /// Until the backend closes, for a client that doesn't know chunks.
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
                if self.outgoing_charge.is_in_use() {
                    self.free_outgoing();
                }
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

    /// Notes that something was written. Only after a stall does that count as progress; otherwise no clock is read.
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

    /// The same, with at most this many bytes in the buffer.
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
                    // The clock is read once per read, and not at all for a response in one piece.
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

    /// Returns how much of a body is read at a time. It grows with the amount that the client has received: large
    /// reads are cheap when data flows, and waste memory when it doesn't. A client that reads nothing of a hundred
    /// responses has received what the buffers of its socket and stream hold, and no more.
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

    /// Turns the bytes read into bytes that can be passed on.
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
                        self.count_outgoing();
                    }
                    RemainingBody::Rechunked => {
                        start_chunk(self.outgoing, bytes.len());
                        self.outgoing.extend_from_slice(bytes);
                        self.outgoing.extend_from_slice(b"\r\n");
                        self.incoming.clear();
                        self.count_outgoing();
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

    /// Counts the output that the proxy writes itself, beside the bytes read for it, towards `max_memory`.
    pub(super) fn count_outgoing(&mut self) {
        let size = self.outgoing.capacity();
        if size > LARGEST {
            self.outgoing_charge.set(size);
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

    /// Writes the final response head for the client, and begins its body. `plan`: changes for a response that could
    /// be compressed.
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
        // If the response begins before the request body is complete, the connection's state is undefined: it can't be
        // reused.
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
            // The head hasn't been sent yet, so the client can still get an error response.
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

    /// Returns whether the response whose head has arrived is replaced by an error page. After interim responses it
    /// is not: they came from the app.
    fn intercepts(&self) -> bool {
        let status = self.response.status;
        let intercept = self.order.intercept.filter(|_| self.interim == 0);
        intercept.is_some_and(|intercept| intercept.intercept_status(status))
    }

    /// Returns whether a short response was read completely with its head, and nothing after it.
    pub(super) fn is_here_whole(&self) -> bool {
        let body = match self.response.body {
            ResponseBody::None => 0,
            ResponseBody::Length(length) => length,
            ResponseBody::Chunked | ResponseBody::UntilClose => return false,
        };
        (self.incoming.len() as u64).checked_sub(self.response.len as u64) == Some(body)
    }

    /// Passes an interim response to clients that understand it, and drops it for others (RFC 9110 §15.2).
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
