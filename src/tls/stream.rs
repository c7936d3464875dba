//! A connection with TLS, as the rest of the proxy takes it; and what stands below it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// The first read takes so much: a whole ClientHello, mostly.
const FIRST: usize = 2048;

/// The first byte of a handshake's record (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// What TLS stands on: a stream whose first bytes have been looked at.
#[derive(Debug)]
pub struct Raw {
    io: Stream,
    /// Looked at, and not yet taken.
    first: Vec<u8>,
    records: Records,
}

impl Raw {
    /// Nothing has been read of it.
    pub fn new(io: Stream) -> Self {
        Self {
            io,
            first: Vec::new(),
            records: Records::default(),
        }
    }

    /// The stream, without what was read of it.
    pub fn into_inner(self) -> Stream {
        self.io
    }

    /// Waits for the client's first bytes, and says whether TLS can begin so.
    ///
    /// # Errors
    /// It has gone.
    pub fn poll_begins_tls(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.first.is_empty() {
            let mut first = vec![0; FIRST];
            let mut buffer = ReadBuf::new(&mut first);
            ready!(Pin::new(&mut *self.io).poll_read(cx, &mut buffer))?;
            let count = buffer.filled().len();
            first.truncate(count);
            self.first = first;
        }
        Poll::Ready(match self.first.first() {
            None => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(first) => Ok(*first == HANDSHAKE),
        })
    }
}

impl AsyncRead for Raw {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        if this.first.is_empty() {
            ready!(Pin::new(&mut *this.io).poll_read(cx, buffer))?;
        } else {
            let count = this.first.len().min(buffer.remaining());
            buffer.put_slice(&this.first[..count]);
            this.first.drain(..count);
            if this.first.is_empty() {
                this.first = Vec::new();
            }
        }
        this.records.feed(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Raw {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }
}

/// Where in the sequence of TLS records a stream is.
#[derive(Debug, Default)]
struct Records {
    header: [u8; 5],
    /// How much of a header has come.
    have: usize,
    /// How much of the record is still to come.
    left: usize,
}

impl Records {
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = self.left.min(bytes.len());
                self.left -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = (5 - self.have).min(bytes.len());
            self.header[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have == 5 {
                self.have = 0;
                self.left = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
            }
        }
    }

    fn is_within(&self) -> bool {
        self.have > 0 || self.left > 0
    }
}

/// A client's connection with TLS. Its descriptor is the connection's own: what is asked of the kernel, and a reset,
/// are about the connection. What is counted there is TLS records, a little more than what they carry.
#[derive(Debug)]
pub struct TlsStream(tokio_rustls::server::TlsStream<Raw>);

impl TlsStream {
    /// A connection after its handshake.
    pub fn new(inner: tokio_rustls::server::TlsStream<Raw>) -> Self {
        Self(inner)
    }

    /// The session.
    pub fn session(&self) -> &ServerConnection {
        self.0.get_ref().1
    }

    /// A part of a record has been read, and nobody has seen it: the kernel has nothing more, and yet something is on
    /// its way.
    pub fn is_within_record(&self) -> bool {
        self.raw().records.is_within()
    }

    fn raw(&self) -> &Raw {
        self.0.get_ref().0
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for TlsStream {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(&mut self.0).await;
    }
}

impl UniqueID for TlsStream {
    fn id(&self) -> UniqueIDType {
        self.raw().io.id()
    }
}

impl Ssl for TlsStream {}

impl Peek for TlsStream {}

impl GetTimingDigest for TlsStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.raw().io.get_timing_digest()
    }
}

impl GetProxyDigest for TlsStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.raw().io.get_proxy_digest()
    }
}

impl GetSocketDigest for TlsStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.raw().io.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_followed_however_they_are_cut() {
        let text = [&[23, 3, 3, 0, 4][..], b"abcd", &[23, 3, 3, 1, 0], &[7; 256]].concat();
        for piece in 1..text.len() {
            let mut records = Records::default();
            let mut fed = 0;
            for part in text.chunks(piece) {
                records.feed(part);
                fed += part.len();
                let at_an_end = fed == 9 || fed == text.len();
                assert_eq!(records.is_within(), !at_an_end, "{fed} bytes in {piece}s");
            }
        }
    }
}
