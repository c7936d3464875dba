//! Reads and writes an HTTP/2 stream as a byte stream, in the same way towards clients and backends.

use std::io;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

/// A stream that is translated between HTTP/1.1 and HTTP/2, part by part.
pub(super) trait TranslatedStream {
    /// Copies bytes that have arrived; returns whether there were any.
    fn hand_out(&mut self, out: &mut ReadBuf<'_>) -> bool;

    /// Fetches more. Ready: whether bytes may have arrived; false: the stream has ended.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>>;

    /// Takes as much as possible of `bytes`, which are not empty.
    fn poll_take(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
}

/// Reads as much as has arrived and as there is room for.
pub(super) fn poll_read_translated(
    stream: &mut impl TranslatedStream,
    cx: &mut Context<'_>,
    out: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let before = out.filled().len();
    while out.remaining() > 0 {
        if stream.hand_out(out) {
            continue;
        }
        match stream.poll_more(cx) {
            Poll::Ready(Ok(true)) => {}
            Poll::Ready(Ok(false)) => break,
            // The bytes that have arrived come first; the error will be returned again.
            _ if out.filled().len() > before => break,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(Ok(()))
}

/// Writes as much as is accepted at once.
pub(super) fn poll_write_translated(
    stream: &mut impl TranslatedStream,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    let mut taken = 0;
    while taken < bytes.len() {
        match stream.poll_take(cx, &bytes[taken..]) {
            Poll::Ready(Ok(count)) => taken += count,
            // The error will be returned again; the reader may get it too.
            _ if taken > 0 => break,
            other => return other,
        }
    }
    Poll::Ready(Ok(taken))
}
