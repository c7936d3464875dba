//! Compresses responses of a backend on their way to the client.
//!
//! [`Exchange::accept_compressible`] decides from the heads of request and response, once per response, and only if
//! `[compression]` is configured. The body then goes through an encoder, step by step, into new chunks. When the
//! backend pauses, the encoder is flushed, so that nothing waits in it for later data, be it an event or the next
//! half of a page.
//!
//! The encoder writes its end marker only when the backend's body is complete. If that breaks off, the client's
//! response is cut too.

use std::task::{Context, Poll};

use super::response::{MALFORMED_CHUNK, MAX_TRAILER, RemainingBody, ResponseProgress};
use super::scratch::{give_back_written, take_written};
use super::{Exchange, ForwardFailure, ResponseTruncation};
use crate::config::CompressionConfig;
use crate::proxy::compression::{
    AnswerTraits, BodyEncoder, EncoderError, STEP, VARY, choose_coding, is_weak_form,
    is_worthwhile, weaken_etag,
};
use crate::proxy::compression::{forbids_transforming, is_of_plain_body};
use crate::proxy::h1::chunked::{ChunkDecoder, ChunkError, LAST_CHUNK, start_chunk};
use crate::proxy::h1::fields::FieldKind;
use crate::proxy::h1::method::{HttpVersion, Method};
use crate::proxy::h1::response::ResponseBody;
use crate::proxy::messages::sse::EventTracker;
use crate::rt::coop::yield_to_reactor;

/// Maximum number of body bytes read at a time.
const PIECE: usize = 32 * 1024;

/// Cost of a byte that is compressed, compared to a byte that is only passed on, when an exchange's turn is measured.
const WEIGHT: usize = 16;

/// How a response that could be compressed is sent.
#[derive(Debug)]
pub(super) struct AnswerPlan {
    /// Whether the client gets it compressed (for a HEAD request: would get it).
    pub(super) is_encoded: bool,
    encoder: Option<BodyEncoder>,
    /// Header fields for its head, as lines.
    lines: Vec<u8>,
}

impl AnswerPlan {
    /// Returns a plan that leaves the body as it is and adds these header fields.
    fn with_lines(lines: Vec<u8>) -> Option<Self> {
        (!lines.is_empty()).then_some(Self {
            is_encoded: false,
            encoder: None,
            lines,
        })
    }

    /// Adds the plan's header fields to a complete head.
    pub(super) fn add_lines(&self, out: &mut Vec<u8>) {
        out.truncate(out.len().saturating_sub(2));
        out.extend_from_slice(&self.lines);
        out.extend_from_slice(b"\r\n");
    }
}

/// How the end of the backend's body is recognized.
#[derive(Debug)]
enum PlainBody {
    Length(u64),
    Chunked(Box<ChunkDecoder>),
    UntilClose,
}

/// A body that goes through an encoder.
#[derive(Debug)]
pub(super) struct CompressedBody {
    plain: PlainBody,
    encoder: BodyEncoder,
    /// Position in the events, if the body is an event stream.
    events: Option<EventTracker>,
    /// Lines of the backend's trailers, including the empty line after them.
    trailers: Vec<u8>,
    /// The response head, held back until there is something of the body to send with it.
    head: Vec<u8>,
    /// Whether the backend has paused, and the thread's other tasks have run meanwhile.
    has_paused: bool,
}

/// The result of a step over the received bytes.
struct CompressedStep {
    /// Number of received bytes that were processed.
    taken: usize,
    /// Whether the body ends with them.
    is_complete: bool,
    /// Whether the event stream was ended deliberately, between two events.
    is_ended: bool,
}

impl CompressedBody {
    /// Returns whether the body ends when the backend closes the connection.
    pub(super) fn ends_with_its_connection(&self) -> bool {
        matches!(self.plain, PlainBody::UntilClose)
    }

    /// Returns whether the encoder keeps data back until more comes.
    fn holds_back(&self) -> bool {
        self.encoder.is_unflushed() || !self.head.is_empty()
    }

