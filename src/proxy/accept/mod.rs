//! From accepting a connection to its first request: who the client is, and which protocol it uses.
//!
//! Each step takes a stream and returns one, so that later steps need not know about earlier ones. After this module,
//! a client is a stream of HTTP/1 messages with a [`ClientInfo`].

pub mod adopt;
pub mod preface;
pub mod proxy_protocol;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::protocols::Stream;

use super::data_plane::{DataPlane, ServedConnection};
use super::per_client::OneOf;
use crate::config;
use crate::metrics::ServerLimit;
use crate::proxy::client_info::{ClientInfo, ListenerAnswer};
use crate::proxy::connection::{http2, serve};
use crate::proxy::moving::{StayReason, note_stay};
use crate::proxy::refusal::ClientRefusal;
use crate::rt::shutdown_signal::ConnectionInterrupt;

/// What a listener needs to serve the connections that it accepts.
pub struct ListenerContext {
    /// The data plane that serves the connections.
    pub plane: Arc<DataPlane>,
    /// The current settings.
    pub settings: ArcSwap<ListenerSettings>,
}

/// The settings of a listener that a reload can change.
pub struct ListenerSettings {
    /// The listener's address, as configured. Each of its connections refers to it.
    pub address: Arc<config::ListenAddress>,
    /// The listener's configuration.
    pub listener: config::ListenerConfig,
    /// Its TLS settings, if it has TLS.
    pub tls: Option<Arc<crate::tls::server::ServerTls>>,
}

/// Removes a connection from the count of open ones when dropped.
struct ConnectionGuard<'a>(&'a DataPlane, Arc<ConnectionInterrupt>);

impl Drop for ConnectionGuard<'_> {
    fn drop(&mut self) {
        self.0.clients.leave(&self.1);
    }
}

/// Serves an accepted connection until it ends. `peer`: `None` for a unix socket.
pub async fn receive(front: &ListenerContext, stream: Stream, peer: Option<SocketAddr>) {
    let plane = &front.plane;
    let config = plane.registry.snapshot().config.clone();
    let interrupt = plane.clients.join();
    // Created before the client, so that it is dropped after the client's descriptor, even in a panic.
    let _counted = ConnectionGuard(plane, interrupt.clone());
    let settings = front.settings.load_full();
    let (stream, mut origin) = if settings.listener.proxy_protocol {
        // Boxed: only listeners with PROXY protocol need the memory.
        let introduced = proxy_protocol::introduced(plane, stream, peer, &interrupt, &config);
        match Box::pin(introduced).await {
            Some(introduced) => introduced,
            None => return,
        }
    } else {
        (stream, ClientInfo::new(peer, &config.headers))
    };
    let challenges = plane.certificates.challenges.is_wanted() && settings.tls.is_none();
    origin.listener = Some(settings.address.clone());
    origin.listener_answer =
        ListenerAnswer::of_listener(settings.listener.redirect_https, challenges);
    // Held until the descriptor is closed, like the guard above: the connection counts for that long.
    match admit(plane, &config.server, origin.address) {
        // Boxed: only listeners with TLS need the memory.
        Ok(_held_until_closed) => match &settings.tls {
            Some(server) => {
                note_stay(&interrupt, StayReason::Tls);
                origin.hsts = settings.listener.hsts.as_secs();
                let served = tls::serve(plane, server, stream, origin, interrupt, &config);
                Box::pin(served).await;
            }
            None if settings.listener.http2 => {
                Box::pin(either(plane, stream, origin, interrupt, &config)).await;
            }
            None => serve::serve(plane, stream, origin, interrupt, &config).await,
        },
        // A response would require a TLS handshake, which is too expensive for a client over the limit.
        Err(refusal) if settings.tls.is_some() => {
            serve::record_unserved(plane, stream, origin, interrupt, &config, refusal);
        }
        Err(refusal) => {
            serve::turn_away(plane, stream, origin, interrupt, &config, refusal).await;
        }
    }
}

/// Serves a client without TLS that may use HTTP/2.
async fn either(
    plane: &Arc<DataPlane>,
    stream: Stream,
    origin: ClientInfo,
    interrupt: Arc<ConnectionInterrupt>,
    config: &Arc<config::Config>,
) {
    match preface::choose(plane, stream, &interrupt, &config.server).await {
        Some((stream, true)) => {
            note_stay(&interrupt, StayReason::Http2);
            http2::serve(plane, stream, origin, interrupt, config).await;
        }
        Some((stream, false)) => {
            serve::serve(plane, stream, origin, interrupt, config).await;
        }
        None => {}
    }
}

/// Returns whether one more connection may be served.
fn admit<'a>(
    plane: &'a DataPlane,
    limits: &config::ServerConfig,
    address: Option<SocketAddr>,
) -> Result<(ServedConnection<'a>, Option<OneOf<'a>>), ClientRefusal> {
    let Some(served) = plane.admit(limits) else {
        let refusal = ClientRefusal::limited(ServerLimit::Connections, 503, "too many connections");
        return Err(refusal);
    };
    // Clients on a unix socket have no address and would all count as one; the proxy in front of them has its own
    // limits.
    let Some(address) = address else {
        return Ok((served, None));
    };
    match limits.max_connections_per_client {
        0 => Ok((served, None)),
        limit => match plane.per_client.enter(address.ip(), limit) {
            None => Err(ClientRefusal::limited(
                ServerLimit::ConnectionsPerClient,
                429,
                "too many connections from this address",
            )),
            one => Ok((served, one)),
        },
    }
}
