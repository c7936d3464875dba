//! Who a client is, as far as it is known before it has sent a request.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{self, ListenAddress};

/// In the place of a client's address, where it came by a unix socket: as nginx has it.
pub const UNIX_CLIENT: &str = "unix:";

/// What a listener answers itself, before any route is asked. One value, so that a request is looked at once only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerAnswer {
    /// Nothing.
    Nothing,
    /// Every request is redirected to this port.
    Redirect(u16),
    /// Open challenges of certificate authorities; of other requests, all that are redirected, if it is so configured.
    Challenges {
        /// The port.
        redirect: Option<u16>,
    },
}

impl ListenerAnswer {
    /// By the listener's redirect, and whether there may be challenges.
    pub fn of_listener(redirect: Option<u16>, has_challenges: bool) -> Self {
        match redirect {
            _ if has_challenges => Self::Challenges { redirect },
            Some(port) => Self::Redirect(port),
            None => Self::Nothing,
        }
    }

    /// The port that requests are redirected to.
    pub fn redirect(self) -> Option<u16> {
        match self {
            Self::Nothing => None,
            Self::Redirect(port) => Some(port),
            Self::Challenges { redirect } => redirect,
        }
    }
}

/// What is known of a client besides what it sends.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    /// Its address; `None`: it came by a unix socket, and nobody has said for whom.
    pub address: Option<SocketAddr>,
    /// Whether that is the client's: a proxy in front may come for somebody whom nobody knows.
    pub known: bool,
    /// Its IP address as text; [`UNIX_CLIENT`] where it has none.
    pub ip: String,
    /// Whether its `X-Forwarded-*` are believed.
    pub trusted: bool,
    /// How it reaches us: `http` or `https`.
    pub scheme: &'static str,
    /// Its protocol's name in the access log, where it isn't what the request head says.
    pub protocol: Option<&'static str>,
    /// The header fields that tell the app of the client's certificate.
    pub identity: Option<Arc<str>>,
    /// The listener that it has come to, as it was configured then; `None`: the process that it comes from did not know.
    pub listener: Option<Arc<ListenAddress>>,
    /// What its listener answers before any route is asked.
    pub listener_answer: ListenerAnswer,
    /// `max-age` of `Strict-Transport-Security`; 0: none.
    pub hsts: u64,
}

impl ClientInfo {
    /// Whether it speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.protocol.is_some()
    }

    /// The status by which a client learns that its request has become a tunnel: over HTTP/2 it is 200 (RFC 8441 §5).
    pub fn switched(&self) -> u16 {
        match self.protocol {
            None => 101,
            Some(_) => 200,
        }
    }

    /// What the app is told of its address: none where it has none.
    pub fn forwarded_ip(&self) -> &str {
        match self.address {
            Some(_) => &self.ip,
            None => "",
        }
    }

    /// A client without TLS that speaks HTTP/1. `None`: it has come by a unix socket.
    pub fn new(address: Option<SocketAddr>, headers: &config::HeadersConfig) -> Self {
        let ip = address.map(|address| address.ip().to_canonical());
        Self {
            address,
            known: address.is_some(),
            ip: ip.map_or_else(|| UNIX_CLIENT.to_owned(), |ip| ip.to_string()),
            trusted: ip.map_or(headers.trusts_unix(), |ip| headers.trusts(ip)),
            scheme: "http",
            protocol: None,
            identity: None,
            listener: None,
            listener_answer: ListenerAnswer::Nothing,
            hsts: 0,
        }
    }
}
