//! Counters of TLS handshakes by outcome.

use std::sync::atomic::{AtomicU64, Ordering};

/// Outcome of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeOutcome {
    /// Successful, as a full handshake.
    Full,
    /// Successful, as the resumption of a session.
    Resumed,
    /// It took longer than `header_timeout`.
    Timeout,
    /// The client closed the connection.
    Closed,
    /// The client sent something other than TLS, and was answered with 400.
    PlainHttp,
    /// The client sent an alert; usually it doesn't trust the certificate.
    RefusedByClient,
    /// The client sent no certificate, or a bad one.
    ClientCertificate,
    /// Client and server have no version, cipher or protocol in common.
    Unsupported,
    /// The client sent malformed messages.
    Malformed,
    /// It was cut at the deadline of the shutdown.
    Cut,
    /// It was the check of a certificate authority (ACME, RFC 8737).
    Challenge,
    /// There is no certificate to serve yet.
    NoCertificate,
}

/// All outcomes.
const HANDSHAKES: [HandshakeOutcome; 12] = [
    HandshakeOutcome::Full,
    HandshakeOutcome::Resumed,
    HandshakeOutcome::Timeout,
    HandshakeOutcome::Closed,
    HandshakeOutcome::PlainHttp,
    HandshakeOutcome::RefusedByClient,
    HandshakeOutcome::ClientCertificate,
    HandshakeOutcome::Unsupported,
    HandshakeOutcome::Malformed,
    HandshakeOutcome::Cut,
    HandshakeOutcome::Challenge,
    HandshakeOutcome::NoCertificate,
];

impl HandshakeOutcome {
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::PlainHttp => "plain_http",
            Self::RefusedByClient => "refused_by_client",
            Self::ClientCertificate => "client_certificate",
            Self::Unsupported => "unsupported",
            Self::Malformed => "malformed",
            Self::Cut => "cut",
            Self::Challenge => "acme_challenge",
            Self::NoCertificate => "no_certificate",
        }
    }
}

/// A counter for each outcome.
#[derive(Debug, Default)]
pub(crate) struct HandshakeCounters([AtomicU64; HANDSHAKES.len()]);

impl HandshakeCounters {
    pub(crate) fn add(&self, handshake: HandshakeOutcome) {
        // The array has an entry for each variant, and a test checks that the list has their order.
        if let Some(count) = self.0.get(handshake as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Outcomes with their counts, including zeros: only a series that exists from the start can be alerted on.
    pub(crate) fn read(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        HANDSHAKES
            .iter()
            .map(|handshake| handshake.name())
            .zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_count() {
        let handshakes = HandshakeCounters::default();
        for (place, handshake) in HANDSHAKES.into_iter().enumerate() {
            assert_eq!(handshake as usize, place);
            handshakes.add(handshake);
        }
        assert!(handshakes.read().all(|(_, count)| count == 1));
    }
}
