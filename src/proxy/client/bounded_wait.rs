//! A wait with a deadline that a shutdown can end early: for bytes that a client sends before it can be served.
//!
//! The loop of a keep-alive connection (`connection::serve`) uses the connection's own timer instead: its deadline
//! also depends on its buffer, on the memory that others need, and on how long it has been idle.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora::protocols::Stream;
use tokio::io::ReadBuf;

use super::timer::Timer;
use crate::core::Time;
use crate::rt::shutdown_signal::{ConnectionInterrupt, ShutdownLevel};

/// Bytes per read: nearly every first request fits. Bytes after the recognized part are kept.
const PIECE: usize = 1024;

/// One wait, or several in a row for one connection.
pub(crate) struct BoundedWait<'a> {
    interrupt: &'a ConnectionInterrupt,
    timer: Timer,
}

impl<'a> BoundedWait<'a> {
    /// Creates a wait that `interrupt` can end.
    pub(crate) fn new(interrupt: &'a ConnectionInterrupt) -> Self {
        Self {
            interrupt,
            timer: Timer::default(),
        }
    }

    /// Returns the result of `poll`, or the reason why the wait is over. `cut`: the error if the proxy must exit now.
    /// `limit`: maps a level of the shutdown to a deadline, and the error when that has passed.
    pub(crate) fn poll_or<T, E>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<T>,
        cut: E,
        limit: impl FnOnce(ShutdownLevel) -> (Time, E),
    ) -> Poll<Result<T, E>> {
        if let Poll::Ready(value) = polled {
            return Poll::Ready(Ok(value));
        }
        self.interrupt.register(cx.waker());
        let level = self.interrupt.level();
        if level == ShutdownLevel::Cut {
            return Poll::Ready(Err(cut));
        }
        let (deadline, end) = limit(level);
        self.timer.poll(cx, deadline).map(|()| Err(end))
    }

    /// Reads into `seen` until `recognise` returns a result. `gone`: the error if the client has closed the
    /// connection, or the proxy is about to close it. `limit`: as in [`BoundedWait::poll_or`], given the bytes read
    /// so far.
    pub(crate) async fn read_until<T, E>(
        &mut self,
        stream: &mut Stream,
        seen: &mut Vec<u8>,
        recognise: impl Fn(&[u8]) -> Option<T>,
        gone: impl Fn() -> E,
        limit: impl Fn(ShutdownLevel, &[u8]) -> (Time, E),
    ) -> Result<T, E> {
        poll_fn(|cx| {
            loop {
                let mut piece = [MaybeUninit::uninit(); PIECE];
                let mut piece = ReadBuf::uninit(&mut piece);
                match Pin::new(&mut **stream).poll_read(cx, &mut piece) {
                    Poll::Ready(Ok(())) if !piece.filled().is_empty() => {}
                    Poll::Ready(_) => return Poll::Ready(Err(gone())),
                    Poll::Pending => break,
                }
                seen.extend_from_slice(piece.filled());
                if let Some(known) = recognise(seen) {
                    return Poll::Ready(Ok(known));
                }
            }
            self.poll_or(cx, Poll::Pending, gone(), |level| limit(level, seen))
        })
        .await
    }
}
