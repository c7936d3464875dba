//! Limits the cost of a client's HTTP/2 frames. It works outside of the `h2` crate, on the header of each frame read.
//!
//! The crate limits what accumulates in memory. This module limits frames that are cheap to send but cost the proxy
//! work without end (RFC 9113 §10.5): frames that carry neither request nor content, streams that are reset as soon
//! as they are opened, by the client or because of its errors, and header blocks that never end. A client that
//! exceeds a limit gets GOAWAY with ENHANCE_YOUR_CALM from the connection's task.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::close::{LINGER_PAUSE, LINGER_TIME};
use crate::core::Time;
use crate::net::stream::taken_of;
use crate::proxy::client::timer::Timer;
use crate::proxy::h2::meter::Meter;
use crate::proxy::memory::StreamMemory;
use crate::rt::clock;
use crate::rt::coop::yield_to_reactor;

/// Number of bytes read from a connection before the thread turns to other tasks: thousands of frames, if they are
/// small.
const TURN: usize = 32 * 1024;

/// Maximum number of bytes that are read and discarded after GOAWAY, so that a client that is still sending can read
/// it. A client that sends more is not reading.
const MOST_DISCARDED: usize = 1024 * 1024;

/// What is known about a connection's frames; the connection's task reads it.
#[derive(Debug, Default)]
pub struct FloodWatch {
    excess: AtomicBool,
    /// Start of the header block that is open, in milliseconds; 0: none is.
    block: AtomicU64,
    /// The stream of the last header block that took more than one read; `slow_since` is the block's start.
    slow_stream: AtomicU32,
    slow_since: AtomicU64,
    written: AtomicU64,
    malformed: AtomicU32,
}

impl FloodWatch {
    /// Returns whether the client has exceeded a limit. Nothing more is read from it.
    pub fn is_excess(&self) -> bool {
        self.excess.load(Ordering::Relaxed)
    }

    /// Discards from now on everything that the client still sends.
    pub fn give_up(&self) {
        self.excess.store(true, Ordering::Relaxed);
    }

    /// Returns when the header block began that has not ended yet.
    pub fn block_since(&self) -> Option<Time> {
        match self.block.load(Ordering::Relaxed) {
            0 => None,
            since => Some(Time::from_millis(since)),
        }
    }

    /// Returns when the header block of this stream began, if it took more than one read.
    pub fn head_began(&self, stream: u32) -> Option<Time> {
        (self.slow_stream.load(Ordering::Relaxed) == stream)
            .then(|| Time::from_millis(self.slow_since.load(Ordering::Relaxed)))
    }

    /// Notes that another header block is open than after the last read, or none.
    fn note_block(&self, over: Option<(u32, u64)>, open: Option<(u32, u64)>) {
        if let Some((stream, since)) = over {
            self.slow_stream.store(stream, Ordering::Relaxed);
            self.slow_since.store(since, Ordering::Relaxed);
        }
        let since = open.map_or(0, |(_, since)| since);
        self.block.store(since, Ordering::Relaxed);
    }

    /// Returns how many requests were reset as malformed since the last call.
    pub fn take_malformed(&self) -> u32 {
        self.malformed.swap(0, Ordering::Relaxed)
    }

    /// Returns the number of bytes that the connection has written.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// A client's connection whose frames are watched.
pub struct WatchedConnection {
    stream: Stream,
    meter: Meter,
    watch: Arc<FloodWatch>,
    /// Counts content that has arrived.
    memory: Arc<StreamMemory>,
    /// The header block that was open after the last read: its stream, and its start in milliseconds.
    block: Option<(u32, u64)>,
    ending: Option<DirectionEnd>,
    /// Bytes read in this turn.
    turn: usize,
    /// Bytes read and discarded.
    discarded: usize,
}

/// State after the proxy's direction has ended.
struct DirectionEnd {
    timer: Timer,
    end: Time,
    /// Deadline for reading from a client that is still sending.
    patience: Option<Time>,
}

impl WatchedConnection {
    /// Watches a connection that begins with the preface. `resets`: see [`Meter::new`].
    pub fn new(
        stream: Stream,
        watch: Arc<FloodWatch>,
        resets: u32,
        memory: Arc<StreamMemory>,
    ) -> Self {
        Self {
            stream,
            meter: Meter::new(resets),
            watch,
            memory,
            block: None,
            ending: None,
            turn: 0,
            discarded: 0,
        }
    }

