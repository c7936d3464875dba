//! The byte stream of a session with a backend, as the `h2` crate gets it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::carrier::{is_covered, uncover};
use super::frame_header::{
    BlockExtent, END_STREAM, FrameHeader, HEADERS, block_extent, gather, put_block,
};

/// The connection's stream. A peer that closes may have sent GOAWAY before, which says which requests it has never
/// processed: so a failed write doesn't end the session. Reading does, when it reaches the end.
///
/// Values that a request carries past the crate ([`super::carrier`]) are moved to their places when the request is
/// sent.
pub struct SessionWire {
    stream: Stream,
    /// Remaining bytes of the preface or of a frame's payload.
    skip: usize,
    /// The frames of a block with carried values, until it is complete; then its replacement.
    block: Vec<u8>,
    /// Number of bytes of the replacement that have been sent.
    sent: Option<usize>,
}

/// The next step in writing.
enum WriteStep {
    /// This many bytes are written unchanged.
    Plain(usize),
    /// A frame of a block with carried values follows, of this many bytes.
    Carrying(usize),
}

/// Size of the client's preface (RFC 9113 §3.4).
const PREFACE: usize = super::meter::PREFACE.len();

impl SessionWire {
    /// Wraps a new connection.
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            skip: PREFACE,
            block: Vec::new(),
            sent: None,
        }
    }

    /// Decides what to do with the next bytes. The crate writes a frame header, and a complete HEADERS frame, in one
    /// slice.
    fn plan(&self, bytes: &[u8]) -> WriteStep {
        let mut at = self.skip;
        while let Some(header) = bytes.get(at..).and_then(FrameHeader::parse) {
            let frame = &bytes[at..];
            let is_part = !self.block.is_empty();
            let carries = is_part
                || (header.kind == HEADERS && header.fragment(frame).is_some_and(is_covered));
            if carries && at == 0 {
                return WriteStep::Carrying(header.size().min(frame.len()));
            }
            if carries {
                return WriteStep::Plain(at);
            }
            at += header.size();
        }
        WriteStep::Plain(bytes.len())
    }

    /// Processes the first `gone` of the offered `bytes`, which were written unchanged.
    fn follow(&mut self, bytes: &[u8], gone: usize) {
        let mut at = self.skip;
        while at < gone {
            match bytes.get(at..).and_then(FrameHeader::parse) {
                Some(header) => at += header.size(),
                // The crate never offers a part of a header.
                None => at = gone,
            }
        }
        self.skip = at - gone;
    }

    /// Takes a complete frame of a block with carried values.
    fn take(&mut self, frame: &[u8]) {
        self.block.extend_from_slice(frame);
        let first = FrameHeader::parse(&self.block);
        if let (Some(first), BlockExtent::Whole(_)) = (first, block_extent(&self.block)) {
            let mut block = Vec::with_capacity(self.block.len());
            if gather(&self.block).is_some_and(|carrying| uncover(&carrying, &mut block)) {
                self.block.clear();
                put_block(&mut self.block, first.stream, first.has(END_STREAM), &block);
            }
            self.sent = Some(0);
        }
    }

    /// Writes the replacement of a block. Ready: all of it is written.
    fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(sent) = self.sent {
            let rest = &self.block[sent..];
            if rest.is_empty() {
                self.block = Vec::new();
                self.sent = None;
                break;
            }
            let count = match ready!(Pin::new(&mut *self.stream).poll_write(cx, rest)) {
                Ok(count) if count > 0 => count,
                _ => rest.len(),
            };
            self.sent = Some(sent + count);
        }
        Poll::Ready(())
    }

    /// Writes what can be written at once of `bytes`; `more`: the bytes after them, if all of `bytes` are written
    /// unchanged.
    fn poll_pieces(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        pieces: Option<&[io::IoSlice<'_>]>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_block(cx));
        let count = match self.plan(bytes) {
            WriteStep::Carrying(count) => {
                self.take(&bytes[..count]);
                return Poll::Ready(Ok(count));
            }
            WriteStep::Plain(count) => count,
        };
        let stream = Pin::new(&mut *self.stream);
        let (written, all) = match pieces {
            Some(pieces) if count == bytes.len() => (
                ready!(stream.poll_write_vectored(cx, pieces)),
                pieces.iter().map(|piece| piece.len()).sum(),
            ),
            _ => (ready!(stream.poll_write(cx, &bytes[..count])), count),
        };
        let gone = match written {
            Ok(count) if count > 0 => count,
            _ => all,
        };
        self.follow(bytes, gone);
        Poll::Ready(Ok(gone))
    }
}

impl AsyncRead for SessionWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_read(cx, space)
    }
}

impl AsyncWrite for SessionWire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_pieces(cx, bytes, None)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let from = pieces.iter().position(|piece| !piece.is_empty());
        let pieces = &pieces[from.unwrap_or_default()..];
        let first = pieces.first().map_or(&[][..], |piece| piece);
        self.get_mut().poll_pieces(cx, first, Some(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_block(cx));
        let _ = ready!(Pin::new(&mut *this.stream).poll_flush(cx));
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_block(cx));
        Pin::new(&mut *this.stream).poll_shutdown(cx)
    }
}
