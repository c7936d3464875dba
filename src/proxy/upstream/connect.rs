//! Opens a new connection to a backend. Pingora connects; `handshake` sends the PROXY header and does the TLS
//! handshake, if configured; and if necessary, the request waits until the backend's process has accepted the
//! connection.
//!
//! The connect timeout uses a timer of this project. Pingora's timers don't work on the data plane's threads: above
//! 15 minutes they use tokio's, which these threads don't have, and panic; below a millisecond Pingora's own wraps
//! around.

use std::error::Error as StdError;
use std::future::{Future as _, poll_fn};
use std::io;
use std::task::Poll;
use std::time::Duration;

use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::HttpPeer;
use thiserror::Error;

use super::handshake::{Established, ProxiedAddrs, establish};
use super::reuse::{IdleState, check_idle};
use crate::config;
use crate::config::own_address::OwnAddressError;
use crate::core::Time;
use crate::net::accept_queue::AcceptState;
use crate::net::connect_fault::ConnectFault;
use crate::net::keepalive::Keepalive;
use crate::net::plain;
use crate::net::socket;
use crate::proxy::data_plane::DataPlane;
use crate::registry::endpoint::{ConnectionTicket, IdleConnection, Permit, ResolvedAddress};
use crate::rt::clock::{self, timeout};
use crate::rt::shutdown_signal::ShutdownLevel;
use crate::tls::upstream::Alpn;

/// Why there is no connection. Nothing was sent: another backend may be tried with any method.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The address did not accept the connection: the kind of fault, and the system's message.
    #[error("{1}")]
    Failed(ConnectFault, String),
    /// The address is one of the proxy's own listeners: the request would loop.
    #[error("{0}")]
    Own(#[from] OwnAddressError),
    /// The TLS handshake failed.
    #[error("{0}")]
    Handshake(String),
    /// The backend's name has not been resolved yet.
    #[error("its name is not resolved")]
    Unresolved,
    /// The client has disconnected meanwhile.
    #[error("the client has gone")]
    Unwanted,
    /// The backend began to drain, or restarted, in the meantime.
    #[error("it began to drain while the connection was being opened")]
    Moved,
    /// The listening socket was closed, together with its accept queue.
    #[error("it closed the connection before it had accepted it")]
    NotAccepted,
    /// No process has accepted the connection from the accept queue in time.
    #[error("it did not accept the connection in time")]
    Ignored,
}

