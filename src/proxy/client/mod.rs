//! The client's side of a request: its stream, and the bytes read from it.
//!
//! `heard` notices the disconnect of a client that waits for its response, `kept` accounts for the memory of its
//! request, [`upload`] is the request body as it arrives, [`timer`] the connection's only timer, `bounded_wait` a
//! wait before the first request, `moved` moves the client to another process, [`followed`] has what split plans and
//! traces follow, and `discarding` is the client of a mirrored request.

pub(super) mod bounded_wait;
pub(super) mod discarding;
pub mod followed;
pub(crate) mod heard;
mod kept;
mod moved;
pub mod timer;
pub mod upload;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pingora::protocols::Stream;

use super::buffer::Buffer;
use super::client_info::ClientInfo;
use super::memory::{ConnectionShare, IncompletePlace};
use crate::config::Config;
use crate::core::Time;
use crate::rt::shutdown_signal::ConnectionInterrupt;
use followed::FollowedRequest;
use timer::Timer;

/// What happens to the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRequest {
    /// Another request may follow.
    KeepAlive,
    /// It is closed; the client sends nothing more.
    Close,
    /// It is closed, but the client may still be sending.
    Linger,
    /// It is cut off, so that the client can tell that its response is incomplete.
    Abort,
    /// Another process has taken it: nothing more is written to it here.
    Moved,
}

/// A client's connection.
pub struct ClientConnection {
    /// The stream.
    pub stream: Stream,
    /// Bytes read and not yet consumed, beginning with the head of the current request.
    pub buffer: Buffer,
    /// The connection's only timer.
    pub timer: Timer,
    /// Lets a shutdown interrupt the connection.
    pub interrupt: Arc<ConnectionInterrupt>,
    /// Whether the client has finished sending (it may still be reading).
    pub finished: bool,
    /// Whether the client has been sent a part of the current response, even if only an interim one.
    pub is_answered: bool,
    /// Number of requests received on it.
    pub requests: u64,
    /// Time of the first bytes of the current request head, if the rest arrived later.
    pub head_began: Option<Time>,
    /// Who the client is.
    pub origin: ClientInfo,
    /// Whether responses get a `Via`.
    pub via: bool,
    /// Its place among the incomplete requests in memory.
    pub place: Option<IncompletePlace>,
    /// Its share of its HTTP/2 connection's memory.
    pub share: Option<ConnectionShare>,
    /// What follows the current request (split plan, trace), if anything does.
    pub followed: Option<Box<FollowedRequest>>,
}

impl ClientConnection {
    /// Reads once into the buffer, up to `most` bytes.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        self.buffer.poll_fill(cx, &mut self.stream, most)
    }

    /// Writes all of `bytes`, or gives up at the deadline.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] at the deadline; otherwise the stream's error, for example if the client has
    /// closed it.
    pub async fn write_all(&mut self, bytes: &[u8], deadline: Time) -> io::Result<()> {
        let mut sent = 0;
        poll_fn(|cx| {
            while sent < bytes.len() {
                match Pin::new(&mut *self.stream).poll_write(cx, &bytes[sent..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => {
                        self.is_answered = true;
                        sent += count;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return self.poll_late(cx, deadline),
                }
            }
            match Pin::new(&mut *self.stream).poll_flush(cx) {
                Poll::Pending => self.poll_late(cx, deadline),
                ready => ready,
            }
        })
        .await
    }

    fn poll_late(&mut self, cx: &mut Context<'_>, deadline: Time) -> Poll<io::Result<()>> {
        self.timer
            .poll(cx, deadline)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl ClientConnection {
    /// Creates a client that has sent nothing yet.
    pub fn new(
        stream: Stream,
        origin: ClientInfo,
        interrupt: Arc<ConnectionInterrupt>,
        config: &Config,
    ) -> Self {
        Self {
            stream,
            buffer: Buffer::default(),
            timer: Timer::default(),
            interrupt,
            finished: false,
            is_answered: false,
            requests: 0,
            head_began: None,
            origin,
            via: config.headers.via,
            place: None,
            share: None,
            followed: None,
        }
    }
}
