//! A backend's connection over TLS, with the interface of any other stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use pingora::protocols::Stream;
use rustls::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::explain::{explain, is_of_our_certificate, tls_error};
use crate::net::stream::{stands_on, writes_to};

/// The stream below TLS, with a count of the bytes written to it.
#[derive(Debug)]
pub struct CountingStream {
    stream: Stream,
    written: u64,
}

impl CountingStream {
    /// Wraps `stream`; `written` is the number of bytes that were sent on it before.
    pub fn new(stream: Stream, written: u64) -> Self {
        Self { stream, written }
    }

    fn count(&mut self, count: usize) {
        self.written += count as u64;
    }
}

impl AsyncRead for CountingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

writes_to!(CountingStream, stream, count);

/// A backend's connection after the handshake.
#[derive(Debug)]
pub struct BackendTlsStream {
    inner: tokio_rustls::client::TlsStream<CountingStream>,
    /// Whether any application data has arrived.
    has_received_data: bool,
    /// Why the backend refused our handshake after we took it for complete, as a line for people.
    refused: Option<String>,
}

impl BackendTlsStream {
    /// A connection whose handshake is complete.
    pub fn new(inner: tokio_rustls::client::TlsStream<CountingStream>) -> Self {
        Self {
            inner,
            has_received_data: false,
            refused: None,
        }
    }

    /// Bytes written to the connection below, including the handshake.
    pub fn written(&self) -> u64 {
        self.inner.get_ref().0.written
    }

    /// Why the backend refused our handshake instead of answering, if it did. In TLS 1.3 a client that has sent its
    /// certificate may go on at once, and learns of the refusal later (RFC 8446, section 4.4.2.4). The backend reads
    /// nothing of what was sent meanwhile.
    pub fn refusal(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    fn below(&self) -> &Stream {
        &self.inner.get_ref().0.stream
    }
}

impl AsyncRead for BackendTlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, into);
        match &result {
            Poll::Ready(Ok(())) => self.has_received_data |= into.filled().len() > before,
            Poll::Ready(Err(error)) if !self.has_received_data => {
                if let Some(Error::AlertReceived(alert)) = tls_error(error)
                    && is_of_our_certificate(*alert)
                {
                    self.refused = Some(explain(error));
                }
            }
            _ => {}
        }
        result
    }
}

writes_to!(BackendTlsStream, inner);
stands_on!(BackendTlsStream, |this| this.below());

impl Drop for BackendTlsStream {
    /// Sends `close_notify` (RFC 8446, section 6.1) if that is possible without waiting.
    fn drop(&mut self) {
        let (below, session) = self.inner.get_mut();
        session.send_close_notify();
        let mut record = Vec::new();
        while session.wants_write() && session.write_tls(&mut record).is_ok_and(|count| count > 0) {
        }
        let mut context = Context::from_waker(Waker::noop());
        if Pin::new(&mut below.stream)
            .poll_write(&mut context, &record)
            .is_ready()
        {
            let _ = Pin::new(&mut below.stream).poll_flush(&mut context);
        }
    }
}
