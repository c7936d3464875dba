//! What the proxy notices of a client that waits for its answer: nothing, its half-close, or that it has gone.
//!
//! Where the buffer has no room for what the client sends, its end is noticed as long as the kernel had room for the
//! bytes before it. Otherwise the client's FIN waits in the client's kernel for as long as nothing is read. Then only
//! for a client on this host can the proxy find out that no process has the socket any more, by looking at it now and
//! then.
//!
//! A client that has finished sending may still be reading (`nc -N`, and RFC 9112, section 9.6), and one that has
//! gone looks the same: the kernel reports a FIN for both. Two things tell them apart: whether the request is
//! complete, since an incomplete one can't become so any more; and where the client is on this host, whether any
//! process still has its socket.

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

/// Most bytes of an unread body that are searched for its end: more than a client may have in flight by default.
const LOOKED_THROUGH: usize = 1024 * 1024;

/// After how long the first check is made whether a client whose end would not be noticed is still there; each check
/// doubles the time…
const FIRST_LOOK: Time = Time::from_millis(20);
/// …up to this.
const LAST_LOOK: Time = Time::from_secs(1);

/// What a TLS session may hold of the client's bytes, beyond those that the kernel has.
const WITHIN_TLS: u64 = 64 * 1024;

impl ClientConnection {
    /// Whether the client has gone before its answer began. Up to `most` bytes of what it sends are kept; the rest
    /// stays in the kernel.
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

    /// Waits for the client's end, and throws away what it has sent before.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut nothing = ReadBuf::new(&mut []);
        Poll::Ready(ready!(
            Pin::new(&mut *self.stream).poll_read(cx, &mut nothing)
        ))
    }

    /// Whether a client that has finished sending may still wait for the answer. `unread`: part of the request may
    /// still be in the kernel.
    fn is_answer_wanted(&mut self, upload: &mut RequestUpload, unread: bool) -> bool {
        self.finished = true;
        let is_whole = match upload.absorb(&self.buffer) {
            Ok(()) => upload.is_complete() || (unread && self.has_the_rest(upload)),
            // It is to be told.
            Err(_) => true,
        };
        is_whole && !self.is_abandoned()
    }

    /// Whether the rest of the request may be among the kernel's unread bytes.
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

    /// Whether a client is known to have gone: no process has its socket. Known only of clients on this host.
    pub fn is_abandoned(&self) -> bool {
        socket::is_abandoned(&self.stream)
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    /// It has lasted long enough.
    Enough,
    /// No process has the client's socket any more.
    Abandoned,
}

/// The checks on a client whose end would not be noticed otherwise.
#[derive(Debug, Default)]
pub(crate) struct ClientLooks {
    next: Option<Time>,
    pause: Time,
}

impl ClientLooks {
    /// Waits until the deadline. Where the client's end would not be noticed (`is_deaf`), checks for it now and then.
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
