//! A stream of HTTP/2 as any other stream of bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ServerStream, StreamDownload, StreamUpload};
use crate::net::stream::{has_no_socket, poll_write_pieces};

impl AsyncRead for ServerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            // Whether the client is still there (see `crate::net::stream`).
            return this.poll_gone(cx).map(Err);
        }
        let before = out.filled().len();
        while out.remaining() > 0 {
            if this.hand_out(out) {
                continue;
            }
            let fetched = match this.upload {
                StreamUpload::Ended => break,
                StreamUpload::Done => this.poll_gone(cx).map(Err),
                _ => this.poll_fetch(cx),
            };
            match fetched {
                Poll::Ready(Ok(())) => {}
                // What is here first; the error comes again.
                _ if out.filled().len() > before => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut taken = 0;
        while taken < bytes.len() {
            match this.poll_take(cx, &bytes[taken..]) {
                Poll::Ready(Ok(count)) => taken += count,
                _ if taken > 0 => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_pieces(self, cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The connection's own task writes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends a tunnel's direction. A response has an end of its own, and without it, it isn't whole.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        Poll::Ready(match this.download {
            StreamDownload::Tunnel => this.send(Bytes::new(), true),
            _ => Ok(()),
        })
    }
}

has_no_socket!(ServerStream);
