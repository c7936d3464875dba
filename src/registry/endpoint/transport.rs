//! How a pool's backends are spoken to below HTTP.

use std::io;
use std::sync::Arc;

use http::uri::Scheme;

use crate::config::{self, BuiltClient, ProxyProtocol};
use crate::tls::upstream::BackendTls;

/// What comes between a TCP connection and HTTP.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transport {
    tls: Tls,
    /// Whether HTTP/2 is what it is asked for.
    pub http2: bool,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
}

#[derive(Debug, Clone, Default, PartialEq)]
enum Tls {
    #[default]
    Off,
    On(Arc<BackendTls>),
    /// It is wanted, and its files were never read: nothing may be sent.
    Unread,
}

impl Transport {
    /// As a pool's settings have it.
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

    /// The same for one backend: what is remembered of one is no use with another.
    pub fn for_one(&self) -> Self {
        let mut own = self.clone();
        if let Tls::On(client) = &self.tls {
            own.tls = Tls::On(Arc::new(client.for_one()));
        }
        own
    }

    /// Nothing comes between.
    pub fn is_plain(&self) -> bool {
        matches!(self.tls, Tls::Off) && self.proxy_protocol == ProxyProtocol::Off
    }

    /// How HTTP/2 names what requests come over (RFC 9113 §8.3.1).
    pub fn scheme(&self) -> Scheme {
        match self.tls {
            Tls::Off => Scheme::HTTP,
            Tls::On(_) | Tls::Unread => Scheme::HTTPS,
        }
    }

    /// TLS, if it is wanted.
    ///
    /// # Errors
    /// It is wanted and can't be had: to go on without it would be wrong.
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
