//! Converts an outgoing body from HTTP/1 framing to DATA frames: of a response to a client, or of a request to a
//! backend.

use std::io;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;

use super::headers;
use crate::proxy::h1::chunked::ChunkDecoder;
use crate::proxy::memory::{StreamMemory, UnsentContent};

/// Maximum size of a trailer section, in bytes: no smaller than the HTTP/1 plane's own limit.
const MAX_TRAILER: usize = 64 * 1024;

/// The stream that a body is sent on. The peer decides how much content waits in the `h2` crate, so it is counted; if
/// no memory is left, a connection has to send one part before it gets the next.
#[derive(Debug)]
pub(super) struct CountedSink {
    pub(super) stream: SendStream<UnsentContent>,
    memory: Arc<StreamMemory>,
    /// Its turn among the streams that wait for memory.
    turn: u64,
}

impl CountedSink {
    pub(super) fn new(stream: SendStream<UnsentContent>, memory: Arc<StreamMemory>) -> Self {
        Self {
            stream,
            memory,
            turn: 0,
        }
    }

    /// Returns how much of the wanted content can be sent now, and requests capacity for the rest.
    fn room(&mut self, wanted: usize) -> usize {
        if self.memory.is_short() {
            return 0;
        }
        self.stream.reserve_capacity(wanted);
        self.stream.capacity()
    }

    /// Waits until there is room for at least one byte of the wanted content.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        let gone = io::ErrorKind::ConnectionReset;
        loop {
            if self.memory.must_wait(cx, &mut self.turn) {
                return Poll::Pending;
            }
            // The crate reports only capacity that was requested, so this comes after the wait for memory: another
            // connection may give memory back at any time.
            self.stream.reserve_capacity(wanted);
            let room = self.stream.capacity();
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::new(gone, error))),
                None => return Poll::Ready(Err(gone.into())),
            }
        }
    }

    /// Sends content, and ends the stream with the last part.
    pub(super) fn send(&mut self, content: Bytes, last: bool) -> Result<(), h2::Error> {
        self.stream.send_data(self.memory.hand_over(content), last)
    }

    /// Ends the stream with trailers.
    fn end_with(&mut self, trailers: HeaderMap) -> Result<(), h2::Error> {
        self.stream.send_trailers(trailers)
    }
}

/// The rest of a body.
#[derive(Debug)]
pub(super) struct Outgoing {
    left: OutgoingRest,
    /// The error for a malformed chunk.
    malformed: io::ErrorKind,
    /// The error for a stream that accepts no more data.
    gone: io::ErrorKind,
}

#[derive(Debug)]
enum OutgoingRest {
    /// This many bytes.
    Length(u64),
    Chunked(Box<Chunks>),
}

/// A chunked body that is decoded.
#[derive(Debug)]
struct Chunks {
    decoder: ChunkDecoder,
    trailers: Vec<u8>,
}

impl OutgoingRest {
    fn chunked(decoder: ChunkDecoder) -> Self {
        let trailers = Vec::new();
        Self::Chunked(Box::new(Chunks { decoder, trailers }))
    }
}

impl Outgoing {
    /// Creates the state of a request body of this length, or in chunks.
    pub(super) fn of_request(length: Option<u64>) -> Self {
        Self {
            left: length.map_or_else(
                || OutgoingRest::chunked(ChunkDecoder::new(MAX_TRAILER)),
                OutgoingRest::Length,
            ),
            malformed: io::ErrorKind::InvalidInput,
            gone: io::ErrorKind::BrokenPipe,
        }
    }

    /// Creates the state of a response body of this length, or in chunks.
    pub(super) fn of_response(length: Option<u64>) -> Self {
        Self {
            left: length.map_or_else(
                || OutgoingRest::chunked(ChunkDecoder::of_response(MAX_TRAILER)),
                OutgoingRest::Length,
            ),
            malformed: io::ErrorKind::InvalidData,
            gone: io::ErrorKind::ConnectionReset,
        }
    }

    /// Takes as much as possible of `bytes`, which are not empty; returns how much that was, and whether the body is
    /// complete now.
    pub(super) fn poll_take(
        &mut self,
        body: &mut Option<CountedSink>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<(usize, bool)>> {
        let gone = |error| io::Error::new(self.gone, error);
        let chunks = match &mut self.left {
            OutgoingRest::Length(left) => {
                let wanted = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                let count = ready!(poll_room(body, cx, wanted))?.min(wanted);
                *left -= count as u64;
                let last = *left == 0;
                let content = Bytes::copy_from_slice(&bytes[..count]);
                opened(body)?.send(content, last).map_err(gone)?;
                return Poll::Ready(Ok((count, last)));
            }
            OutgoingRest::Chunked(chunks) => chunks,
        };
        // The bytes of one write are sent in one DATA frame, as far as there is room.
        let mut room = None;
        loop {
            let (mut at, mut content) = (0, Vec::new());
            while at < bytes.len() {
                let piece = chunks
                    .decoder
                    .next_piece(&bytes[at..], &mut chunks.trailers)
                    .map_err(|error| io::Error::new(self.malformed, error))?;
                at += piece.framing;
                if piece.content == 0 {
                    break;
                }
                let room = *room.get_or_insert_with(|| available(body, bytes.len()));
                let count = piece.content.min(room.saturating_sub(content.len()));
                if count == 0 {
                    break;
                }
                content.extend_from_slice(&bytes[at..at + count]);
                chunks.decoder.took(count);
                at += count;
            }
            let whole = chunks.decoder.is_complete();
            let trailers = whole
                .then(|| headers::read_trailers(mem::take(&mut chunks.trailers)))
                .flatten();
            let last = whole && trailers.is_none();
            if !content.is_empty() || last {
                opened(body)?.send(content.into(), last).map_err(gone)?;
            }
            if let Some(trailers) = trailers {
                opened(body)?.end_with(trailers).map_err(gone)?;
            }
            if at > 0 {
                return Poll::Ready(Ok((at, whole)));
            }
            room = Some(ready!(poll_room(body, cx, bytes.len()))?);
        }
    }
}

/// Returns the stream that a body is sent on, once its head has been sent.
pub(super) fn opened(body: &mut Option<CountedSink>) -> io::Result<&mut CountedSink> {
    body.as_mut()
        .ok_or_else(|| io::ErrorKind::NotConnected.into())
}

/// Returns how much of the wanted content can be sent now, and requests capacity for the rest.
fn available(body: &mut Option<CountedSink>, wanted: usize) -> usize {
    body.as_mut().map_or(0, |body| body.room(wanted))
}

/// Waits until there is room for at least one byte of the wanted content.
pub(super) fn poll_room(
    body: &mut Option<CountedSink>,
    cx: &mut Context<'_>,
    wanted: usize,
) -> Poll<io::Result<usize>> {
    opened(body)?.poll_room(cx, wanted)
}