    /// Compresses the next part of the received bytes. `is_ending`: an event stream is to end after the next event.
    fn step(
        &mut self,
        received: &[u8],
        is_ending: bool,
        out: &mut Vec<u8>,
    ) -> Result<CompressedStep, ResponseTruncation> {
        let mut step = CompressedStep {
            taken: 0,
            is_complete: false,
            is_ended: false,
        };
        let mut content = 0;
        while step.taken < received.len() && content < STEP && !step.is_complete {
            let here = &received[step.taken..];
            let (framing, most) = match &mut self.plain {
                PlainBody::Length(left) => (0, usize::try_from(*left).unwrap_or(usize::MAX)),
                PlainBody::UntilClose => (0, usize::MAX),
                PlainBody::Chunked(decoder) => {
                    let piece = decoder.next_piece(here, &mut self.trailers);
                    let piece = piece.map_err(|_: ChunkError| MALFORMED_CHUNK)?;
                    (piece.framing, piece.content)
                }
            };
            let here = &here[framing..];
            let data = &here[..here.len().min(most).min(STEP - content)];
            let data = match &mut self.events {
                Some(events) if is_ending => match events.last_end(data) {
                    Some(end) => {
                        step.is_ended = true;
                        &data[..end]
                    }
                    None => data,
                },
                _ => data,
            };
            if let Some(events) = &mut self.events {
                events.feed(data);
            }
            self.encoder
                .push(data, out)
                .map_err(|_: EncoderError| ResponseTruncation::EncoderFailed)?;
            step.taken += framing + data.len();
            content += data.len();
            step.is_complete = step.is_ended
                || match &mut self.plain {
                    PlainBody::Length(left) => {
                        *left -= data.len() as u64;
                        *left == 0
                    }
                    PlainBody::UntilClose => false,
                    PlainBody::Chunked(decoder) => {
                        decoder.took(data.len());
                        decoder.is_complete()
                    }
                };
        }
        Ok(step)
    }

    /// Appends the encoder's output as a chunk, preceded by the head if that is still held back.
    fn emit(&mut self, written: &[u8], outgoing: &mut Vec<u8>) {
        outgoing.append(&mut self.head);
        if !written.is_empty() {
            start_chunk(outgoing, written.len());
            outgoing.extend_from_slice(written);
            outgoing.extend_from_slice(b"\r\n");
        }
    }

    /// Appends the end of the encoded body, the last chunk, and the backend's trailers.
    fn finish(
        &mut self,
        mut written: Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<Vec<u8>, ResponseTruncation> {
        self.encoder
            .finish(&mut written)
            .map_err(|_: EncoderError| ResponseTruncation::EncoderFailed)?;
        self.emit(&written, outgoing);
        let trailers = self.trailers.split_inclusive(|byte| *byte == b'\n');
        let kept = trailers.filter(|line| {
            let name = line.split(|byte| *byte == b':').next();
            *line != b"\r\n" && !name.is_some_and(is_of_plain_body)
        });
        let before = outgoing.len();
        outgoing.extend_from_slice(b"0\r\n");
        kept.for_each(|line| outgoing.extend_from_slice(line));
        outgoing.extend_from_slice(b"\r\n");
        debug_assert!(!self.trailers.is_empty() || outgoing[before..] == *LAST_CHUNK);
        Ok(written)
    }
}

impl Exchange<'_> {
    /// Accepts the head of a response that may be compressed.
    #[cold]
    #[inline(never)]
    pub(super) fn accept_compressible(
        &mut self,
        config: &CompressionConfig,
    ) -> Result<(), ForwardFailure> {
        let plan = self.plan_answer(config);
        self.accept_head(plan)
    }

