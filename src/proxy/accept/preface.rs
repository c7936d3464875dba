//! Cleartext HTTP/2 by prior knowledge (RFC 9113 §3.3): the client begins with a preface that is no HTTP/1 request.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::Poll;

use pingora::protocols::Stream;
use tokio::io::ReadBuf;

use crate::config;
use crate::metrics::Limit;
use crate::net::rewound::rewound;
use crate::proxy::client::timer::Timer;
use crate::proxy::connection::serve::FIRST_REQUEST;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::h2::meter::PREFACE;
use crate::rt::clock;
use crate::rt::shutdown_signal::{Interrupt, Level};

/// Read at once: what nearly every first request fits in.
const PIECE: usize = 1024;

/// Whether a client speaks HTTP/2 (true) or HTTP/1: known with the first byte that differs from the preface. The stream
/// still begins with what was read. `None`: there is nobody to be served.
pub async fn choose(
    plane: &DataPlane,
    stream: Stream,
    interrupt: &Interrupt,
    limits: &config::ServerConfig,
) -> Option<(Stream, bool)> {
    let mut stream = stream;
    let (since, mut timer) = (clock::now(), Timer::default());
    let mut seen = Vec::new();
    let http2 = poll_fn(|cx| {
        loop {
            let mut piece = [MaybeUninit::uninit(); PIECE];
            let mut piece = ReadBuf::uninit(&mut piece);
            match Pin::new(&mut *stream).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => break,
            }
            seen.extend_from_slice(piece.filled());
            if let Some(http2) = is_http2(&seen) {
                return Poll::Ready(Some(http2));
            }
        }
        interrupt.register(cx.waker());
        let level = interrupt.level();
        let (patience, limit) = match level {
            Level::Cut => return Poll::Ready(None),
            // In a shutdown, a connection that has brought nothing yet is waited for as long as any other.
            _ if level >= Level::Finish && seen.is_empty() => (FIRST_REQUEST, None),
            _ if seen.is_empty() => (limits.idle_timeout, Some(Limit::IdleTimeout)),
            _ => (limits.header_timeout, Some(Limit::HeaderTimeout)),
        };
        timer.poll(cx, since + patience).map(|()| {
            if let Some(limit) = limit {
                plane.counters.limited(limit);
            }
            None
        })
    })
    .await?;
    Some((rewound(stream, &seen), http2))
}

/// `None`: it can't be known yet.
fn is_http2(seen: &[u8]) -> Option<bool> {
    let count = seen.len().min(PREFACE.len());
    if seen[..count] != PREFACE[..count] {
        Some(false)
    } else if count == PREFACE.len() {
        Some(true)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_is_enough_to_know_a_request() {
        assert_eq!(is_http2(b"G"), Some(false));
        // PROPFIND, PRI of somebody else.
        assert_eq!(is_http2(b"PRO"), Some(false));
        assert_eq!(is_http2(b"PRI * HTTP/1"), Some(false));
        assert_eq!(is_http2(b"PRI * HTTP/2.0\r\n\r\nSM"), None);
        assert_eq!(is_http2(&[&PREFACE[..], b"frames"].concat()), Some(true));
    }
}
