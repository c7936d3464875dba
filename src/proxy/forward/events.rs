//! Event streams (server-sent events): passed on in new chunks, so that a drain can end one between two events.

use std::task::Context;

use super::response::{MALFORMED_CHUNK, MAX_TRAILER, RemainingBody, ResponseProgress};
use super::scratch::{give_back_written, take_written};
use super::{Exchange, ForwardEnd, ForwardFailure, Sending, TransferStats};
use crate::net::plain::bare_socket;
use crate::proxy::buffer::Buffer;
use crate::proxy::h1::chunked::{ChunkDecoder, ChunkPosition, LAST_CHUNK, start_chunk};
use crate::proxy::messages::sse::EventTracker;
use crate::proxy::moving::state::MOST_CARRIED;
use crate::proxy::moving::{StayReason, note_stay};
use crate::registry::endpoint::RequestKind;
use crate::rt::clock;
use crate::rt::shutdown_signal::ShutdownLevel;

/// An event stream in progress.
#[derive(Debug, Default)]
pub(super) struct EventStream {
    /// `None`: the backend sends until it closes the connection.
    pub(super) decoder: Option<ChunkDecoder>,
    pub(super) tracker: EventTracker,
}

/// An event stream that is paused while it waits for bytes, so that it can move.
#[derive(Debug, Default)]
pub struct RestingEvents {
    stream: Box<EventStream>,
    /// Whether the client's connection may carry another request.
    keep_alive: bool,
}

impl RestingEvents {
    /// Exports the position in the backend's chunks (`None`: it sends no chunks), the position in the events, and
    /// whether the client's connection may carry another request.
    pub fn export(&self) -> (Option<ChunkPosition>, EventTracker, bool) {
        let decoder = self.stream.decoder.as_ref();
        let chunks = decoder.and_then(ChunkDecoder::position);
        (chunks, self.stream.tracker, self.keep_alive)
    }

    /// Imports what [`Self::export`] has returned.
    pub fn import(chunks: Option<ChunkPosition>, events: EventTracker, keep_alive: bool) -> Self {
        let decoder = chunks.map(|chunks| ChunkDecoder::of_response_at(chunks, MAX_TRAILER));
        Self {
            stream: Box::new(EventStream {
                decoder,
                tracker: events,
            }),
            keep_alive,
        }
    }
}

/// What a stream does in this turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamTurn {
    GoesOn,
    /// The stream is ended between two events.
    Ends,
    /// The stream waits for bytes; it is paused, and may move to another process.
    Rests,
}

