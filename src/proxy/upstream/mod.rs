//! From a pool to a connection: pick a backend, enter its gate, reuse a connection or open one.

mod connect;
pub mod h2_session;
mod handshake;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use thiserror::Error;
use tokio::io::ReadBuf;

use super::data_plane::DataPlane;
use super::h2::client_stream::ClientStream;
use crate::config;
use crate::config::own_address::OwnAddressError;
use crate::core::Time;
use crate::core::balance::Candidate;
use crate::core::retry;
use crate::net::accept_queue::AcceptState;
use crate::net::connect_fault::ConnectFault;
use crate::net::plain;
use crate::net::socket;
use crate::registry::endpoint::{BackendKey, Endpoint, IdleConnection, Permit};
use crate::registry::snapshot::PoolSnapshot;
use crate::rt::clock;
use crate::tls::upstream::Alpn;
pub use connect::{NewConnection, dial};
pub use handshake::{Established, ProxiedAddrs, note_refusal, note_shortage, note_written};

impl Candidate for Arc<Endpoint> {
    fn in_flight(&self) -> u32 {
        self.gate.in_flight()
    }

    fn weight(&self) -> u32 {
        Endpoint::weight(self)
    }
}

/// What a request's failed attempts say about where it should go next.
#[derive(Debug, Default)]
pub struct ExcludedBackends {
    /// Backends that it is not sent to again, and in which epoch: a process that was restarted meanwhile is another.
    tried: Vec<(BackendKey, u64)>,
    /// A backend has died under it: see [`retry::youngest`].
    prefer_youngest: bool,
}

impl ExcludedBackends {
    /// Adds one that was entered in this epoch.
    pub fn add(&mut self, key: BackendKey, epoch: u64) {
        self.tried.push((key, epoch));
    }

    /// Its backend has died under it: the others may be next.
    pub fn prefer_youngest(&mut self) {
        self.prefer_youngest = true;
    }

    /// All may be tried again (the world has changed).
    pub fn clear(&mut self) {
        self.tried.clear();
    }

    /// Whether it is excluded.
    pub fn has(&self, endpoint: &Endpoint) -> bool {
        !self.tried.is_empty() && self.tried.contains(&(endpoint.key, endpoint.epoch()))
    }

    /// Where they are in the list of those that are ready.
    fn indices(&self, pool: &PoolSnapshot) -> Vec<usize> {
        match self.tried.is_empty() {
            true => Vec::new(),
            false => indices(pool, |endpoint| self.has(endpoint)),
        }
    }

    /// Whether something eligible is left.
    pub fn leaves_any(&self, pool: &PoolSnapshot) -> bool {
        let left = |endpoint: &Arc<Endpoint>| !self.has(endpoint) && !endpoint.gate.is_closed();
        pool.ready.iter().any(left)
    }

    /// Whether something eligible is left besides this one.
    pub fn leaves_any_but(&self, pool: &PoolSnapshot, one: &Endpoint) -> bool {
        let left = |endpoint: &Arc<Endpoint>| {
            endpoint.key != one.key && !self.has(endpoint) && !endpoint.gate.is_closed()
        };
        pool.ready.iter().any(left)
    }
}

fn indices(pool: &PoolSnapshot, test: impl Fn(&Endpoint) -> bool) -> Vec<usize> {
    (0..pool.ready.len())
        .filter(|index| test(&pool.ready[*index]))
        .collect()
}

/// Picks an eligible backend and enters its gate. Excluded ones are left out; and while there is any other, so are
/// those that are still warming up (slow start) or may be on their way out, and for a request whose backend has died,
/// those that a rolling restart would come to next. Where some wait for room already, they come first.
pub fn admit(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    if pool.config.upstream.max_in_flight > 0 && pool.shared.queue.room.is_waited_for() {
        return None;
    }
    admit_waiter(pool, excluded)
}

/// As [`admit`], for one whose turn it is.
pub fn admit_waiter(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    if excluded.prefer_youngest {
        let ready = pool.ready.iter().filter(|endpoint| !excluded.has(endpoint));
        let since = ready.map(|endpoint| endpoint.ready_since());
        if let Some(young) = retry::youngest(since, clock::now()) {
            let older = |endpoint: &Endpoint| endpoint.ready_since() < young;
            let out = indices(pool, |endpoint| excluded.has(endpoint) || older(endpoint));
            if let Some(permit) = enter(pool, out, Choice::Best) {
                return Some(permit);
            }
        }
    }
    enter(pool, excluded.indices(pool), Choice::Any)
}

/// The same, but none that may be on its way out.
pub fn admit_unsuspected(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    enter(pool, excluded.indices(pool), Choice::Best)
}

