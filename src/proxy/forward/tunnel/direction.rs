//! One direction of a tunnel: bytes read from one peer and written to the other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;

use crate::proxy::buffer::{Buffer, LARGE};
use crate::proxy::messages::websocket::FrameTracker;
use crate::proxy::moving::state::{CarriedBytes, MovedDirection};

/// One direction of a tunnel.
pub(super) struct TunnelDirection {
    pub(super) buffer: Buffer,
    /// WebSocket frames seen in it; `None`: another protocol.
    pub(super) frames: Option<FrameTracker>,
    /// Bytes of `buffer` that may be sent.
    passable: usize,
    /// The proxy's close frame, once it is to be sent.
    farewell: Vec<u8>,
    farewell_sent: usize,
    /// Whether the source's bytes are no longer passed on.
    closing: bool,
    /// Whether the source has ended.
    pub(super) ended: bool,
    /// Whether the sink was shut down.
    pub(super) shut: bool,
    /// Whether the sink accepts no more data.
    dead: bool,
    /// Bytes read from the source.
    pub(super) read: u64,
    /// Bytes written to the sink.
    pub(super) written: u64,
}

impl TunnelDirection {
    pub(super) fn new(buffer: Buffer, websocket: bool) -> Self {
        Self {
            read: buffer.len() as u64,
            written: 0,
            buffer,
            frames: websocket.then(FrameTracker::new),
            passable: 0,
            farewell: Vec::new(),
            farewell_sent: 0,
            closing: false,
            ended: false,
            shut: false,
            dead: false,
        }
    }

    /// Exports the state for another process.
    pub(super) fn export(&self) -> MovedDirection {
        MovedDirection {
            buffer: CarriedBytes(self.buffer.bytes().to_vec()),
            frames: self.frames.clone(),
            read: self.read,
            written: self.written,
        }
    }

    /// Imports a direction that another process has begun. Whether its sink was shut down shows again on the sockets.
    pub(super) fn import(moved: MovedDirection) -> Self {
        let buffer = Buffer::of_carried(&moved.buffer.0);
        Self {
            passable: buffer.len(),
            frames: moved.frames,
            read: moved.read,
            written: moved.written,
            ..Self::new(buffer, false)
        }
    }

    /// Returns the bytes read and written: the number grows with every transfer.
    pub(super) fn moved(&self) -> u64 {
        self.read + self.written
    }

    /// Returns whether the source has finished: by a close frame, or by ending its stream.
    pub(super) fn is_silent(&self) -> bool {
        self.ended || self.frames.as_ref().is_some_and(FrameTracker::saw_close)
    }

    /// Returns whether the bytes can't be WebSocket frames: the proxy can't insert a close frame then.
    pub(super) fn is_broken(&self) -> bool {
        self.frames.as_ref().is_some_and(FrameTracker::is_broken)
    }

    /// Releases bytes that were read; while a close is pending, only up to the next frame boundary.
    fn admit(&mut self, farewell: Option<&[u8]>) {
        let fresh = &self.buffer.bytes()[self.passable..];
        let Some(frames) = &mut self.frames else {
            self.passable = self.buffer.len();
            return;
        };
        if self.closing {
            // Only the answer to the proxy's close frame matters now.
            frames.feed(fresh);
            self.buffer
                .cut(self.passable, self.buffer.len() - self.passable);
            return;
        }
        if let Some(farewell) = farewell
            && let Some(boundary) = frames.next_boundary(fresh)
        {
            frames.feed(&fresh[..boundary]);
            if !frames.saw_close() {
                self.farewell = farewell.to_vec();
            }
            frames.feed(&fresh[boundary..]);
            self.passable += boundary;
            self.buffer
                .cut(self.passable, self.buffer.len() - self.passable);
            self.closing = true;
            return;
        }
        frames.feed(fresh);
        self.passable = self.buffer.len();
    }

    /// Returns whether everything was sent, up to the proxy's close frame or the peer's own.
    pub(super) fn has_said_farewell(&self) -> bool {
        self.dead
            || (self.closing && self.passable == 0 && self.farewell_sent == self.farewell.len())
    }

    /// Moves what can be moved, until it has to wait. A sink that accepts no more data ends this direction: what its
    /// peer sent before still arrives in the other one. An error of the source ends the tunnel.
    pub(super) fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        farewell: Option<&[u8]>,
    ) -> io::Result<()> {
        while !self.dead {
            self.admit(farewell);
            match self.poll_empty(cx, to) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.dead = true;
                    (self.ended, self.shut) = (true, true);
                    return Ok(());
                }
                Poll::Pending => return Ok(()),
            }
            if self.ended {
                // An error here ends the direction as well.
                self.shut = self.shut || Pin::new(&mut **to).poll_shutdown(cx).is_ready();
                return Ok(());
            }
            match self.buffer.poll_fill(cx, from, LARGE) {
                Poll::Ready(count) => {
                    let count = count?;
                    self.read += count as u64;
                    self.ended = count == 0;
                }
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }

    /// Writes the bytes that may be sent.
    fn poll_empty(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        while self.passable > 0 {
            let passing = &self.buffer.bytes()[..self.passable];
            let count = ready!(poll_some(cx, to, passing))?;
            self.buffer.consume(count);
            self.passable -= count;
            self.written += count as u64;
        }
        while self.farewell_sent < self.farewell.len() {
            let left = &self.farewell[self.farewell_sent..];
            let count = ready!(poll_some(cx, to, left))?;
            self.farewell_sent += count;
            self.written += count as u64;
        }
        Pin::new(&mut **to).poll_flush(cx)
    }
}

/// Writes at least one byte.
fn poll_some(cx: &mut Context<'_>, to: &mut Stream, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(&mut **to).poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        result => Poll::Ready(result),
    }
}
