//! What is heard of a client that waits for its answer: nothing, its half-close, or that it has gone.
//!
//! Where there is no room for what it sends, its end is heard all the same, as long as the kernel had room for what
//! stands before it. Else the client's FIN waits in its own kernel, for good if nobody reads; and only of a client on this
//! host can it be known that nobody has its socket any more. That has to be looked for.
//!
//! A client that has finished sending may still be reading (`nc -N`, and RFC 9112, section 9.6), and one that has gone
//! looks the same from here: the kernel says of both that they have sent their FIN. What tells them apart is whether
//! the request is whole, since one that is not never will be; and where the client is on this host, whether any process
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

/// No more of an unread body is looked through for its end: more than what a client may have on its way by default.
const LOOKED_THROUGH: usize = 1024 * 1024;

/// When it is first looked whether a client of which nothing can be heard is still there; each look doubles the time…
const FIRST_LOOK: Time = Time::from_millis(20);
/// …up to this.
const LAST_LOOK: Time = Time::from_secs(1);

/// What a TLS session may hold of the client's bytes, beyond those that the kernel has.
const WITHIN_TLS: u64 = 64 * 1024;

impl ClientConnection {
    /// Whether the client has gone while nothing of its answer was on the way. What it sends is kept, as far as
    /// `most` bytes of it; what there is no room for stays in the kernel.
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

    /// Waits for the client's end, whatever it has sent before that nobody reads.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut nothing = ReadBuf::new(&mut []);
        Poll::Ready(ready!(
            Pin::new(&mut *self.stream).poll_read(cx, &mut nothing)
        ))
    }

    /// The client has finished sending: whether it may still wait for the answer. `unread`: something of the request may
    /// be in the kernel yet.
    fn is_answer_wanted(&mut self, upload: &mut RequestUpload, unread: bool) -> bool {
        self.finished = true;
        let is_whole = match upload.absorb(&self.buffer) {
            Ok(()) => upload.is_complete() || (unread && self.has_the_rest(upload)),
            // It is to be told.
            Err(_) => true,
        };
        is_whole && !self.is_abandoned()
    }

    /// Whether what is missing of the request may be what the kernel has.
    fn has_the_rest(&self, upload: &RequestUpload) -> bool {
        let count = socket::unread(&self.stream);
        let is_tls = self.stream.as_any().is::<ClientTlsStream>();
        match upload.left() {
            Some(left) if is_tls => count + WITHIN_TLS >= left,
            Some(left) => count >= left,
            // Nobody can look into the records; and who closes a TLS connection hardly ever waits for more.
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
    /// Nobody has the client's socket any more.
    Abandoned,
}

/// The looks at a client from which nothing can be heard.
#[derive(Debug, Default)]
pub(crate) struct ClientLooks {
    next: Option<Time>,
    pause: Time,
}

impl ClientLooks {
    /// Waits until the deadline; where nothing would be heard of the client's end (`is_deaf`), looks for it now and then.
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
