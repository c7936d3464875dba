//! Takes an idle connection for the next request, and checks it before use.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::ReadBuf;

use crate::core::Time;
use crate::net::plain;
use crate::registry::endpoint::{Endpoint, IdleConnection};

/// Returns an idle connection that is still usable, if there is one. For a request that must not be sent twice
/// (`once`), it is one that the backend is not about to close, as far as that can be known.
pub fn take_kept(
    endpoint: &Arc<Endpoint>,
    now: Time,
    once: impl Fn() -> bool,
) -> Option<Box<IdleConnection>> {
    loop {
        let own = endpoint.idle.take_own();
        let is_own = own.is_some();
        let mut connection = own.or_else(|| endpoint.idle.take())?;
        let of = (connection.epoch, connection.transport);
        if of != (endpoint.epoch(), endpoint.transports()) || connection.expires <= now {
            continue;
        }
        match check_idle(&mut connection) {
            IdleState::Quiet if connection.safe_until <= now && once() => {
                endpoint.release(connection);
                return None;
            }
            IdleState::Quiet if is_own => return Some(connection),
            IdleState::Quiet => match moved_here(*connection) {
                Some(connection) => return Some(connection),
                None => continue,
            },
            IdleState::Closed => endpoint.peer_closed(),
            IdleState::Talking => {}
        }
    }
}

/// Moves another thread's connection to this thread.
fn moved_here(connection: IdleConnection) -> Option<Box<IdleConnection>> {
    let stream = plain::moved_here(connection.stream).ok()?;
    Some(Box::new(IdleConnection {
        stream,
        ..connection
    }))
}

/// The state of an idle connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleState {
    /// Nothing to read: the connection is usable.
    Quiet,
    /// The backend has closed it.
    Closed,
    /// The backend has sent bytes without a request: the connection can't be used.
    Talking,
}

/// Checks an idle connection without waiting.
pub fn check_idle(connection: &mut IdleConnection) -> IdleState {
    let mut byte = [0u8; 1];
    let mut space = ReadBuf::new(&mut byte);
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(&mut *connection.stream).poll_read(&mut context, &mut space) {
        Poll::Pending => IdleState::Quiet,
        Poll::Ready(Ok(())) if !space.filled().is_empty() => IdleState::Talking,
        Poll::Ready(_) => IdleState::Closed,
    }
}
