//! Closes a client's connection so that its last response arrives, or so that a truncated response can't be taken for
//! a complete one.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::net::socket;
use crate::proxy::buffer::SMALL;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::rt::clock;
use crate::rt::shutdown_signal::ShutdownLevel;

/// Bytes that a client still sends are read and discarded before its connection is closed: a close with unread bytes
/// becomes a reset that can destroy the response (RFC 9112 §9.6). Maximum duration of that lingering close.
pub const LINGER_TIME: Duration = Duration::from_secs(10);

/// Longest pause between two bytes during the lingering close.
pub const LINGER_PAUSE: Duration = Duration::from_secs(1);

/// Closes the connection in the way that its end requires.
pub(super) async fn close(client: &mut ClientConnection, next: AfterRequest) {
    client.place = None;
    match next {
        AfterRequest::KeepAlive | AfterRequest::Close => linger(client, Unread::Ignored).await,
        AfterRequest::Linger => linger(client, Unread::Expected).await,
        // The other process uses the same socket: nothing may be written to it here.
        AfterRequest::Moved => {}
        // A reset instead of an orderly end: even a body without a length can't be mistaken for a complete one.
        AfterRequest::Abort => socket::reset_on_close(&client.stream),
    }
}

/// What is known about bytes that the client has sent and nobody will read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    /// Some may have arrived already (requests after the last one); the close doesn't wait for more.
    Ignored,
    /// The client may still be sending.
    Expected,
}

/// Ends the proxy's direction, and reads on until the client has ended its own or nothing arrives any more.
async fn linger(client: &mut ClientConnection, mut unread: Unread) {
    let end = clock::now() + LINGER_TIME;
    let mut patience = clock::now() + LINGER_PAUSE;
    let mut shut = false;
    poll_fn(|cx| {
        client.interrupt.register(cx.waker());
        if client.interrupt.level() == ShutdownLevel::Cut {
            return Poll::Ready(());
        }
        if !shut {
            match Pin::new(&mut *client.stream).poll_shutdown(cx) {
                Poll::Pending => return client.timer.poll(cx, patience),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => shut = true,
            }
        }
        loop {
            client.buffer.clear();
            client.buffer.shrink();
            match client.poll_read(cx, SMALL) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    unread = Unread::Expected;
                    patience = end.min(clock::now() + LINGER_PAUSE);
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if unread == Unread::Ignored => return Poll::Ready(()),
                Poll::Pending => return client.timer.poll(cx, patience),
            }
            if clock::now() >= end {
                return Poll::Ready(());
            }
        }
    })
    .await;
}