impl Exchange<'_> {
    pub(super) fn digest_events(&mut self) -> Result<(), ForwardFailure> {
        let ResponseProgress::Body(RemainingBody::Events(events)) = &mut self.receiving else {
            return Ok(());
        };
        let mut data = take_written();
        let mut complete = false;
        match &mut events.decoder {
            Some(decoder) => {
                let (taken, last) = decoder
                    .decode(self.incoming.bytes(), &mut data)
                    .map_err(|_| ForwardFailure::Truncated(MALFORMED_CHUNK))?;
                self.incoming.consume(taken);
                complete = last;
            }
            None => {
                data.extend_from_slice(self.incoming.bytes());
                self.incoming.clear();
            }
        }
        if self.ending
            && let Some(end) = events.tracker.last_end(&data)
        {
            data.truncate(end);
            complete = true;
            self.tally.ended_orderly = true;
        }
        events.tracker.feed(&data);
        if !data.is_empty() {
            start_chunk(self.outgoing, data.len());
            self.outgoing.extend_from_slice(&data);
            self.outgoing.extend_from_slice(b"\r\n");
        }
        if complete {
            self.outgoing.extend_from_slice(LAST_CHUNK);
            self.receiving = ResponseProgress::Done;
        }
        give_back_written(data);
        self.count_outgoing();
        Ok(())
    }

    /// Frees what a burst of events has needed, once the client has taken it: an event stream may be silent for hours.
    #[cold]
    pub(super) fn free_outgoing(&mut self) {
        if let ResponseProgress::Body(RemainingBody::Events(_)) = self.receiving {
            *self.outgoing = Vec::new();
            self.outgoing_charge.set(0);
        }
    }

    /// Checks whether a drain or a shutdown ends the stream: between two events, at a time of this connection's own.
    pub(super) fn poll_farewell(&mut self, cx: &mut Context<'_>) -> StreamTurn {
        if !matches!(
            self.receiving,
            ResponseProgress::Body(
                RemainingBody::Events(_) | RemainingBody::Call(_) | RemainingBody::Compressed(_)
            )
        ) || !self.may_last()
        {
            return StreamTurn::GoesOn;
        }
        let upstream = self.connection.ticket.interrupt();
        let at = if upstream.level() >= ShutdownLevel::End {
            upstream.at()
        } else if self.client.interrupt.level() >= ShutdownLevel::End {
            self.client.interrupt.at()
        } else {
            return match self.client.interrupt.level() == ShutdownLevel::Move && self.is_at_rest() {
                true => StreamTurn::Rests,
                false => StreamTurn::GoesOn,
            };
        };
        if self.ending || self.client.timer.poll(cx, at).is_pending() {
            return StreamTurn::GoesOn;
        }
        self.ending = true;
        self.end_compressed_events();
        if let ResponseProgress::Body(RemainingBody::Events(events)) = &self.receiving
            && events.tracker.is_between_events()
            && self.is_delivered()
        {
            self.outgoing.extend_from_slice(LAST_CHUNK);
            self.receiving = ResponseProgress::Done;
            self.tally.ended_orderly = true;
        }
        StreamTurn::Ends
    }

    /// Returns whether the stream can be continued by another process. At that point, everything read from the
    /// backend has been written out for the client, and neither peer has more to send for the moment.
    fn is_at_rest(&self) -> bool {
        let reason = match &self.receiving {
            ResponseProgress::Body(RemainingBody::Events(events)) => self.stay_reason(events),
            _ => Some(StayReason::Stream),
        };
        if let Some(reason) = reason {
            note_stay(&self.client.interrupt, reason);
        }
        reason.is_none()
    }

    fn stay_reason(&self, events: &EventStream) -> Option<StayReason> {
        let position = events.decoder.as_ref().map(ChunkDecoder::position);
        if self.ending || position == Some(None) {
            return Some(StayReason::Ending);
        }
        if self.sending != Sending::Done || !self.upload.is_complete() {
            return Some(StayReason::Request);
        }
        let unsent = self.outgoing.len() - self.outgoing_sent;
        // Until the head has been sent, it is unknown how many of the sent bytes belong to the body.
        let is_head_sent = self.tally.bytes_out >= self.tally.head_out;
        if !is_head_sent || unsent.max(self.incoming.len()) > MOST_CARRIED {
            return Some(StayReason::Buffers);
        }
        (self.client.stays()).or_else(|| match bare_socket(&self.connection.stream) {
            Some(_) => None,
            None => Some(StayReason::Stream),
        })
    }

    /// Stores everything that another exchange needs to continue this one.
    #[cold]
    pub(super) fn into_rest(self) -> (Result<ForwardEnd, ForwardFailure>, TransferStats, Buffer) {
        if let ResponseProgress::Body(RemainingBody::Events(stream)) = self.receiving {
            *self.resting = Some(Box::new(RestingEvents {
                stream,
                keep_alive: self.keep_alive,
            }));
        }
        self.outgoing.drain(..self.outgoing_sent);
        // The part of the request that was sent is not needed any more.
        self.upload.release(&mut self.client.buffer);
        (Ok(ForwardEnd::AtRest), self.tally, self.incoming)
    }

    /// Continues a paused stream. The response head has been restored already.
    pub(super) fn come_from_rest(
        &mut self,
        resting: RestingEvents,
        outgoing: Vec<u8>,
        incoming: Buffer,
    ) {
        *self.outgoing = outgoing;
        self.incoming = incoming;
        self.head_sent = self.head.len();
        self.sending = Sending::Done;
        self.begun = true;
        self.client.is_answered = true;
        self.keep_alive = resting.keep_alive;
        self.tally.status = self.response.status;
        self.receiving = ResponseProgress::Body(RemainingBody::Events(resting.stream));
        self.lasting = Some(self.connection.ticket.lasting(RequestKind::Stream));
        self.progress = clock::now();
    }
}