/// Which ones will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Those against which nothing speaks.
    Best,
    /// If need be, those that still warm up, or may be on their way out.
    Any,
}

fn enter(pool: &PoolSnapshot, mut out: Vec<usize>, choice: Choice) -> Option<Permit> {
    let limit = pool.config.upstream.max_in_flight;
    let warm_up = pool.config.slow_start.window;
    let mut second: Vec<usize> = Vec::new();
    for _ in 0..pool.ready.len() {
        let (cursor, random) = (
            pool.shared.cursor.fetch_add(1, Ordering::Relaxed),
            fastrand::u64(..),
        );
        let Some(index) = pool.balancer.pick(&pool.ready, cursor, random, &out) else {
            break;
        };
        let endpoint = &pool.ready[index];
        if endpoint.is_warming(warm_up, random as u32) || endpoint.suspicion.is_raised() {
            second.push(index);
        } else if let Some(permit) = endpoint.permit(limit) {
            return Some(permit);
        }
        out.push(index);
    }
    if choice == Choice::Best {
        return None;
    }
    second
        .into_iter()
        .find_map(|index| pool.ready[index].permit(limit))
}

/// Whether something is eligible that this request has not tried: if it got no permit, all of that is full.
pub fn waits_for_room(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> bool {
    let mut ready = pool.ready.iter();
    pool.config.upstream.max_in_flight > 0 && ready.any(|endpoint| !excluded.has(endpoint))
}

/// Whether there is a backend that fail-open may try.
pub fn has_last_resort(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> bool {
    pool.last_resort
        .iter()
        .any(|endpoint| !excluded.has(endpoint))
}

/// Enters a backend that fail-open may try, though its gate is closed.
pub fn admit_anyway(pool: &PoolSnapshot, excluded: &ExcludedBackends) -> Option<Permit> {
    let open: Vec<_> = pool
        .last_resort
        .iter()
        .filter(|endpoint| !excluded.has(endpoint))
        .collect();
    fastrand::choice(open).and_then(|endpoint| endpoint.permit_anyway())
}

/// An idle connection that is still good, if there is one; for a request that must not be sent twice (`once`), one
/// that the backend is not about to close, as far as that can be known.
pub fn reuse(
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

/// Another thread's connection as one of this thread's.
fn moved_here(connection: IdleConnection) -> Option<Box<IdleConnection>> {
    let stream = plain::moved_here(connection.stream).ok()?;
    Some(Box::new(IdleConnection {
        stream,
        ..connection
    }))
}

/// What a look at an idle connection finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleState {
    /// Nothing: as it should be.
    Quiet,
    /// The backend has closed it.
    Closed,
    /// The backend says something that nobody asked for: nothing good can come of it.
    Talking,
}

/// Looks at an idle connection without waiting.
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

/// Why there is no connection. Nothing was sent: another backend may be tried, whatever the method.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The address did not take the connection: why, and in the system's words.
    #[error("{1}")]
    Failed(ConnectFault, String),
    /// It would come back to us.
    #[error("{0}")]
    Own(#[from] OwnAddressError),
    /// There is no TLS with it.
    #[error("{0}")]
    Handshake(String),
    /// The backend's name has not been resolved yet.
    #[error("its name is not resolved")]
    Unresolved,
    /// The client has gone in the meantime.
    #[error("the client has gone")]
    Unwanted,
    /// It began to drain, or restarted, in the meantime.
    #[error("it began to drain while the connection was being opened")]
    Moved,
    /// The listener is gone, with its queue.
    #[error("it closed the connection before it had accepted it")]
    NotAccepted,
    /// No process has taken the connection out of the listener's queue in time.
    #[error("it did not accept the connection in time")]
    Ignored,
}

impl ConnectError {
    /// The kind of fault, for the request's cause and the metrics.
    pub const fn fault(&self) -> ConnectFault {
        match self {
            Self::Failed(fault, _) => *fault,
            Self::Own(_) => ConnectFault::OwnAddress,
            Self::Handshake(_) => ConnectFault::Handshake,
            Self::Unresolved => ConnectFault::NoAddress,
            Self::Moved => ConnectFault::Draining,
            // Nobody is told.
            Self::Unwanted => ConnectFault::Other,
            Self::NotAccepted => ConnectFault::NotAccepted,
            Self::Ignored => ConnectFault::Ignored,
        }
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Failed(ConnectFault::of(&error), error.to_string())
    }
}

/// Opens a connection to the backend that was entered, on this client's behalf.
///
/// # Errors
/// Why there is no connection, e.g. that the address refuses, or `connect_timeout` is over. Nothing was sent.
pub async fn connect(
    plane: &DataPlane,
    permit: &Permit,
    upstream: &config::Upstream,
    behalf: ProxiedAddrs,
) -> Result<Box<IdleConnection>, ConnectError> {
    let dialled = dial(plane, permit, upstream, behalf, Alpn::Http1).await?;
    Ok(Box::new(IdleConnection {
        stream: dialled.dressed.stream,
        epoch: permit.epoch(),
        transport: dialled.transport,
        expires: Time::MAX,
        safe_until: Time::MAX,
        requests: 0,
        sent: dialled.dressed.sent,
        accepted: dialled.dressed.accepted,
        ticket: dialled.ticket,
    }))
}

/// For so long the look for the acceptance is repeated as often as others let us; after that, each millisecond.
const AT_ONCE: Duration = Duration::from_micros(100);

/// Waits until the backend's process has accepted a new connection, for a request that must not be lost with a
/// listener's queue: nothing is sent before, so that any method can go elsewhere. Where the kernel can't tell (another
/// host or network namespace, unix sockets, systems other than Linux), nothing is waited for.
///
/// # Errors
/// When the connection died in the queue, the backend began to drain, or nobody accepted it within `patience`, and
/// `others` might. Where there are no others, a connection that nobody accepts is as good as one can get.
pub async fn accepted(
    connection: &mut IdleConnection,
    permit: &Permit,
    patience: Duration,
    others: bool,
) -> Result<(), ConnectError> {
    let began = clock::now();
    // It has shaken hands.
    if connection.accepted {
        return Ok(());
    }
    loop {
        match socket::place(&connection.stream) {
            Some(AcceptState::Process) => {
                connection.accepted = true;
                return Ok(());
            }
            Some(AcceptState::Queue) => {}
            None => {
                let is_closed = match socket::read_tcp_info(&connection.stream) {
                    Some(fate) if fate.is_reset => true,
                    _ => check_idle(connection) == IdleState::Closed,
                };
                return match is_closed {
                    true => Err(ConnectError::NotAccepted),
                    false => Ok(()),
                };
            }
        }
        if permit.endpoint().epoch() != permit.epoch() {
            return Err(ConnectError::Moved);
        }
        let waited = clock::now().saturating_sub(began);
        if waited < AT_ONCE {
            tokio::task::yield_now().await;
        } else if waited < patience {
            clock::sleep(Duration::from_millis(1)).await;
        } else {
            return match others {
                true => Err(ConnectError::Ignored),
                false => Ok(()),
            };
        }
    }
}

/// How long the reset that proves it is waited for: 1 + 2 + 4 + 8 + 16 ms, more than a round trip within a site.
const RESET_LOOKS: u32 = 5;

/// Why the last request (`written` bytes) on a connection that has failed surely never reached the backend, if that is
/// so. `reset`: a connection that the backend had not closed was reset.
pub async fn undelivered(
    connection: &IdleConnection,
    written: u64,
    reset: bool,
) -> Option<retry::AttemptFailure> {
    if let Some(stream) = ClientStream::of(connection) {
        return stream.unseen();
    }
    (!reset && is_undelivered(connection, written).await)
        .then_some(retry::AttemptFailure::StaleProven)
}

/// Whether the last request (`written` bytes) on a connection that the backend has closed surely never reached it.
///
/// RFC 9110 §9.2.2 lets a proxy repeat any request of which it knows that. What has to come together: the backend
/// closed first (the caller has read the end of the stream), its kernel has acknowledged nothing of the request,
/// and has answered it with a reset, which only a socket that nobody reads from does. A peer that has only
/// half-closed still reads, and sends no reset. One that reads a part and then closes does, so the request must
/// have gone out in one segment: then a part can't have arrived.
///
/// Over TLS the bytes are those of its records, and a backend that has refused the handshake has read none of them.
async fn is_undelivered(connection: &IdleConnection, written: u64) -> bool {
    let written = match handshake::tls_of(connection) {
        Some(tls) if tls.refusal().is_some() => return true,
        Some(tls) => tls.written().saturating_sub(connection.sent),
        None => written,
    };
    // A first request is different, unless it was known that the connection had left its listener's queue: a listener
    // that dies with a full one has acknowledged what nobody reads.
    if connection.requests <= 1 && !connection.accepted {
        return false;
    }
    for look in 0..=RESET_LOOKS {
        let Some(fate) = socket::read_tcp_info(&connection.stream) else {
            return false;
        };
        if fate.acknowledged > connection.sent || written > fate.segment {
            return false;
        }
        if fate.is_reset {
            return true;
        }
        if look < RESET_LOOKS {
            clock::sleep(Duration::from_millis(1 << look)).await;
        }
    }
    false
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
