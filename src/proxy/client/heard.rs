//! Watches a client that waits for its response: nothing happens, it half-closes, or it disconnects.
//!
//! If the buffer has no room for what the client sends, its close is noticed as long as the kernel had room for the
//! bytes before it. Otherwise the client's FIN waits in the client's kernel as long as nothing is read. Then, only
//! for a client on this host can the proxy find out that no process has the socket any more, by checking from time to
//! time.
//!
//! A client that has finished sending may still be reading (`nc -N`, and RFC 9112, section 9.6), and one that has
//! disconnected looks the same: the kernel reports a FIN for both. Two things tell them apart: whether the request is
//! complete, since an incomplete one can't be completed any more; and for a client on this host, whether any process
//! still has its socket.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::ClientConnection;
use super::upload::RequestUpload;
use crate::core::Time;
use crate::net::socket;
use crate::proxy::buffer::LARGE;
use crate::rt::clock;
use crate::tls::stream::ClientTlsStream;

/// Maximum number of bytes of an unread body that are searched for its end: more than a client may have in flight by
/// default.
const LOOKED_THROUGH: usize = 1024 * 1024;

/// Time until the first check whether a client is still connected whose close would not be noticed; each check
/// doubles the interval.
const FIRST_LOOK: Time = Time::from_millis(20);
/// Maximum interval of these checks.
const LAST_LOOK: Time = Time::from_secs(1);

/// Maximum number of a client's bytes that a TLS session may hold, in addition to those in the kernel.
const WITHIN_TLS: u64 = 64 * 1024;

impl ClientConnection {
    /// Returns whether the client has disconnected before its response began. Up to `most` bytes of what it sends are
    /// kept; the rest stays in the kernel.
    pub fn poll_gone(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
        upload: &mut RequestUpload,
    ) -> bool {
        let most = most.min(LARGE);
        while !self.finished {
            let has_room = self.buffer.has_room(most);
            let heard = match has_room {
                true => self.poll_read(cx, most),
                false => self.poll_end(cx).map_ok(|()| 0),
            };
            match heard {
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(Ok(_)) => return !self.is_answer_wanted(upload, !has_room),
                Poll::Ready(Err(_)) => return true,
                Poll::Pending => break,
            }
        }
        false
    }

    /// The same without reading anything.
    pub fn poll_gone_unread(&mut self, cx: &mut Context<'_>, upload: &mut RequestUpload) -> bool {
        if self.finished {
            return false;
        }
        match self.poll_end(cx) {
            Poll::Ready(Ok(())) => !self.is_answer_wanted(upload, true),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }

    /// Waits for the client's close, and leaves unread what it has sent before.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut nothing = ReadBuf::new(&mut []);
        Poll::Ready(ready!(
            Pin::new(&mut *self.stream).poll_read(cx, &mut nothing)
        ))
    }

    /// Returns whether a client that has finished sending may still wait for the response. `unread`: part of the
    /// request may still be in the kernel.
    fn is_answer_wanted(&mut self, upload: &mut RequestUpload, unread: bool) -> bool {
        self.finished = true;
        let is_whole = match upload.absorb(&self.buffer) {
            Ok(()) => upload.is_complete() || (unread && self.has_the_rest(upload)),
            // The client gets the error response.
            Err(_) => true,
        };
        is_whole && !self.is_abandoned()
    }

    /// Returns whether the rest of the request may be among the kernel's unread bytes.
    fn has_the_rest(&self, upload: &RequestUpload) -> bool {
        let count = socket::unread(&self.stream);
        let is_tls = self.stream.as_any().is::<ClientTlsStream>();
        match upload.left() {
            Some(left) if is_tls => count + WITHIN_TLS >= left,
            Some(left) => count >= left,
            // TLS records can't be searched; and a client that closes a TLS connection hardly ever waits for more.
            None if is_tls => false,
            None => match usize::try_from(count) {
                Ok(count @ ..=LOOKED_THROUGH) => upload.ends_in(&socket::peek(&self.stream, count)),
                _ => true,
            },
        }
    }

    /// Returns whether a client is known to have disconnected: no process has its socket. Only known for clients on
    /// this host.
    pub fn is_abandoned(&self) -> bool {
        socket::is_abandoned(&self.stream)
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    /// The deadline has passed.
    Enough,
    /// No process has the client's socket any more.
    Abandoned,
}

/// Periodic checks on a client whose close would not be noticed otherwise.
#[derive(Debug, Default)]
pub(crate) struct ClientLooks {
    next: Option<Time>,
    pause: Time,
}

impl ClientLooks {
    /// Waits until the deadline. If the client's close would not be noticed (`is_deaf`), checks for it from time to
    /// time.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut ClientConnection,
        is_deaf: bool,
        deadline: Time,
    ) -> Poll<WaitEnd> {
        if !is_deaf {
            self.next = None;
            return client.timer.poll(cx, deadline).map(|()| WaitEnd::Enough);
        }
        loop {
            let look = *self.next.get_or_insert_with(|| {
                self.pause = (self.pause * 2).clamp(FIRST_LOOK, LAST_LOOK);
                clock::now() + self.pause
            });
            if deadline <= look {
                return client.timer.poll(cx, deadline).map(|()| WaitEnd::Enough);
            }
            ready!(client.timer.poll(cx, look));
            if client.is_abandoned() {
                return Poll::Ready(WaitEnd::Abandoned);
            }
            self.next = None;
        }
    }
}