    /// Reads if this connection's turn is not used up.
    fn poll_in_turn(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.turn >= TURN {
            self.turn = 0;
            yield_to_reactor(cx);
            return Poll::Pending;
        }
        let before = out.filled().len();
        ready!(Pin::new(&mut *self.stream).poll_read(cx, out))?;
        self.turn += out.filled().len() - before;
        Poll::Ready(Ok(()))
    }

    /// Reads and discards. Ready: the client has ended its direction, or has sent more than [`MOST_DISCARDED`].
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.watch.is_excess() && self.discarded > MOST_DISCARDED {
                return Poll::Ready(());
            }
            let mut piece = [0; 4096];
            let mut piece = ReadBuf::new(&mut piece);
            match ready!(self.poll_in_turn(cx, &mut piece)) {
                Ok(()) if !piece.filled().is_empty() => {
                    self.discarded += piece.filled().len();
                    let now = clock::now();
                    if let Some(ending) = &mut self.ending {
                        if now >= ending.end {
                            return Poll::Ready(());
                        }
                        ending.patience = Some(ending.end.min(now + LINGER_PAUSE));
                    }
                }
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Counts the bytes of these slices that the connection has written.
    fn wrote<'a>(
        &mut self,
        result: &Poll<io::Result<usize>>,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) {
        let Poll::Ready(Ok(count)) = *result else {
            return;
        };
        self.watch
            .written
            .fetch_add(count as u64, Ordering::Relaxed);
        for taken in taken_of(count, pieces) {
            if !self.meter.wrote(taken) {
                // The connection's task checks this before it sleeps.
                self.watch.give_up();
            }
        }
        let malformed = self.meter.take_malformed();
        if malformed > 0 {
            self.watch.malformed.fetch_add(malformed, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for WatchedConnection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.is_excess() {
            return this.poll_discard(cx).map(Ok);
        }
        if !this.memory.may_receive(cx) {
            return Poll::Pending;
        }
        let before = out.filled().len();
        ready!(this.poll_in_turn(cx, out))?;
        let memory = &this.memory;
        let receive = |stream, bytes| memory.receive(stream, bytes);
        if !this.meter.read(&out.filled()[before..], receive) {
            // The connection's task checks this before it sleeps.
            this.watch.give_up();
        }
        let open = this.meter.open_block();
        if open != this.block.map(|(stream, _)| stream) {
            let open = open.map(|stream| (stream, (clock::now().as_millis() as u64).max(1)));
            let over = std::mem::replace(&mut this.block, open);
            this.watch.note_block(over, open);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedConnection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut *this.stream).poll_write(cx, bytes);
        this.wrote(&result, std::iter::once(bytes));
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut *this.stream).poll_write_vectored(cx, pieces);
        this.wrote(&result, pieces.iter().map(|piece| &**piece));
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().stream).poll_flush(cx)
    }

    /// Ends the proxy's direction. A close with unread bytes becomes a reset that can destroy the last frames, so
    /// what the client is still sending is read and discarded for a while (as in HTTP/1, RFC 9112 §9.6).
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ending.is_none() {
            ready!(Pin::new(&mut *this.stream).poll_shutdown(cx))?;
            let now = clock::now();
            this.ending = Some(DirectionEnd {
                timer: Timer::default(),
                end: now + LINGER_TIME,
                patience: this.watch.is_excess().then(|| now + LINGER_PAUSE),
            });
        }
        if this.poll_discard(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        match &mut this.ending {
            Some(DirectionEnd {
                timer,
                patience: Some(patience),
                ..
            }) => timer.poll(cx, *patience).map(Ok),
            _ => Poll::Ready(Ok(())),
        }
    }
}
