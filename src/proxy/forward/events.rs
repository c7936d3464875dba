//! Streams of events: passed on in chunks of our own, so that a drain can end one between two events.

use std::task::Context;

use super::response::{MALFORMED_CHUNK, Receiving, RemainingBody};
use super::{Exchange, ForwardFailure};
use crate::proxy::h1::chunked::{ChunkDecoder, LAST_CHUNK, start_chunk};
use crate::proxy::messages::sse::EventTracker;
use crate::rt::shutdown_signal::Level;

/// A stream of events under way.
#[derive(Debug)]
pub(super) struct EventStream {
    /// `None`: the backend sends until it closes.
    pub(super) decoder: Option<ChunkDecoder>,
    pub(super) data: Vec<u8>,
    pub(super) tracker: EventTracker,
}

impl Exchange<'_> {
    pub(super) fn digest_events(&mut self) -> Result<(), ForwardFailure> {
        let Receiving::Body(RemainingBody::Events(events)) = &mut self.receiving else {
            return Ok(());
        };
        events.data.clear();
        let mut complete = false;
        match &mut events.decoder {
            Some(decoder) => {
                let (taken, last) = decoder
                    .decode(self.incoming.bytes(), &mut events.data)
                    .map_err(|_| ForwardFailure::Truncated(MALFORMED_CHUNK))?;
                self.incoming.consume(taken);
                complete = last;
            }
            None => {
                events.data.extend_from_slice(self.incoming.bytes());
                self.incoming.clear();
            }
        }
        if self.ending
            && let Some(end) = events.tracker.last_end(&events.data)
        {
            events.data.truncate(end);
            complete = true;
            self.tally.ended_orderly = true;
        }
        events.tracker.feed(&events.data);
        if !events.data.is_empty() {
            start_chunk(self.outgoing, events.data.len());
            self.outgoing.extend_from_slice(&events.data);
            self.outgoing.extend_from_slice(b"\r\n");
        }
        if complete {
            self.outgoing.extend_from_slice(LAST_CHUNK);
            self.receiving = Receiving::Done;
        }
        Ok(())
    }

    /// A drain or a shutdown wants streams to end: between two events, at this connection's own moment.
    pub(super) fn poll_farewell(&mut self, cx: &mut Context<'_>) -> bool {
        if !matches!(
            self.receiving,
            Receiving::Body(
                RemainingBody::Events(_) | RemainingBody::Call(_) | RemainingBody::Compressed(_)
            )
        ) || !self.may_last()
        {
            return false;
        }
        let upstream = self.connection.ticket.interrupt();
        let at = if upstream.level() >= Level::End {
            upstream.at()
        } else if self.client.interrupt.level() >= Level::End {
            self.client.interrupt.at()
        } else {
            return false;
        };
        if self.ending || self.client.timer.poll(cx, at).is_pending() {
            return false;
        }
        self.ending = true;
        self.end_compressed_events();
        if let Receiving::Body(RemainingBody::Events(events)) = &self.receiving
            && events.tracker.is_between_events()
            && self.is_delivered()
        {
            self.outgoing.extend_from_slice(LAST_CHUNK);
            self.receiving = Receiving::Done;
            self.tally.ended_orderly = true;
        }
        true
    }
}
