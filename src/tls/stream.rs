//! A client's connection over TLS, and the stream below it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use rustls::ServerConnection;
use tokio::io::{AsyncRead, ReadBuf};

use crate::net::stream::{ReplayedBytes, stands_on, writes_to};
use crate::rt::coop::FairQueue;

/// Bytes of the first read; enough for most ClientHello messages.
const FIRST_READ: usize = 2048;

/// Type of the TLS record that carries handshake messages (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// The stream below TLS. Its first bytes can be looked at before TLS reads them.
#[derive(Debug)]
pub struct PeekedStream {
    io: Stream,
    /// Bytes that were looked at, and that TLS has yet to read.
    first: ReplayedBytes,
    records: RecordTracker,
    /// Turn-taking among handshakes, while this one lasts: each message then costs much CPU time.
    turns: Option<Box<FairQueue>>,
}

impl PeekedStream {
    /// A stream of which nothing was read.
    pub fn new(io: Stream) -> Self {
        Self {
            io,
            first: ReplayedBytes::default(),
            records: RecordTracker::default(),
            turns: Some(Box::default()),
        }
    }

    /// The stream below, without the bytes that were read already.
    pub fn into_inner(self) -> Stream {
        self.io
    }

    /// Waits for the client's first bytes, and says whether they can begin a TLS handshake.
    ///
    /// # Errors
    /// The client has closed the connection.
    pub fn poll_begins_tls(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.first.left().is_empty() {
            let mut first = vec![0; FIRST_READ];
            let mut buffer = ReadBuf::new(&mut first);
            ready!(Pin::new(&mut *self.io).poll_read(cx, &mut buffer))?;
            let count = buffer.filled().len();
            first.truncate(count);
            self.first = ReplayedBytes::new(first);
        }
        Poll::Ready(match self.first.left().first() {
            None => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(first) => Ok(*first == HANDSHAKE_RECORD),
        })
    }
}

impl AsyncRead for PeekedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let mut read = |cx: &mut Context<'_>| match this.first.read(buffer) {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut *this.io).poll_read(cx, buffer),
        };
        ready!(match &mut this.turns {
            Some(turns) => turns.poll_step(cx, read),
            None => read(cx),
        })?;
        this.records.feed(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

writes_to!(PeekedStream, io);

/// Position of a stream within the sequence of TLS records.
#[derive(Debug, Default)]
struct RecordTracker {
    header: [u8; 5],
    /// Bytes of the current header that have arrived.
    have: usize,
    /// Bytes of the current record that have yet to arrive.
    left: usize,
}

impl RecordTracker {
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

/// Most bytes that the session buffers for a client that has read little so far: one record.
const SMALL_BUFFER: usize = 16 * 1024;

/// Most bytes that it buffers once the client has taken [`READING_CLIENT`]: four records then leave in one write.
const LARGE_BUFFER: usize = 64 * 1024;

/// Bytes after which a client is known to read.
const READING_CLIENT: usize = 256 * 1024;

/// A client's connection over TLS. Its descriptor is that of the connection below. So a reset, and what the kernel is
/// asked, concern that connection, and its byte counts include the overhead of TLS records.
#[derive(Debug)]
pub struct ClientTlsStream {
    inner: tokio_rustls::server::TlsStream<PeekedStream>,
    /// Bytes that the client has taken, counted up to [`READING_CLIENT`].
    taken: usize,
}

impl ClientTlsStream {
    /// A connection whose handshake is complete.
    pub fn new(mut inner: tokio_rustls::server::TlsStream<PeekedStream>) -> Self {
        let (raw, session) = inner.get_mut();
        raw.turns = None;
        session.set_buffer_limit(Some(SMALL_BUFFER));
        Self { inner, taken: 0 }
    }

    /// The rustls session.
    pub fn session(&self) -> &ServerConnection {
        self.inner.get_ref().1
    }

    /// Counts bytes that the client has taken; a client that reads gets a larger buffer.
    fn count_taken(&mut self, count: usize) {
        if self.taken < READING_CLIENT {
            self.taken += count;
            if self.taken >= READING_CLIENT {
                self.inner.get_mut().1.set_buffer_limit(Some(LARGE_BUFFER));
            }
        }
    }

    /// Whether part of a TLS record was read and can't be decrypted yet. The kernel then has no unread bytes, and still
    /// there is data on its way.
    pub fn is_within_record(&self) -> bool {
        self.raw().records.is_within()
    }

    fn raw(&self) -> &PeekedStream {
        self.inner.get_ref().0
    }
}

impl AsyncRead for ClientTlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            // The connection below knows whether the client is still there (see `crate::net::stream`).
            return Pin::new(&mut *self.inner.get_mut().0.io).poll_read(cx, buffer);
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

writes_to!(ClientTlsStream, inner, count_taken);
stands_on!(ClientTlsStream, |this| this.raw().io);

#[cfg(test)]
mod tests {

    use std::future::poll_fn;
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, DuplexStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Bytes that fit between the two ends: almost none.
    const WIRE: usize = 1024;

    /// Both ends of a connection after its handshake.
    async fn pair() -> (
        ClientTlsStream,
        tokio_rustls::client::TlsStream<DuplexStream>,
    ) {
        let identity = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let certificate = identity.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(identity.signing_key.serialize_der().into());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = crate::tls::provider();
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (ours, theirs) = tokio::io::duplex(WIRE);
        let accepting =
            TlsAcceptor::from(Arc::new(server)).accept(PeekedStream::new(Box::new(ours)));
        let name = ServerName::try_from("a").unwrap();
        let connecting = TlsConnector::from(Arc::new(client)).connect(name, theirs);
        let (server, client) = tokio::join!(accepting, connecting);
        (ClientTlsStream::new(server.unwrap()), client.unwrap())
    }

    /// Writes until nothing more is taken, and returns how many bytes were.
    async fn fill(stream: &mut ClientTlsStream) -> usize {
        let bytes = vec![7; 2 * LARGE_BUFFER];
        let mut taken = 0;
        poll_fn(|cx| {
            while let Poll::Ready(count) = Pin::new(&mut *stream).poll_write(cx, &bytes) {
                taken += count.unwrap();
            }
            Poll::Ready(taken)
        })
        .await
    }

    #[tokio::test]
    async fn little_is_kept_for_a_client_that_reads_nothing_and_more_for_one_that_reads() {
        let (mut server, mut client) = pair().await;
        let overhead = WIRE + 512;
        let mut kept = fill(&mut server).await;
        assert!(kept <= SMALL_BUFFER + overhead, "{kept}");
        let mut read = 0;
        while read < READING_CLIENT {
            let mut bytes = vec![0; kept];
            let (flushed, taken) = tokio::join!(server.flush(), client.read_exact(&mut bytes));
            flushed.unwrap();
            taken.unwrap();
            read += kept;
            kept = fill(&mut server).await;
        }
        assert!(
            (2 * SMALL_BUFFER..=LARGE_BUFFER + overhead).contains(&kept),
            "{kept}"
        );
    }

    #[test]
    fn records_are_followed_however_they_are_cut() {
        let text = [&[23, 3, 3, 0, 4][..], b"abcd", &[23, 3, 3, 1, 0], &[7; 256]].concat();
        for piece in 1..text.len() {
            let mut records = RecordTracker::default();
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
