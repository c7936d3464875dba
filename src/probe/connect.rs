//! A probe's connection: counted among the backend's connections until its descriptor is closed.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::resolve::AddressResolver;
use super::verdict::ProbeAnswer;
use super::{ProbeTarget, identity};
use crate::core::backend::ProbeResult;
use crate::net::keepalive::{Keepalive, set_keepalive};
use crate::net::proxy_protocol::write;
use crate::registry::Endpoint;
use crate::registry::endpoint::{ConnectionTicket, ResolvedAddress};
use crate::tls::upstream::{Alpn, explain, is_of_tls};

/// An open connection.
#[derive(Debug)]
pub(super) struct ProbeConnection {
    /// Declared before the ticket, so that the descriptor is closed before the connection is counted out.
    socket: ProbeSocket,
    /// `None` for TLS, whose inner connection has the ticket.
    _ticket: Option<ConnectionTicket>,
}

#[derive(Debug)]
enum ProbeSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<ProbeConnection>>),
}

/// Connects to the address that the backend's name resolves to now, and does the PROXY header and the TLS handshake.
/// Also returns the listening socket that accepted the connection, if it is known.
///
/// # Errors
/// The verdict on the backend that the failure means.
pub(super) async fn connect(
    target: &ProbeTarget,
    alpn: Alpn,
    resolver: &AddressResolver,
) -> Result<(ProbeConnection, Option<u64>), ProbeAnswer> {
    let (endpoint, port) = (&target.endpoint, target.health.port);
    // Fails before the probe's own time-out, which could only say that there was no answer.
    let patience = target.health.timeout.mul_f32(0.9);
    match timeout(patience, resolver.first_answer(endpoint)).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return Err(ProbeAnswer::unresolved(&why)),
        Err(_) => {
            let why = format!("its name could not be resolved within {patience:?}");
            return Err(ProbeAnswer::unresolved(&why));
        }
    }
    let connected = open(target, port, resolver).await;
    let (mut connection, listener) = connected.map_err(|error| ProbeAnswer::of_connect(&error))?;
    let (transport, _) = endpoint.transport();
    // A probe to another port reaches another server, which need not know the PROXY header.
    if port.is_none() {
        let header = write::for_own_connection(transport.proxy_protocol);
        let written = connection.write_all(&header).await;
        written.map_err(|error| ProbeAnswer::of_connect(&error))?;
    }
    if !target.health.tls {
        return Ok((connection, listener));
    }
    let secured = match transport.tls() {
        Ok(None) => return Ok((connection, listener)),
        Ok(Some(tls)) => tls.connect(&endpoint.address, alpn, connection).await,
        Err(error) => Err(error),
    };
    match secured {
        Ok(stream) => {
            let connection = ProbeConnection {
                socket: ProbeSocket::Tls(Box::new(stream)),
                _ticket: None,
            };
            Ok((connection, listener))
        }
        Err(error) => Err(ProbeAnswer::new(ProbeResult::Reset, explain(&error))),
    }
}

/// Whether probes use HTTP/2, as requests do. A probe to another port does not: it reaches another server.
pub(super) fn speaks_http2(target: &ProbeTarget) -> bool {
    target.health.port.is_none() && target.endpoint.transport().0.http2
}

/// Whether probes use TLS.
pub(super) fn speaks_tls(target: &ProbeTarget) -> bool {
    target.health.tls && !matches!(target.endpoint.transport().0.tls(), Ok(None))
}

/// Describes why a connection broke, for users.
pub(super) fn describe(error: &io::Error) -> String {
    match is_of_tls(error) {
        true => explain(error),
        false => format!("the connection broke before an answer: {error}"),
    }
}

/// Opens the connection itself, to `port` instead of the backend's own if it is given.
async fn open(
    ProbeTarget { endpoint, own, .. }: &ProbeTarget,
    port: Option<u16>,
    resolver: &AddressResolver,
) -> io::Result<(ProbeConnection, Option<u64>)> {
    let Some(resolved) = endpoint.resolved() else {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the backend's name has no address",
        ));
    };
    // Counted before the first packet is sent, because a connection in the peer's accept queue counts already.
    let ticket = endpoint.connection_opened();
    let (socket, listener) = match &*resolved {
        ResolvedAddress::Unix(path) => {
            own.check_path(path).map_err(io::Error::other)?;
            let stream = UnixStream::connect(path).await?;
            (ProbeSocket::Unix(stream), identity::of_unix(path))
        }
        ResolvedAddress::Socket(address) => {
            own.check(*address).map_err(io::Error::other)?;
            let stream = connect_any(endpoint, *address, port, resolver).await?;
            let _ = stream.set_nodelay(true);
            // Keepalive matters, because the connection may become the sentinel, whose end is the first sign of a
            // process that stops.
            set_keepalive(&stream, Some(Keepalive::standard()));
            let listener = identity::of_tcp(&stream);
            (ProbeSocket::Tcp(stream), listener)
        }
    };
    let connection = ProbeConnection {
        socket,
        _ticket: Some(ticket),
    };
    Ok((connection, listener))
}

/// Connects to the current address. If its name has more addresses (`localhost` is `::1` and `127.0.0.1`) and no
/// process listens on the current one, the next is tried, and becomes the current one if it answers.
async fn connect_any(
    endpoint: &Endpoint,
    current: SocketAddr,
    port: Option<u16>,
    resolver: &AddressResolver,
) -> io::Result<TcpStream> {
    let with_port =
        |address: SocketAddr| SocketAddr::new(address.ip(), port.unwrap_or_else(|| address.port()));
    let refused = match TcpStream::connect(with_port(current)).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => error,
        other => return other,
    };
    // The name may resolve to another address by now, and nothing may ever listen at the old one again.
    resolver.ask_again(endpoint).await;
    for address in resolver.addresses() {
        if address != current
            && let Ok(stream) = TcpStream::connect(with_port(address)).await
        {
            endpoint.set_resolved(ResolvedAddress::Socket(address));
            return Ok(stream);
        }
    }
    Err(refused)
}

impl AsyncRead for ProbeConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.socket {
            ProbeSocket::Tcp(stream) => Pin::new(stream).poll_read(context, into),
            ProbeSocket::Unix(stream) => Pin::new(stream).poll_read(context, into),
            ProbeSocket::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for ProbeConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            ProbeSocket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            ProbeSocket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            ProbeSocket::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            ProbeSocket::Tcp(stream) => Pin::new(stream).poll_flush(context),
            ProbeSocket::Unix(stream) => Pin::new(stream).poll_flush(context),
            ProbeSocket::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            ProbeSocket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            ProbeSocket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            ProbeSocket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
