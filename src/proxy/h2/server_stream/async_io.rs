//! Reading and writing an HTTP/2 stream like any other byte stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ServerStream, StreamDownload, StreamUpload};
use crate::net::stream::{has_no_socket, poll_write_pieces};
use crate::proxy::h2::translated::{TranslatedStream, poll_read_translated, poll_write_translated};

impl TranslatedStream for ServerStream {
    fn hand_out(&mut self, out: &mut ReadBuf<'_>) -> bool {
        self.hand_out_here(out)
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match self.upload {
            StreamUpload::Ended => Poll::Ready(Ok(false)),
            StreamUpload::Done => self.poll_gone(cx).map(Err),
            _ => self.poll_fetch(cx).map_ok(|()| true),
        }
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_take_response(cx, bytes)
    }
}

impl AsyncRead for ServerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            // An empty read checks whether the client is still connected (see `crate::net::stream`).
            return this.poll_gone(cx).map(Err);
        }
        poll_read_translated(this, cx, out)
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        poll_write_translated(self.get_mut(), cx, bytes)
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

    /// Does nothing: the connection's own task writes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends a tunnel's direction. The end of a response is part of its framing, and without it the response is
    /// incomplete.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        Poll::Ready(match this.download {
            StreamDownload::Tunnel => this.send(Bytes::new(), true),
            _ => Ok(()),
        })
    }
}

has_no_socket!(ServerStream);
