//! What comes between a new connection and the first request on it: the PROXY header, then TLS.

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

/// A handshake has at least this long, however short a connect may be: unlike a connect, it takes the backend's process,
/// and one that is given up has cost a busy process what the next one costs again.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// On whose behalf a connection is opened.
#[derive(Debug, Clone, Copy)]
pub struct ProxiedAddrs {
    /// The client's address; `None`: unknown.
    pub client: Option<SocketAddr>,
    /// Where it has connected to; `None`: that is not known.
    pub local: Option<SocketAddr>,
}

impl ProxiedAddrs {
    /// No client's: for connections that many clients share.
    pub fn nobody() -> Self {
        Self {
            client: None,
            local: None,
        }
    }
}

/// A connection that is ready for requests.
pub struct Established {
    /// What requests go over.
    pub stream: Stream,
    /// Bytes written so far.
    pub sent: u64,
    /// The backend's process has answered.
    pub accepted: bool,
}

impl Established {
    /// A connection to a backend with neither PROXY header nor TLS.
    pub(super) fn without_handshake(stream: Stream) -> Self {
        Self {
            stream,
            sent: 0,
            accepted: false,
        }
    }
}

/// Sends the PROXY header on a new connection, and does the TLS handshake, as far as the backend's transport has
/// them.
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
        // A new connection has room for it.
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

/// Logs a handshake that the backend refused: where probes don't do the same handshake, nothing else would report it.
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

/// A shortage of this host's own: named with its remedy, and not held against the backend.
pub fn note_shortage(error: &ConnectError, endpoint: &Endpoint) {
    let fault = error.fault();
    if fault.is_own_shortage() && endpoint.may_complain() {
        tracing::warn!(
            pool = %endpoint.pool, backend = %endpoint.name, fault = fault.as_str(),
            "no new connection to it: {error}: {}", fault.remedy()
        );
    }
}

/// The same, where the backend has said so after the handshake.
pub fn note_refusal(connection: &IdleConnection, endpoint: &Endpoint) {
    if let Some(why) = tls_of(connection).and_then(BackendTlsStream::refusal) {
        complain(endpoint, why);
    }
}

/// "Any address", of the client's family.
fn any_address(client: SocketAddr) -> SocketAddr {
    let any: IpAddr = match client.ip().to_canonical() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, 0)
}

/// The connection's TLS, if it has one of its own.
pub(super) fn tls_of(connection: &IdleConnection) -> Option<&BackendTlsStream> {
    (*connection.stream).as_any().downcast_ref()
}

/// Notes that a request of so many bytes was written. Over TLS there are more of them.
pub fn note_written(connection: &mut IdleConnection, bytes: u64) {
    connection.sent = match tls_of(connection) {
        Some(tls) => tls.written(),
        None => connection.sent + bytes,
    };
}
