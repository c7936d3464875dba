//! A connection with TLS, as the rest of the proxy takes it; and what stands below it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use rustls::ServerConnection;
use tokio::io::{AsyncRead, ReadBuf};

use crate::net::stream::{ReplayedBytes, stands_on, writes_to};
use crate::rt::coop::FairQueue;

/// The first read takes so much: a whole ClientHello, mostly.
const FIRST: usize = 2048;

/// The first byte of a handshake's record (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// What TLS stands on: a stream whose first bytes have been looked at.
#[derive(Debug)]
pub struct PeekedStream {
    io: Stream,
    /// Looked at, and not yet taken.
    first: ReplayedBytes,
    records: Records,
    /// While it shakes hands: what is read of it then costs a lot.
    turns: Option<Box<FairQueue>>,
}

impl PeekedStream {
    /// Nothing has been read of it.
    pub fn new(io: Stream) -> Self {
        Self {
            io,
            first: ReplayedBytes::default(),
            records: Records::default(),
            turns: Some(Box::default()),
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
            self.first = ReplayedBytes::new(first);
        }
        Poll::Ready(match self.first.left().first() {
            None => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(first) => Ok(*first == HANDSHAKE),
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

/// What the session keeps at first of what the client has yet to take, in bytes: a record.
const LITTLE: usize = 16 * 1024;

/// And what it keeps once the client has taken [`ENOUGH`]: four records go out in one piece then.
const MUCH: usize = 64 * 1024;

/// A client that has taken so much reads.
const ENOUGH: usize = 256 * 1024;

/// A client's connection with TLS. Its descriptor is the connection's own: what is asked of the kernel, and a reset,
/// are about the connection. What is counted there is TLS records, a little more than what they carry.
#[derive(Debug)]
pub struct ClientTlsStream {
    inner: tokio_rustls::server::TlsStream<PeekedStream>,
    /// What the client has taken, up to [`ENOUGH`].
    taken: usize,
}

impl ClientTlsStream {
    /// A connection after its handshake.
    pub fn new(mut inner: tokio_rustls::server::TlsStream<PeekedStream>) -> Self {
        let (raw, session) = inner.get_mut();
        raw.turns = None;
        session.set_buffer_limit(Some(LITTLE));
        Self { inner, taken: 0 }
    }

    /// The session.
    pub fn session(&self) -> &ServerConnection {
        self.inner.get_ref().1
    }

    /// More was taken: a client that reads gets more at a time.
    fn took(&mut self, count: usize) {
        if self.taken < ENOUGH {
            self.taken += count;
            if self.taken >= ENOUGH {
                self.inner.get_mut().1.set_buffer_limit(Some(MUCH));
            }
        }
    }

    /// Whether part of a record has been read and not been decrypted yet: the kernel has nothing more, and yet
    /// something is on its way.
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
            // Whether the client is still there, the connection below knows (see `crate::net::stream`).
            return Pin::new(&mut *self.inner.get_mut().0.io).poll_read(cx, buffer);
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

writes_to!(ClientTlsStream, inner, took);
stands_on!(ClientTlsStream, |this| this.raw().io);

#[cfg(test)]
mod tests {

    use std::future::poll_fn;
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, DuplexStream};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// What lies between the two: as good as nothing.
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

    /// Writes until no more is taken; how much that was.
    async fn fill(stream: &mut ClientTlsStream) -> usize {
        let bytes = vec![7; 2 * MUCH];
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
        assert!(kept <= LITTLE + overhead, "{kept}");
        let mut read = 0;
        while read < ENOUGH {
            let mut bytes = vec![0; kept];
            let (flushed, taken) = tokio::join!(server.flush(), client.read_exact(&mut bytes));
            flushed.unwrap();
            taken.unwrap();
            read += kept;
            kept = fill(&mut server).await;
        }
        assert!((2 * LITTLE..=MUCH + overhead).contains(&kept), "{kept}");
    }

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
