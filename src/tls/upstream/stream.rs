//! A backend's connection over TLS, as the data plane sees it: a stream like any other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use pingora::protocols::Stream;
use rustls::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::explain::{cause, explain, is_of_our_certificate};
use crate::net::stream::{stands_on, writes_to};

/// The stream below TLS, with a count of what was written to it.
#[derive(Debug)]
pub struct CountingStream {
    stream: Stream,
    written: u64,
}

impl CountingStream {
    /// `written`: bytes that were sent before.
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
    /// A byte of the application has come.
    heard: bool,
    /// The backend has ended the handshake after we took it for complete; why, for people.
    refused: Option<String>,
}

impl BackendTlsStream {
    /// After the handshake.
    pub fn new(inner: tokio_rustls::client::TlsStream<CountingStream>) -> Self {
        Self {
            inner,
            heard: false,
            refused: None,
        }
    }

    /// Bytes written to the connection below, the handshake's included.
    pub fn written(&self) -> u64 {
        self.inner.get_ref().0.written
    }

    /// Why the backend has refused us instead of answering, if it has. In TLS 1.3 a client that has sent its
    /// certificate may go on at once, and learns of the refusal later (RFC 8446 §4.4.2.4); what it has sent meanwhile
    /// is not read.
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
            Poll::Ready(Ok(())) => self.heard |= into.filled().len() > before,
            Poll::Ready(Err(error)) if !self.heard => {
                if let Some(Error::AlertReceived(alert)) = cause(error)
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
    /// Says goodbye (close_notify, RFC 8446 §6.1) where that needs no waiting.
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
