//! Between a listener's accept and the first request: who the client is, and what it speaks.
//!
//! Each step takes a stream and leaves one behind, so that what follows needs not know of it. From here on a client is
//! a stream of HTTP/1 messages with an [`Origin`].

use std::net::SocketAddr;
use std::sync::Arc;

use pingora::protocols::Stream;

use super::h1;
use super::h1::account::Refusal;
use super::per_client::OneOf;
use super::plane::{Plane, Served};
use crate::config;
use crate::interrupt::Interrupt;
use crate::telemetry::metrics::Limit;

/// What is known of a client besides what it sends.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its address.
    pub address: SocketAddr,
    /// Its IP address as text.
    pub ip: String,
    /// Whether its `X-Forwarded-*` are believed.
    pub trusted: bool,
    /// How it reaches us: `http` or `https`.
    pub scheme: &'static str,
    /// Its protocol's name in the access log, where it isn't what the request head says.
    pub protocol: Option<&'static str>,
}

impl Origin {
    /// A client without TLS that speaks HTTP/1.
    pub fn new(address: SocketAddr, headers: &config::Headers) -> Self {
        let ip = address.ip().to_canonical();
        Self {
            address,
            ip: ip.to_string(),
            trusted: headers.trusted.iter().any(|network| network.contains(&ip)),
            scheme: "http",
            protocol: None,
        }
    }
}

/// A listener's side of it.
pub struct Front {
    /// The data plane behind it.
    pub plane: Arc<Plane>,
    /// As configured.
    pub listener: config::Listener,
}

/// Counts a connection out.
struct Counted<'a>(&'a Plane, Arc<Interrupt>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.clients.leave(&self.1);
    }
}

/// Serves a connection that a listener has accepted, until it ends.
pub async fn receive(front: &Front, stream: Stream, peer: SocketAddr) {
    let plane = &front.plane;
    let config = plane.registry.snapshot().config.clone();
    let interrupt = plane.clients.join();
    // Before the client, so that it is dropped after the client's descriptor, even in a panic.
    let _counted = Counted(plane, interrupt.clone());
    let origin = Origin::new(peer, &config.headers);
    // Likewise: it counts until it is closed.
    match admit(plane, &config.server, origin.address) {
        Ok(_held_until_closed) => {
            h1::client::serve(plane, stream, origin, interrupt, &config).await;
        }
        Err(refusal) => {
            h1::client::turn_away(plane, stream, origin, interrupt, &config, refusal).await;
        }
    }
}

/// Whether one connection more may be served.
fn admit<'a>(
    plane: &'a Plane,
    limits: &config::Server,
    address: SocketAddr,
) -> Result<(Served<'a>, Option<OneOf<'a>>), Refusal> {
    let Some(served) = plane.admit(limits) else {
        let refusal = Refusal::limited(Limit::Connections, 503, "too many connections");
        return Err(refusal);
    };
    match limits.max_connections_per_client {
        0 => Ok((served, None)),
        limit => match plane.per_client.enter(address.ip(), limit) {
            None => Err(Refusal::limited(
                Limit::ConnectionsPerClient,
                429,
                "too many connections from this address",
            )),
            one => Ok((served, one)),
        },
    }
}
