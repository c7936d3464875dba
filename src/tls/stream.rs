//! A connection with TLS, as the rest of the proxy takes it; and what stands below it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use rustls::ServerConnection;
use tokio::io::{AsyncRead, ReadBuf};

use crate::stream::{Seen, stands_on, writes_to};

/// The first read takes so much: a whole ClientHello, mostly.
const FIRST: usize = 2048;

/// The first byte of a handshake's record (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// What TLS stands on: a stream whose first bytes have been looked at.
#[derive(Debug)]
pub struct Raw {
    io: Stream,
    /// Looked at, and not yet taken.
    first: Seen,
    records: Records,
}

impl Raw {
    /// Nothing has been read of it.
    pub fn new(io: Stream) -> Self {
        Self {
            io,
            first: Seen::default(),
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
        if self.first.left().is_empty() {
            let mut first = vec![0; FIRST];
            let mut buffer = ReadBuf::new(&mut first);
            ready!(Pin::new(&mut *self.io).poll_read(cx, &mut buffer))?;
            let count = buffer.filled().len();
            first.truncate(count);
            self.first = Seen::new(first);
        }
        Poll::Ready(match self.first.left().first() {
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
        if !this.first.read(buffer) {
            ready!(Pin::new(&mut *this.io).poll_read(cx, buffer))?;
        }
        this.records.feed(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

writes_to!(Raw, io);

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

writes_to!(TlsStream, 0);
stands_on!(TlsStream, |this| this.raw().io);

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
