//! The steps between a new connection and its first request: the PROXY header, then TLS.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use pingora::protocols::Stream;
use tokio::io::AsyncWriteExt;

use super::connect::ConnectError;
use crate::net::proxy_protocol::write;
use crate::registry::endpoint::{Endpoint, IdleConnection, Transport};
use crate::rt::clock::timeout;
use crate::tls::upstream::{Alpn, BackendTls, BackendTlsStream, CountingStream, explain};

/// Minimum timeout of a TLS handshake, however short the connect timeout is: unlike connecting, a handshake needs the
/// backend's process, and if that is busy, giving up and trying again costs it the same work twice.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The client on whose behalf a connection is opened.
#[derive(Debug, Clone, Copy)]
pub struct ProxiedAddrs {
    /// The client's address; `None`: unknown.
    pub client: Option<SocketAddr>,
    /// The address to which the client has connected; `None`: unknown.
    pub local: Option<SocketAddr>,
}

impl ProxiedAddrs {
    /// Returns the addresses for connections that many clients share.
    pub fn nobody() -> Self {
        Self {
            client: None,
            local: None,
        }
    }
}

/// A connection that is ready for requests.
pub struct Established {
    /// The stream for requests.
    pub stream: Stream,
    /// Bytes written so far.
    pub sent: u64,
    /// Whether the backend's process is known to have accepted it.
    pub accepted: bool,
}

impl Established {
    /// Wraps a connection to a backend with neither PROXY header nor TLS.
    pub(super) fn without_handshake(stream: Stream) -> Self {
        Self {
            stream,
            sent: 0,
            accepted: false,
        }
    }
}

/// Sends the PROXY header on a new connection, and does the TLS handshake, as configured for the backend.
pub(super) async fn establish(
    mut stream: Stream,
    endpoint: &Endpoint,
    transport: &Transport,
    alpn: Alpn,
    patience: Duration,
    behalf: ProxiedAddrs,
) -> Result<Established, ConnectError> {
    let version = transport.proxy_protocol;
    let header = match behalf.client {
        Some(client) => {
            let local = behalf.local.unwrap_or_else(|| any_address(client));
            write::on_behalf(version, client, local)
        }
        None => write::for_unknown_client(version),
    };
    if !header.is_empty() {
        // A new connection has room for the header.
        stream.write_all(&header).await?;
        stream.flush().await?;
    }
    let sent = header.len() as u64;
    let tls = transport.tls().map_err(|error| refused(endpoint, &error))?;
    match tls {
        None => Ok(Established {
            sent,
            ..Established::without_handshake(stream)
        }),
        Some(client) => {
            let stream = CountingStream::new(stream, sent);
            let shaken = shake_hands(client, endpoint, alpn, patience, stream).await?;
            Ok(Established {
                sent: shaken.written(),
                stream: Box::new(shaken),
                accepted: true,
            })
        }
    }
}

async fn shake_hands(
    client: &BackendTls,
    endpoint: &Endpoint,
    alpn: Alpn,
    patience: Duration,
    stream: CountingStream,
) -> Result<BackendTlsStream, ConnectError> {
    let patience = patience.max(HANDSHAKE);
    match timeout(patience, client.connect(&endpoint.address, alpn, stream)).await {
        Err(_) => Err(ConnectError::Handshake(format!(
            "TLS: the handshake took longer than {patience:?}"
        ))),
        Ok(Err(error)) => Err(refused(endpoint, &error)),
        Ok(Ok(stream)) => Ok(BackendTlsStream::new(stream)),
    }
}

/// Logs a handshake that the backend refused: if the health checks don't use TLS in the same way, nothing else would
/// report it.
fn refused(endpoint: &Endpoint, error: &io::Error) -> ConnectError {
    let why = explain(error);
    complain(endpoint, &why);
    ConnectError::Handshake(why)
}

fn complain(endpoint: &Endpoint, why: &str) {
    if endpoint.may_complain() {
        tracing::warn!(
            pool = %endpoint.pool, backend = %endpoint.name,
            "no request is sent to it: {why}"
        );
    }
}

/// Logs a shortage of resources on this host with its remedy; it doesn't count against the backend.
pub fn note_shortage(error: &ConnectError, endpoint: &Endpoint) {
    let fault = error.fault();
    if fault.is_own_shortage() && endpoint.may_complain() {
        tracing::warn!(
            pool = %endpoint.pool, backend = %endpoint.name, fault = fault.as_str(),
            "no new connection to it: {error}: {}", fault.remedy()
        );
    }
}

/// Logs a refusal that the backend has sent only after the TLS handshake.
pub fn note_refusal(connection: &IdleConnection, endpoint: &Endpoint) {
    if let Some(why) = tls_of(connection).and_then(BackendTlsStream::refusal) {
        complain(endpoint, why);
    }
}

/// Returns the unspecified address of the client's address family.
fn any_address(client: SocketAddr) -> SocketAddr {
    let any: IpAddr = match client.ip().to_canonical() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, 0)
}

/// Returns the connection's TLS stream, if it has TLS of its own.
pub(super) fn tls_of(connection: &IdleConnection) -> Option<&BackendTlsStream> {
    (*connection.stream).as_any().downcast_ref()
}

/// Notes that a request of this many bytes was written. Over TLS, more bytes are sent.
pub fn note_written(connection: &mut IdleConnection, bytes: u64) {
    connection.sent = match tls_of(connection) {
        Some(tls) => tls.written(),
        None => connection.sent + bytes,
    };
}
