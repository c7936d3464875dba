//! A new connection: Pingora opens it, then it is dressed as the backend wants it.
//!
//! The time for a connect is kept by our own timer. Pingora's are of no use on the data plane's threads: above 15 minutes
//! it takes tokio's, which these threads don't have, and panics; below a millisecond its own wraps around.

use std::error::Error as StdError;
use std::future::{Future as _, poll_fn};
use std::io;
use std::task::Poll;
use std::time::Duration;

use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::HttpPeer;

use super::ConnectError;
use super::handshake::{Established, ProxiedAddrs, dressed};
use crate::config;
use crate::net::connect_fault::ConnectFault;
use crate::net::keepalive::Keepalive;
use crate::net::plain;
use crate::proxy::data_plane::DataPlane;
use crate::registry::endpoint::{Permit, Resolved, Ticket};
use crate::rt::clock::timeout;
use crate::rt::shutdown_signal::Level;
use crate::tls::upstream::Alpn;

/// What a connection is made of.
pub struct NewConnection {
    /// The stream, ready for a request.
    pub dressed: Established,
    /// The number of the transport that it was opened with.
    pub transport: u32,
    /// Counts it.
    pub ticket: Ticket,
}

/// Opens what a connection is made of.
///
/// # Errors
/// As [`super::connect`].
pub async fn dial(
    plane: &DataPlane,
    permit: &Permit,
    upstream: &config::Upstream,
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
        Resolved::Socket(address) => {
            own.check(*address)?;
            HttpPeer::new(*address, false, String::new())
        }
        Resolved::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())
            .map_err(|error| failed(&error))?,
    };
    let (transport, number) = endpoint.transport();
    if matches!(*resolved, Resolved::Socket(_)) {
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
        Resolved::Socket(_) => plain::tcp(socket),
        Resolved::Unix(_) => plain::unix(socket),
    });
    let stream = stream?;
    let dressed = match transport.is_plain() {
        true => Established::plainly(stream),
        // Boxed: most connections go without.
        false => {
            let patience = upstream.connect_timeout;
            let dressing = dressed(stream, endpoint, &transport, alpn, patience, behalf);
            let mut dressing = Box::pin(dressing);
            // A backend that stalls must not hold up a drain beyond its deadline.
            poll_fn(|cx| {
                if let Poll::Ready(dressed) = dressing.as_mut().poll(cx) {
                    return Poll::Ready(dressed);
                }
                ticket.interrupt().register(cx.waker());
                match ticket.interrupt().level() {
                    Level::Cut => Poll::Ready(Err(ConnectError::Moved)),
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

fn too_late(patience: Duration) -> String {
    format!(
        "no connection within `connect_timeout` ({})",
        config::duration::format(patience)
    )
}

/// The same in Pingora's words.
fn in_pingoras_words(keepalive: Keepalive) -> TcpKeepalive {
    TcpKeepalive {
        idle: keepalive.idle,
        interval: keepalive.interval,
        count: keepalive.count as usize,
        #[cfg(target_os = "linux")]
        user_timeout: keepalive.unacknowledged.unwrap_or_default(),
    }
}

/// What Pingora's error has met: the system's own error, where it keeps it.
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

/// How the kernel watches over HTTP/2 sessions, which may carry silent streams for days: a host that is gone is noticed
/// within 25 seconds. HTTP/2's own PINGs are taken for abuse by gRPC servers.
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

    /// As Pingora wraps it: the system's error in a bind error, in an internal one.
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
