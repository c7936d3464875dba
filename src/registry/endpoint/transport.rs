//! How connections to a pool's backends are made, below HTTP.

use std::io;
use std::sync::Arc;

use http::uri::Scheme;

use crate::config::{self, BuiltClient, ProxyProtocol};
use crate::tls::upstream::BackendTls;

/// The layers between TCP and HTTP.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transport {
    tls: Tls,
    /// Whether HTTP/2 is spoken to the backends.
    pub http2: bool,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: ProxyProtocol,
}

#[derive(Debug, Clone, Default, PartialEq)]
enum Tls {
    #[default]
    Off,
    On(Arc<BackendTls>),
    /// TLS is configured, and its files could not be read: nothing may be sent.
    Unread,
}

impl Transport {
    /// Creates the transport from a pool's settings.
    pub fn of(pool: &config::PoolConfig) -> Self {
        Self {
            tls: match &pool.tls {
                None => Tls::Off,
                Some(tls) => {
                    let built = tls.client.as_ref().and_then(BuiltClient::get);
                    built.map_or(Tls::Unread, Tls::On)
                }
            },
            http2: pool.upstream.http2,
            proxy_protocol: pool.upstream.proxy_protocol,
        }
    }

    /// Returns a copy for one backend, because TLS sessions that are remembered from one backend can't be used with
    /// another.
    pub fn for_one(&self) -> Self {
        let mut own = self.clone();
        if let Tls::On(client) = &self.tls {
            own.tls = Tls::On(Arc::new(client.for_one()));
        }
        own
    }

    /// Whether HTTP is spoken directly over TCP.
    pub fn is_plain(&self) -> bool {
        matches!(self.tls, Tls::Off) && self.proxy_protocol == ProxyProtocol::Off
    }

    /// Returns the scheme that HTTP/2 requests are sent with (RFC 9113 §8.3.1).
    pub fn scheme(&self) -> Scheme {
        match self.tls {
            Tls::Off => Scheme::HTTP,
            Tls::On(_) | Tls::Unread => Scheme::HTTPS,
        }
    }

    /// Returns the TLS client, if TLS is configured.
    ///
    /// # Errors
    /// TLS is configured and not available: a connection without it must not be made.
    pub fn tls(&self) -> io::Result<Option<&Arc<BackendTls>>> {
        match &self.tls {
            Tls::Off => Ok(None),
            Tls::On(client) => Ok(Some(client)),
            Tls::Unread => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the files of [pool.tls] have not been read",
            )),
        }
    }
}
