//! Watches a session with a backend for streams that the backend ends early, or makes the proxy end by frames that
//! violate HTTP/2.
//!
//! Each such stream only costs its own request, so a few don't matter. Many of them cause unlimited work on a
//! connection that all clients share: such a session takes no new streams and is closed after the current ones. If
//! that is not enough, it is closed at once. So is a session that floods the proxy with frames without content, by
//! the same credit as a client's ([`super::meter`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::meter::{OverheadCredit, PREFACE, kind};
use super::resets::{ResetQuota, StreamEvent, StreamScanner, is_early_end, is_provoked};
use crate::net::stream::taken_of;
use crate::proxy::memory::SessionMemory;

/// GOAWAY on the connection, no stream of the backend accepted, ENHANCE_YOUR_CALM.
const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];

/// The state of the frames, which the session's task checks each time before it waits.
#[derive(Debug, Default)]
pub struct SessionWatch {
    /// How often too many streams have ended early.
    early_ends: AtomicU8,
    is_flood: AtomicBool,
}

/// The limit that a backend has exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionExcess {
    /// It ends streams early.
    EarlyEnds,
    /// It sends frames without content.
    Overhead,
}

impl SessionWatch {
    /// Returns which limit was exceeded, if any.
    pub fn excess(&self) -> Option<SessionExcess> {
        if self.is_flood.load(Ordering::Relaxed) {
            return Some(SessionExcess::Overhead);
        }
        (self.early_ends.load(Ordering::Relaxed) > 0).then_some(SessionExcess::EarlyEnds)
    }

    /// Returns whether the session is closed at once.
    fn is_hopeless(&self) -> bool {
        self.is_flood.load(Ordering::Relaxed) || self.early_ends.load(Ordering::Relaxed) > 1
    }

    fn note_early_ends(&self) {
        // The session's own task is the only writer.
        let times = self.early_ends.load(Ordering::Relaxed).saturating_add(1);
        self.early_ends.store(times, Ordering::Relaxed);
    }

    /// Notes that the backend sends frames without content.
    pub fn note_flood(&self) {
        self.is_flood.store(true, Ordering::Relaxed);
    }
}

/// A session's byte stream whose frames are watched.
pub struct WatchedSession<S> {
    stream: S,
    watch: Arc<SessionWatch>,
    memory: Arc<SessionMemory>,
    quota: ResetQuota,
    credit: OverheadCredit,
    read: StreamScanner,
    written: StreamScanner,
}

impl<S> WatchedSession<S> {
    /// Watches a new connection. `memory` counts the content; `resets`: as in [`ResetQuota::new`].
    pub fn new(
        stream: S,
        watch: Arc<SessionWatch>,
        memory: Arc<SessionMemory>,
        resets: u32,
    ) -> Self {
        Self {
            stream,
            watch,
            memory,
            quota: ResetQuota::new(resets),
            credit: OverheadCredit::new(),
            read: StreamScanner::default(),
            written: StreamScanner::behind(PREFACE.len()),
        }
    }

    fn follow_read(&mut self, bytes: &[u8]) {
        let Self {
            read,
            quota,
            credit,
            memory,
            ..
        } = self;
        let (mut is_within, mut is_worth_it) = (true, true);
        read.follow(bytes, |event| match event {
            // A head that answers no request is overhead too.
            StreamEvent::Frame {
                kind,
                flags,
                length,
            } => is_worth_it &= credit.count_frame(kind, flags, length),
            StreamEvent::Content { stream, length } => memory.receive(stream, length),
            StreamEvent::Reset(code) if is_early_end(code) => is_within &= quota.take(),
            StreamEvent::Reset(_) => {}
        });
        if !is_within {
            self.watch.note_early_ends();
        }
        if !is_worth_it {
            self.watch.note_flood();
        }
    }

    fn follow_written(&mut self, bytes: &[u8]) {
        let Self {
            written,
            quota,
            credit,
            ..
        } = self;
        credit.count_written(bytes.len());
        let mut is_within = true;
        written.follow(bytes, |event| match event {
            StreamEvent::Frame { kind, .. } if kind == kind::HEADERS => {
                quota.open();
                credit.count_request();
            }
            StreamEvent::Frame { .. } | StreamEvent::Content { .. } => {}
            StreamEvent::Reset(code) if is_provoked(code) => is_within &= quota.take(),
            StreamEvent::Reset(_) => {}
        });
        if !is_within {
            self.watch.note_early_ends();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WatchedSession<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.is_hopeless() {
            if this.written.is_between_frames() {
                // It doesn't matter whether the backend receives this GOAWAY.
                let _ = Pin::new(&mut this.stream).poll_write(cx, &GOAWAY);
            }
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if this.memory.take_turn() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = out.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, out))?;
        this.follow_read(&out.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedSession<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes))?;
        this.follow_written(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, pieces))?;
        for taken in taken_of(count, pieces.iter().map(|piece| &**piece)) {
            this.follow_written(taken);
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
