//! Who a client is, as far as it is known before it has sent a request.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config;

/// What is known of a client besides what it sends.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    /// Its address.
    pub address: SocketAddr,
    /// Whether that is the client's: a proxy in front may come for somebody whom nobody knows.
    pub known: bool,
    /// Its IP address as text.
    pub ip: String,
    /// Whether its `X-Forwarded-*` are believed.
    pub trusted: bool,
    /// How it reaches us: `http` or `https`.
    pub scheme: &'static str,
    /// Its protocol's name in the access log, where it isn't what the request head says.
    pub protocol: Option<&'static str>,
    /// The header fields that tell the app of the client's certificate.
    pub identity: Option<Arc<str>>,
    /// Every request is redirected to this port.
    pub redirect_https: Option<u16>,
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

    /// A client without TLS that speaks HTTP/1.
    pub fn new(address: SocketAddr, headers: &config::Headers) -> Self {
        let ip = address.ip().to_canonical();
        Self {
            address,
            known: true,
            ip: ip.to_string(),
            trusted: headers.trusts(ip),
            scheme: "http",
            protocol: None,
            identity: None,
            redirect_https: None,
            hsts: 0,
        }
    }
}