    /// Decides how the response is sent; `None`: unchanged, whatever the client accepts.
    fn plan_answer(&mut self, config: &CompressionConfig) -> Option<AnswerPlan> {
        let (request, asked) = (self.order.request, self.client.buffer.bytes());
        let answer = self.incoming.bytes();
        let traits = AnswerTraits::read(answer, &self.response.fields);
        let content_type = traits.content_type.of(answer);
        let is_head = request.method == Method::Head;
        match self.response.status {
            304 => return self.plan_not_modified(&traits),
            ..200 | 204..=206 => return None,
            _ => {}
        }
        let length = match self.response.body {
            ResponseBody::Length(length) => Some(length),
            ResponseBody::Chunked | ResponseBody::UntilClose => None,
            ResponseBody::None if is_head => self.told_length(),
            ResponseBody::None => return None,
        };
        let forbids = |value: &[u8]| forbids_transforming(value);
        if request.is_grpc
            || content_type.starts_with(b"application/grpc")
            || traits.is_fixed
            || !is_worthwhile(config, content_type, length)
            || self.is_asked(b"cache-control", forbids)
        {
            return None;
        }
        let mut lines = Vec::with_capacity(128);
        if !traits.varies {
            lines.extend_from_slice(VARY);
        }
        // An HTTP/1.0 client couldn't tell the end of such a body from a broken connection.
        let algorithm = match request.version {
            HttpVersion::Http10 => None,
            HttpVersion::Http11 => choose_coding(asked, request, &config.algorithms),
        };
        let Some(algorithm) = algorithm else {
            return AnswerPlan::with_lines(lines);
        };
        let mut encoder = None;
        if !is_head {
            let lasts = self.response.is_event_stream;
            // A drain may end an event stream before its announced length.
            let length = length.filter(|_| !lasts);
            let counters = &self.plane.counters;
            encoder = BodyEncoder::begin(config, algorithm, length, lasts, counters);
            if encoder.is_none() {
                return AnswerPlan::with_lines(lines);
            }
        }
        lines.extend_from_slice(b"Content-Encoding: ");
        lines.extend_from_slice(algorithm.as_str().as_bytes());
        lines.extend_from_slice(b"\r\n");
        let etag = traits.etag.of(answer);
        if etag.starts_with(b"\"") && !self.is_etag_changed() {
            weaken_etag(&mut lines, etag);
        }
        let is_weak = etag.starts_with(b"W/");
        self.drop_fields(|name| {
            is_of_plain_body(name) || (!is_weak && name.eq_ignore_ascii_case(b"etag"))
        });
        Some(AnswerPlan {
            is_encoded: true,
            encoder,
            lines,
        })
    }

    /// Decides about a 304 response. A client that knows the response by the weak form of its ETag has a compressed
    /// copy, and finds it again by that form only (RFC 9111, section 4.3.4).
    fn plan_not_modified(&mut self, traits: &AnswerTraits) -> Option<AnswerPlan> {
        let etag = traits.etag.of(self.incoming.bytes());
        if !self.is_asked(b"if-none-match", |value| is_weak_form(value, etag))
            || self.is_etag_changed()
        {
            return None;
        }
        let mut lines = Vec::with_capacity(64);
        weaken_etag(&mut lines, etag);
        if !traits.varies {
            lines.extend_from_slice(VARY);
        }
        self.drop_fields(|name| is_of_plain_body(name) || name.eq_ignore_ascii_case(b"etag"));
        AnswerPlan::with_lines(lines)
    }

    /// Returns whether the route sets or removes the ETag of its responses.
    fn is_etag_changed(&self) -> bool {
        let changes = self.order.changes;
        changes.is_some_and(|changes| changes.dropped.has(b"etag"))
    }

    /// Returns whether the request has a header field of this name with a matching value.
    fn is_asked(&self, name: &[u8], fits: impl Fn(&[u8]) -> bool) -> bool {
        let asked = self.client.buffer.bytes();
        self.order.request.fields.iter().any(|field| {
            field.name.of(asked).eq_ignore_ascii_case(name) && fits(field.value.of(asked))
        })
    }

    /// Returns the length that the response to a HEAD request announces.
    fn told_length(&self) -> Option<u64> {
        let answer = self.incoming.bytes();
        let mut fields = self.response.fields.iter();
        let field = fields.find(|field| field.kind == FieldKind::ContentLength)?;
        std::str::from_utf8(field.value.of(answer))
            .ok()?
            .parse()
            .ok()
    }

    /// Removes the header fields with these names, and those about the body's length.
    fn drop_fields(&mut self, is_dropped: impl Fn(&[u8]) -> bool) {
        let answer = self.incoming.bytes();
        for field in &mut self.response.fields {
            if field.kind == FieldKind::ContentLength
                || (field.kind == FieldKind::Other && is_dropped(field.name.of(answer)))
            {
                field.kind = FieldKind::Dropped;
            }
        }
        self.response.kinds |= FieldKind::Dropped.bit();
        self.response.rewrite_length = false;
    }

