//! A socket without layers on it. Pingora accepts and opens connections; but its own stream type does more for each
//! read and write (buffers, rewinding, clock reads around each wait), which is not needed here and would slow every
//! request.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use socket2::{Domain, SockRef};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::hang_up::HangUpSocket;

/// A TCP or unix socket as a [`Stream`].
#[derive(Debug)]
pub struct PlainStream<S> {
    socket: S,
    /// Whether the runtime may not know that bytes have arrived: see [`HangUpSocket::poll_end`].
    is_put_aside: bool,
}

impl<S> From<S> for PlainStream<S> {
    fn from(socket: S) -> Self {
        Self {
            socket,
            is_put_aside: false,
        }
    }
}

impl<S> PlainStream<S> {
    /// The socket below.
    pub fn socket(&self) -> &S {
        &self.socket
    }
}

/// A copy of the descriptor of a connection that Pingora has just accepted or opened, and of which nothing was read.
///
/// # Errors
/// No descriptor is left. The copy is needed because Pingora's stream closes its own.
pub fn socket_of(stream: &Stream) -> io::Result<OwnedFd> {
    let descriptor = descriptor_of(stream).ok_or(io::ErrorKind::NotConnected)?;
    descriptor.try_clone_to_owned()
}

/// Descriptor below a stream; `None` if it has none of its own, as a stream of an HTTP/2 connection.
#[allow(
    unsafe_code,
    reason = "Pingora's trait of streams gives the descriptor as a number"
)]
pub fn descriptor_of(stream: &Stream) -> Option<BorrowedFd<'_>> {
    let number = Some(stream.id()).filter(|number| *number >= FIRST_SOCKET)?;
    // SAFETY: Pingora's own sockets, all of ours, and the TLS streams on them return the descriptor that they own,
    // which stays open for as long as they are borrowed.
    Some(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Descriptor of a stream that is a socket and nothing more; `None` if there is a layer with bytes or a state of its
/// own on it, such as TLS.
pub fn bare_socket(stream: &Stream) -> Option<BorrowedFd<'_>> {
    let any = stream.as_any();
    let is_bare = any.is::<PlainStream<TcpStream>>() || any.is::<PlainStream<UnixStream>>();
    is_bare.then(|| descriptor_of(stream)).flatten()
}

/// Lowest descriptor that a socket can have. Streams without a socket return a lower number: ours -1, and Pingora's
/// streams in memory 0.
const FIRST_SOCKET: RawFd = 3;

/// Registers a TCP connection with this thread's runtime. It must be non-blocking already.
///
/// # Errors
/// The runtime can't watch it.
pub fn tcp(socket: impl Into<std::net::TcpStream>) -> io::Result<Stream> {
    let socket = TcpStream::from_std(socket.into())?;
    Ok(Box::new(PlainStream::from(socket)))
}

/// Registers a unix connection with this thread's runtime. It must be non-blocking already.
///
/// # Errors
/// The runtime can't watch it.
pub fn unix(socket: OwnedFd) -> io::Result<Stream> {
    let socket = UnixStream::from_std(socket.into())?;
    Ok(Box::new(PlainStream::from(socket)))
}

/// Registers a TCP or unix connection with this thread's runtime. It must be non-blocking already.
///
/// # Errors
/// The socket is neither, or the runtime can't watch it.
pub fn watched(socket: OwnedFd) -> io::Result<Stream> {
    match SockRef::from(&socket).domain()? {
        Domain::UNIX => unix(socket),
        Domain::IPV4 | Domain::IPV6 => tcp(socket),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Moves a connection from another thread's runtime to this thread's, so that its wake-ups need not cross threads. A
/// stream that isn't a plain socket stays where it is, and still works.
///
/// # Errors
/// The runtime can't watch it.
pub fn moved_here(stream: Stream) -> io::Result<Stream> {
    if !stream.as_any().is::<PlainStream<TcpStream>>() {
        return Ok(stream);
    }
    match stream.into_any().downcast::<PlainStream<TcpStream>>() {
        Ok(plain) => tcp(plain.socket.into_std()?),
        Err(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

impl<S: HangUpSocket> PlainStream<S> {
    /// Answers a read into no space, or the first read after one: see [`crate::net::stream`].
    #[cold]
    fn poll_read_unheard(
        &mut self,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if space.remaining() == 0 {
            self.is_put_aside = true;
            return self.socket.poll_end(cx);
        }
        match self.socket.receive(space) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_put_aside = false;
                Pin::new(&mut self.socket).poll_read(cx, space)
            }
            received => Poll::Ready(received),
        }
    }
}

impl<S: HangUpSocket> AsyncRead for PlainStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        space: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_put_aside || space.remaining() == 0 {
            return self.poll_read_unheard(cx, space);
        }
        Pin::new(&mut self.socket).poll_read(cx, space)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PlainStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl<S: AsRawFd> UniqueID for PlainStream<S> {
    fn id(&self) -> UniqueIDType {
        let descriptor: RawFd = self.socket.as_raw_fd();
        descriptor
    }
}

#[async_trait]
impl<S: AsyncWrite + Unpin + Send> Shutdown for PlainStream<S> {
    async fn shutdown(&mut self) {
        let _ = self.socket.shutdown().await;
    }
}

impl<S> Ssl for PlainStream<S> {}
impl<S> Peek for PlainStream<S> {}

impl<S> GetTimingDigest for PlainStream<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<S> GetProxyDigest for PlainStream<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl<S: AsRawFd> GetSocketDigest for PlainStream<S> {
    /// Made only when it is asked for, which is rare.
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::new(SocketDigest::from_raw_fd(self.socket.as_raw_fd())))
    }
}
