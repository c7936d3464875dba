//! How a stream of HTTP/2 is read and written as a stream of bytes: the same way towards clients and backends.

use std::io;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

/// A stream that is translated between HTTP/1.1 and HTTP/2, piece by piece.
pub(super) trait TranslatedStream {
    /// Hands out what is here; says whether that was anything.
    fn hand_out(&mut self, out: &mut ReadBuf<'_>) -> bool;

    /// Fetches more. Ready: whether something may be here now; false: the stream has ended.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>>;

    /// Takes what it can of `bytes`, which are not empty.
    fn poll_take(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
}

/// Reads as much as is here and as there is room for.
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
            // What is here first; the error comes again.
            _ if out.filled().len() > before => break,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(Ok(()))
}

/// Writes as much as is taken at once.
pub(super) fn poll_write_translated(
    stream: &mut impl TranslatedStream,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    let mut taken = 0;
    while taken < bytes.len() {
        match stream.poll_take(cx, &bytes[taken..]) {
            Poll::Ready(Ok(count)) => taken += count,
            // The error comes again; the reader may learn it, too.
            _ if taken > 0 => break,
            other => return other,
        }
    }
    Poll::Ready(Ok(taken))
}