impl ConnectError {
    /// Returns the kind of fault, for the request's cause and the metrics.
    pub const fn fault(&self) -> ConnectFault {
        match self {
            Self::Failed(fault, _) => *fault,
            Self::Own(_) => ConnectFault::OwnAddress,
            Self::Handshake(_) => ConnectFault::Handshake,
            Self::Unresolved => ConnectFault::NoAddress,
            Self::Moved => ConnectFault::Draining,
            // Never shown to anybody: the client is gone.
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

/// Opens a connection to the chosen backend on behalf of this client.
///
/// # Errors
/// Why there is no connection, for example that it was refused, or that `connect_timeout` has passed. Nothing was
/// sent.
pub async fn open_connection(
    plane: &DataPlane,
    permit: &Permit,
    upstream: &config::UpstreamConfig,
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

/// The parts of a new connection.
pub struct NewConnection {
    /// The stream, ready for a request.
    pub dressed: Established,
    /// The number of the transport with which it was opened.
    pub transport: u32,
    /// Counts it as open.
    pub ticket: ConnectionTicket,
}

/// Opens a connection, and returns its parts.
///
/// # Errors
/// The same as for [`open_connection`].
pub async fn dial(
    plane: &DataPlane,
    permit: &Permit,
    upstream: &config::UpstreamConfig,
    behalf: ProxiedAddrs,
    alpn: Alpn,
) -> Result<NewConnection, ConnectError> {
    let (endpoint, epoch) = (permit.endpoint(), permit.epoch());
    if endpoint.epoch() != epoch {
        return Err(ConnectError::Moved);
    }
    let resolved = endpoint.resolved().ok_or(ConnectError::Unresolved)?;
    let own = plane.registry.own_listeners();
    let mut peer = match &*resolved {
        ResolvedAddress::Socket(address) => {
            own.check(*address)?;
            HttpPeer::new(*address, false, String::new())
        }
        ResolvedAddress::Unix(path) => {
            HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())
                .map_err(|error| failed(&error))?
        }
    };
    let (transport, number) = endpoint.transport();
    if matches!(*resolved, ResolvedAddress::Socket(_)) {
        let idle = plane.registry.snapshot().config.server.tcp_keepalive;
        let keepalive = Keepalive::after(idle, upstream.read_timeout);
        peer.options.tcp_keepalive = keepalive.map(|keepalive| match upstream.http2 {
            true => KEEP_ALIVE,
            false => in_pingoras_words(keepalive),
        });
    }
    let ticket = endpoint.connection_opened();
    let stream = timeout(upstream.connect_timeout, plane.connector.new_stream(&peer))
        .await
        .map_err(|_| {
            ConnectError::Failed(ConnectFault::TimedOut, too_late(upstream.connect_timeout))
        })?
        .map_err(|error| failed(&error))?;
    let socket = plain::socket_of(&stream);
    drop(stream);
    let stream = socket.and_then(|socket| match *resolved {
        ResolvedAddress::Socket(_) => plain::tcp(socket),
        ResolvedAddress::Unix(_) => plain::unix(socket),
    });
    let stream = stream?;
    let dressed = match transport.is_plain() {
        true => Established::without_handshake(stream),
        // Boxed: most connections need no handshake.
        false => {
            let patience = upstream.connect_timeout;
            let dressing = establish(stream, endpoint, &transport, alpn, patience, behalf);
            let mut dressing = Box::pin(dressing);
            // A backend that stalls must not delay a drain beyond its deadline.
            poll_fn(|cx| {
                if let Poll::Ready(dressed) = dressing.as_mut().poll(cx) {
                    return Poll::Ready(dressed);
                }
                ticket.interrupt().register(cx.waker());
                match ticket.interrupt().level() {
                    ShutdownLevel::Cut => Poll::Ready(Err(ConnectError::Moved)),
                    _ => Poll::Pending,
                }
            })
            .await?
        }
    };
    if endpoint.epoch() != epoch {
        return Err(ConnectError::Moved);
    }
    Ok(NewConnection {
        dressed,
        transport: number,
        ticket,
    })
}

/// How long the check whether the connection was accepted is repeated without pause; after that, it is made every
/// millisecond.
const AT_ONCE: Duration = Duration::from_micros(100);

/// Waits until the backend's process has accepted a new connection, for a request that must not be lost together with
/// an accept queue: nothing is sent before, so that a request with any method can go elsewhere. If the kernel can't
/// tell (another host or network namespace, unix sockets, systems other than Linux), it returns at once.
///
/// # Errors
/// If the connection died in the queue, if the backend began to drain, or if no process accepted it within `patience`
/// although one of the `others` might. If there are no other backends, a connection that is not accepted yet is the
/// best there is.
pub async fn wait_for_acceptance(
    connection: &mut IdleConnection,
    permit: &Permit,
    patience: Duration,
    others: bool,
) -> Result<(), ConnectError> {
    let began = clock::now();
    // The TLS handshake proves that a process has accepted the connection.
    if connection.accepted {
        return Ok(());
    }
    loop {
        match socket::peer_accept_state(&connection.stream) {
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

fn too_late(patience: Duration) -> String {
    format!(
        "no connection within `connect_timeout` ({})",
        config::duration::format(patience)
    )
}

/// Converts the settings to Pingora's type.
fn in_pingoras_words(keepalive: Keepalive) -> TcpKeepalive {
    TcpKeepalive {
        idle: keepalive.idle,
        interval: keepalive.interval,
        count: keepalive.count as usize,
        #[cfg(target_os = "linux")]
        user_timeout: keepalive.unacknowledged.unwrap_or_default(),
    }
}

/// Converts Pingora's error, using the operating system's error if it contains one.
fn failed(error: &pingora::Error) -> ConnectError {
    let mut fault = match error.etype() {
        pingora::ErrorType::ConnectTimedout => ConnectFault::TimedOut,
        _ => ConnectFault::Other,
    };
    let mut cause = error.cause.as_deref().map(|cause| cause as &dyn StdError);
    while let Some(inner) = cause {
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            fault = ConnectFault::of(inner);
            break;
        }
        let pingora = inner.downcast_ref::<Box<pingora::Error>>();
        if pingora.is_some_and(|inner| *inner.etype() == pingora::ErrorType::ConnectTimedout) {
            fault = ConnectFault::TimedOut;
        }
        cause = match pingora {
            Some(inner) => inner.cause.as_deref().map(|cause| cause as &dyn StdError),
            None => inner.source(),
        };
    }
    ConnectError::Failed(fault, error.to_string())
}

/// TCP keep-alive of HTTP/2 sessions, which may carry silent streams for days: a dead host is noticed within 25
/// seconds. HTTP/2's own PINGs are treated as abuse by gRPC servers.
const KEEP_ALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(10),
    interval: Duration::from_secs(5),
    count: 3,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::from_secs(25),
};

#[cfg(test)]
mod tests {
    use super::*;
    use pingora::{Error, ErrorType};

    /// As Pingora wraps it: the system's error in a bind error, which is in an internal error.
    #[test]
    fn system_error_is_found_below_pingora_s_own() {
        for (code, fault) in [
            (libc::EADDRNOTAVAIL, ConnectFault::NoPort),
            (libc::EMFILE, ConnectFault::NoDescriptor),
            (libc::EACCES, ConnectFault::NotPermitted),
            (libc::EHOSTUNREACH, ConnectFault::HostUnreachable),
        ] {
            let system = io::Error::from_raw_os_error(code);
            let inner = Error::because(ErrorType::BindError, "inner", system);
            assert_eq!(failed(&inner).fault(), fault, "{code}, as it is");
            let outer = Error::because(ErrorType::InternalError, "outer", inner);
            assert_eq!(failed(&outer).fault(), fault, "{code}, wrapped");
        }
        let late = Error::explain(ErrorType::ConnectTimedout, "late");
        assert_eq!(failed(&late).fault(), ConnectFault::TimedOut);
    }
}
