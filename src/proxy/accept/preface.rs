//! Cleartext HTTP/2 with prior knowledge (RFC 9113 §3.3): the client begins with a preface that is not a valid HTTP/1
//! request.

use pingora::protocols::Stream;

use crate::config;
use crate::metrics::ServerLimit;
use crate::net::rewound::rewound;
use crate::proxy::client::bounded_wait::BoundedWait;
use crate::proxy::connection::serve::FIRST_REQUEST;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::h2::meter::PREFACE;
use crate::rt::clock;
use crate::rt::shutdown_signal::{ConnectionInterrupt, ShutdownLevel};

/// Returns whether a client uses HTTP/2 (true) or HTTP/1, which is known with the first byte that differs from the
/// preface. The stream still begins with the bytes read. `None`: the client has disconnected, or is not served.
pub async fn choose(
    plane: &DataPlane,
    stream: Stream,
    interrupt: &ConnectionInterrupt,
    limits: &config::ServerConfig,
) -> Option<(Stream, bool)> {
    let mut stream = stream;
    let since = clock::now();
    let mut seen = Vec::new();
    let limit = |level: ShutdownLevel, seen: &[u8]| match seen.is_empty() {
        // During a shutdown, a connection without any byte yet gets as long as other new connections.
        true if level >= ShutdownLevel::Finish => (since + FIRST_REQUEST, None),
        true => (since + limits.idle_timeout, Some(ServerLimit::IdleTimeout)),
        false => (
            since + limits.header_timeout,
            Some(ServerLimit::HeaderTimeout),
        ),
    };
    let mut wait = BoundedWait::new(interrupt);
    let known = wait.read_until(&mut stream, &mut seen, is_http2, || None, limit);
    let http2 = match known.await {
        Ok(http2) => http2,
        Err(passed) => {
            if let Some(limit) = passed {
                plane.counters.limited(limit);
            }
            return None;
        }
    };
    Some((rewound(stream, &seen), http2))
}

/// Returns whether this is the HTTP/2 preface; `None`: more bytes are needed.
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
    fn first_differing_byte_identifies_http1() {
        assert_eq!(is_http2(b"G"), Some(false));
        // PROPFIND, or another method that begins with PRI.
        assert_eq!(is_http2(b"PRO"), Some(false));
        assert_eq!(is_http2(b"PRI * HTTP/1"), Some(false));
        assert_eq!(is_http2(b"PRI * HTTP/2.0\r\n\r\nSM"), None);
        assert_eq!(is_http2(&[&PREFACE[..], b"frames"].concat()), Some(true));
    }
}