    /// Begins the response whose head was written from offset `head` on; its body, if there is one, goes through the
    /// plan's encoder.
    pub(super) fn begin_compressed(&mut self, plan: AnswerPlan, head: usize) {
        let (Some(encoder), ResponseProgress::Body(_)) = (plan.encoder, &self.receiving) else {
            return;
        };
        let plain = match self.response.body {
            ResponseBody::Length(length) => PlainBody::Length(length),
            ResponseBody::Chunked => {
                PlainBody::Chunked(Box::new(ChunkDecoder::of_response(MAX_TRAILER)))
            }
            ResponseBody::UntilClose => PlainBody::UntilClose,
            ResponseBody::None => return,
        };
        let events = self.response.is_event_stream;
        self.receiving =
            ResponseProgress::Body(RemainingBody::Compressed(Box::new(CompressedBody {
                plain,
                encoder,
                events: events.then(EventTracker::default),
                trailers: Vec::new(),
                head: self.outgoing.split_off(head),
                has_paused: false,
            })));
    }

    /// Receives more of a compressed body, unless there are unprocessed bytes already.
    #[cold]
    #[inline(never)]
    pub(super) fn poll_compressed(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, ForwardFailure> {
        if !self.incoming.is_empty() {
            return Ok(Poll::Ready(()));
        }
        let polled = self.poll_receive_upto(cx, PIECE)?;
        let ResponseProgress::Body(RemainingBody::Compressed(body)) = &mut self.receiving else {
            return Ok(polled);
        };
        if polled.is_ready() {
            body.has_paused = false;
        } else if body.holds_back() {
            if !body.has_paused {
                // If the backend is quick, the data of several reads is compressed together.
                body.has_paused = true;
                yield_to_reactor(cx);
                return Ok(Poll::Pending);
            }
            body.has_paused = false;
            self.flush_compressed()?;
            return Ok(Poll::Ready(()));
        }
        Ok(polled)
    }

    /// Compresses the next part of the received bytes.
    #[cold]
    #[inline(never)]
    pub(super) fn compress_received(&mut self) -> Result<(), ForwardFailure> {
        let is_ending = self.ending;
        let step =
            self.write_compressed(|body, received, out| body.step(received, is_ending, out))?;
        let Some(step) = step else {
            return Ok(());
        };
        self.incoming.consume(step.taken);
        self.turn = self.turn.saturating_sub(step.taken * WEIGHT);
        if step.is_complete {
            self.tally.ended_orderly |= step.is_ended;
            self.finish_compressed()?;
            self.receiving = ResponseProgress::Done;
        }
        Ok(())
    }

    fn flush_compressed(&mut self) -> Result<(), ForwardFailure> {
        self.write_compressed(|body, _, out| {
            let flushed = body.encoder.flush(out);
            flushed.map_err(|_: EncoderError| ResponseTruncation::EncoderFailed)
        })?;
        // The head is sent even if no byte of the body has come.
        if let ResponseProgress::Body(RemainingBody::Compressed(body)) = &mut self.receiving {
            self.outgoing.append(&mut body.head);
        }
        Ok(())
    }

    /// Ends the response after the backend's body is complete.
    pub(super) fn finish_compressed(&mut self) -> Result<(), ForwardFailure> {
        let ResponseProgress::Body(RemainingBody::Compressed(body)) = &mut self.receiving else {
            return Ok(());
        };
        let written = take_written();
        let written = body
            .finish(written, self.outgoing)
            .map_err(ForwardFailure::Truncated)?;
        give_back_written(written);
        Ok(())
    }

    /// Ends an event stream, immediately if it is between two events.
    pub(super) fn end_compressed_events(&mut self) {
        let ResponseProgress::Body(RemainingBody::Compressed(body)) = &mut self.receiving else {
            return;
        };
        let is_between = |events: &EventTracker| events.is_between_events();
        if body.events.as_ref().is_some_and(is_between)
            && self.incoming.is_empty()
            && self.finish_compressed().is_ok()
        {
            self.receiving = ResponseProgress::Done;
            self.tally.ended_orderly = true;
        }
    }

    /// Calls `step` to write something with the encoder, and sends the output as a chunk.
    fn write_compressed<T>(
        &mut self,
        step: impl FnOnce(&mut CompressedBody, &[u8], &mut Vec<u8>) -> Result<T, ResponseTruncation>,
    ) -> Result<Option<T>, ForwardFailure> {
        let ResponseProgress::Body(RemainingBody::Compressed(body)) = &mut self.receiving else {
            return Ok(None);
        };
        let mut written = take_written();
        let stepped = step(body, self.incoming.bytes(), &mut written);
        let stepped = stepped.map_err(ForwardFailure::Truncated)?;
        if !written.is_empty() {
            body.emit(&written, self.outgoing);
        }
        give_back_written(written);
        self.count_outgoing();
        Ok(Some(stepped))
    }
}
