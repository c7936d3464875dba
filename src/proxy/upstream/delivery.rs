//! Proof of non-delivery: decides which requests may be sent again, whatever the method, because they certainly never
//! arrived.

use std::time::Duration;

use super::handshake;
use crate::core::retry;
use crate::net::socket;
use crate::proxy::h2::client_stream::ClientStream;
use crate::registry::endpoint::IdleConnection;
use crate::rt::clock;

/// Number of pauses between the checks for the reset that proves non-delivery: 1 + 2 + 4 + 8 + 16 ms, together more
/// than a round trip within a site.
const RESET_LOOKS: u32 = 5;

/// Returns why the last request (`written` bytes) on a failed connection certainly never reached the backend, if that
/// is so. `reset`: a connection that the backend had not closed was reset.
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

/// Returns whether the last request (`written` bytes) on a connection that the backend has closed certainly never
/// reached it.
///
/// RFC 9110 §9.2.2 lets a proxy repeat any request of which it knows that. All of the following must hold: the
/// backend closed first (the caller has read the end of the stream), its kernel has acknowledged nothing of the
/// request, and it has answered the request with a reset, as it only does for a socket that nobody reads from. A peer
/// that has only half-closed still reads, and sends no reset. A peer that reads a part and then closes does send one,
/// so the request must have gone out in one segment: then a part can't have arrived.
///
/// Over TLS, the bytes of the TLS records count, and a backend that has refused the handshake has read none of them.
async fn is_undelivered(connection: &IdleConnection, written: u64) -> bool {
    let written = match handshake::tls_of(connection) {
        Some(tls) if tls.refusal().is_some() => return true,
        Some(tls) => tls.written().saturating_sub(connection.sent),
        None => written,
    };
    // A first request proves nothing, unless the connection is known to have left the accept queue: a listening
    // socket that is closed with a full queue has acknowledged bytes that nobody reads.
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
