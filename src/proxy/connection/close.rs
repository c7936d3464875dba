//! How a client's connection ends: so that its last answer arrives, or so that nobody takes a cut one for whole.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::net::socket;
use crate::proxy::buffer::SMALL;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::rt::clock;
use crate::rt::shutdown_signal::ShutdownLevel;

/// What a client still sends is read and thrown away before its connection is closed: a close with unread bytes
/// becomes a reset that can destroy the answer (RFC 9112 §9.6). For so long at most…
pub const LINGER_TIME: Duration = Duration::from_secs(10);

/// …and for so long without a byte.
pub const LINGER_PAUSE: Duration = Duration::from_secs(1);

/// Closes the connection in the way its end asks for.
pub(super) async fn close(client: &mut ClientConnection, next: AfterRequest) {
    client.place = None;
    match next {
        AfterRequest::KeepAlive | AfterRequest::Close => linger(client, Unread::Ignored).await,
        AfterRequest::Linger => linger(client, Unread::Expected).await,
        // Another process has the socket too: nothing may be written to it here.
        AfterRequest::Moved => {}
        // A reset instead of an orderly end: even a body without a length can't be mistaken for a whole one.
        AfterRequest::Abort => socket::reset_on_close(&client.stream),
    }
}

/// What is known of bytes that the client has sent and nobody will read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    /// Some may be here already (requests behind the last one); the close doesn't wait for more.
    Ignored,
    /// It may still be sending.
    Expected,
}

/// Ends our direction, and reads on until the client has ended its own or nothing comes any more.
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
