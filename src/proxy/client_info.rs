//! What is known about a client before it has sent a request.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{self, ListenAddress};

/// Replaces the address of a client on a unix socket, as in nginx.
pub const UNIX_CLIENT: &str = "unix:";

/// What a listener answers itself, before any route is looked up. One value, so that a request needs one check only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerAnswer {
    /// No response of its own.
    Nothing,
    /// Redirects every request to this port.
    Redirect(u16),
    /// Answers open ACME challenges; redirects other requests, if configured.
    Challenges {
        /// The port for redirects.
        redirect: Option<u16>,
    },
}

impl ListenerAnswer {
    /// Returns the value for the listener's redirect, and for whether there may be challenges.
    pub fn of_listener(redirect: Option<u16>, has_challenges: bool) -> Self {
        match redirect {
            _ if has_challenges => Self::Challenges { redirect },
            Some(port) => Self::Redirect(port),
            None => Self::Nothing,
        }
    }

    /// Returns the port to which requests are redirected.
    pub fn redirect(self) -> Option<u16> {
        match self {
            Self::Nothing => None,
            Self::Redirect(port) => Some(port),
            Self::Challenges { redirect } => redirect,
        }
    }
}

/// What is known about a client besides what it sends.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    /// Its address; `None`: it uses a unix socket, and no proxy has reported an address.
    pub address: Option<SocketAddr>,
    /// Whether the address is the client's: a proxy in front may report that it doesn't know the client.
    pub known: bool,
    /// Its IP address as text; [`UNIX_CLIENT`] if it has none.
    pub ip: String,
    /// Whether its `X-Forwarded-*` header fields are trusted.
    pub trusted: bool,
    /// The scheme that it uses: `http` or `https`.
    pub scheme: &'static str,
    /// The name of its protocol in the access log, if it differs from the version in the request head.
    pub protocol: Option<&'static str>,
    /// The header fields that describe the client's certificate to the app.
    pub identity: Option<Arc<str>>,
    /// The address of its listener, as configured at that time; `None`: the connection came from a process that did
    /// not know it.
    pub listener: Option<Arc<ListenAddress>>,
    /// What its listener answers before any route is looked up.
    pub listener_answer: ListenerAnswer,
    /// `max-age` of `Strict-Transport-Security`; 0: none.
    pub hsts: u64,
}

impl ClientInfo {
    /// Returns whether it uses HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.protocol.is_some()
    }

    /// Returns the status that tells a client that its request has become a tunnel: over HTTP/2 it is 200 (RFC 8441
    /// §5).
    pub fn switched(&self) -> u16 {
        match self.protocol {
            None => 101,
            Some(_) => 200,
        }
    }

    /// Returns the address that the app is told; empty if the client has none.
    pub fn forwarded_ip(&self) -> &str {
        match self.address {
            Some(_) => &self.ip,
            None => "",
        }
    }

    /// Creates an HTTP/1 client without TLS. `None`: it uses a unix socket.
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
