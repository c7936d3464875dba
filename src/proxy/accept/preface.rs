//! Cleartext HTTP/2 by prior knowledge (RFC 9113 §3.3): the client begins with a preface that is no HTTP/1 request.

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

/// Whether a client speaks HTTP/2 (true) or HTTP/1: known with the first byte that differs from the preface. The
/// stream still begins with what was read. `None`: the client has gone, or is not to be served.
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
        // In a shutdown, a connection without a byte yet gets as long as any other.
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
