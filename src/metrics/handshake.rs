//! TLS handshakes by how they ended: one counter each.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeOutcome {
    /// Well, from the start.
    Full,
    /// Well, going on from an earlier session.
    Resumed,
    /// It took longer than `header_timeout`.
    Timeout,
    /// The client went away.
    Closed,
    /// What came was not TLS: answered with 400.
    PlainHttp,
    /// The client sent an alert: mostly, it doesn't trust the certificate.
    RefusedByClient,
    /// The client showed no certificate, or a bad one.
    ClientCertificate,
    /// No version, cipher or protocol in common.
    Unsupported,
    /// What came was broken.
    Malformed,
    /// The deadline of the shutdown.
    Cut,
    /// A certificate authority's, to see whose the name is.
    Challenge,
    /// There is no certificate yet.
    NoCertificate,
}

/// All of them.
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

/// A count for each.
#[derive(Debug, Default)]
pub(crate) struct HandshakeCounters([AtomicU64; HANDSHAKES.len()]);

impl HandshakeCounters {
    pub(crate) fn add(&self, handshake: HandshakeOutcome) {
        // The array is as long as the list of variants, and a test keeps the list in their order.
        if let Some(count) = self.0.get(handshake as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each with its count, zeros too: a series that exists from the start is one that can be alerted on.
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
