//! Proof of non-delivery: which request may be sent again, whatever its method, because it surely never arrived.

use std::time::Duration;

use super::handshake;
use crate::core::retry;
use crate::net::socket;
use crate::proxy::h2::client_stream::ClientStream;
use crate::registry::endpoint::IdleConnection;
use crate::rt::clock;

/// How long the reset that proves it is waited for: 1 + 2 + 4 + 8 + 16 ms, more than a round trip within a site.
const RESET_LOOKS: u32 = 5;

/// Why the last request (`written` bytes) on a connection that has failed surely never reached the backend, if that is
/// so. `reset`: a connection that the backend had not closed was reset.
pub async fn undelivered(
    connection: &IdleConnection,
    written: u64,
    reset: bool,
) -> Option<retry::AttemptFailure> {
    if let Some(stream) = ClientStream::of(connection) {
        return stream.unseen();
    }
    (!reset && is_undelivered(connection, written).await)
        .then_some(retry::AttemptFailure::StaleProven)
}

/// Whether the last request (`written` bytes) on a connection that the backend has closed surely never reached it.
///
/// RFC 9110 §9.2.2 lets a proxy repeat any request of which it knows that. What has to come together: the backend
/// closed first (the caller has read the end of the stream), its kernel has acknowledged nothing of the request,
/// and has answered it with a reset, which only a socket that nobody reads from does. A peer that has only
/// half-closed still reads, and sends no reset. One that reads a part and then closes does, so the request must
/// have gone out in one segment: then a part can't have arrived.
///
/// Over TLS the bytes are those of its records, and a backend that has refused the handshake has read none of them.
async fn is_undelivered(connection: &IdleConnection, written: u64) -> bool {
    let written = match handshake::tls_of(connection) {
        Some(tls) if tls.refusal().is_some() => return true,
        Some(tls) => tls.written().saturating_sub(connection.sent),
        None => written,
    };
    // A first request is different, unless it was known that the connection had left its listener's queue: a listener
    // that dies with a full one has acknowledged what nobody reads.
    if connection.requests <= 1 && !connection.accepted {
        return false;
    }
    for look in 0..=RESET_LOOKS {
        let Some(fate) = socket::read_tcp_info(&connection.stream) else {
            return false;
        };
        if fate.acknowledged > connection.sent || written > fate.segment {
            return false;
        }
        if fate.is_reset {
            return true;
        }
        if look < RESET_LOOKS {
            clock::sleep(Duration::from_millis(1 << look)).await;
        }
    }
    false
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
