//! A socket as it is. Pingora accepts and opens connections; what its own stream does for each read and write besides
//! (buffers, rewinding, clock reads around each wait) is done elsewhere here or not needed, and would cost each request.

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
    /// The runtime may not know that something has come: see [`HangUpSocket::poll_end`].
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
    /// What is below.
    pub fn socket(&self) -> &S {
        &self.socket
    }
}

/// The socket of a connection that Pingora has just accepted or opened; nothing has been read from it.
///
/// # Errors
/// When there is no descriptor left: it is another one of the same socket, which Pingora's stream gives up with its own.
pub fn socket_of(stream: &Stream) -> io::Result<OwnedFd> {
    let descriptor = descriptor_of(stream).ok_or(io::ErrorKind::NotConnected)?;
    descriptor.try_clone_to_owned()
}

/// The descriptor below a stream; `None` where it has none of its own, as a stream of an HTTP/2 connection.
#[allow(
    unsafe_code,
    reason = "Pingora's trait of streams gives the descriptor as a number"
)]
pub fn descriptor_of(stream: &Stream) -> Option<BorrowedFd<'_>> {
    let number = Some(stream.id()).filter(|number| *number >= FIRST_SOCKET)?;
    // SAFETY: Pingora's own sockets and all of ours, and the TLS streams on them, answer with the descriptor that they
    // own, which stays open for as long as they are borrowed.
    Some(unsafe { BorrowedFd::borrow_raw(number) })
}

/// The socket that a stream is, and nothing more: `None` where something stands on it that keeps bytes or a state of its
/// own, as TLS does.
pub fn bare_socket(stream: &Stream) -> Option<BorrowedFd<'_>> {
    let any = stream.as_any();
    let is_bare = any.is::<PlainStream<TcpStream>>() || any.is::<PlainStream<UnixStream>>();
    is_bare.then(|| descriptor_of(stream)).flatten()
}

/// What is no socket answers with a lower number: ours with -1, Pingora's streams in memory with that of standard input.
const FIRST_SOCKET: RawFd = 3;

/// A TCP connection on this thread's runtime. It is non-blocking already.
///
/// # Errors
/// When it can't be watched.
pub fn tcp(socket: impl Into<std::net::TcpStream>) -> io::Result<Stream> {
    let socket = TcpStream::from_std(socket.into())?;
    Ok(Box::new(PlainStream::from(socket)))
}

/// A unix connection on this thread's runtime. It is non-blocking already.
///
/// # Errors
/// When it can't be watched.
pub fn unix(socket: OwnedFd) -> io::Result<Stream> {
    let socket = UnixStream::from_std(socket.into())?;
    Ok(Box::new(PlainStream::from(socket)))
}

/// A TCP or unix connection on this thread's runtime: whichever the socket is. It is non-blocking already.
///
/// # Errors
/// When it is neither, or can't be watched.
pub fn watched(socket: OwnedFd) -> io::Result<Stream> {
    match SockRef::from(&socket).domain()? {
        Domain::UNIX => unix(socket),
        Domain::IPV4 | Domain::IPV6 => tcp(socket),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The same connection on this thread's runtime, after it was another's: its wake-ups need not cross threads. What
/// isn't a plain socket stays where it is, and works all the same.
///
/// # Errors
/// When it can't be watched.
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
    /// A read that is none, or the first after one: see [`crate::net::stream`].
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
    /// Made when asked for: few ask, and those do so once.
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::new(SocketDigest::from_raw_fd(self.socket.as_raw_fd())))
    }
}
