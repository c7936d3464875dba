//! Answers to certificate authorities that check who controls a name (ACME, RFC 8555): a text over HTTP, or a
//! certificate in a TLS handshake of its own kind (RFC 8737). `acme` sets the open challenges; listeners look them up
//! here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::ClientHello;

/// ALPN protocol that only a certificate authority offers (RFC 8737, section 3).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Path below which an authority asks for its token (RFC 8555, section 8.3).
pub const CHALLENGE_PATH: &[u8] = b"/.well-known/acme-challenge/";

/// The challenges that are open now.
#[derive(Debug, Default, Clone)]
pub struct OpenChallenges {
    /// Answer over HTTP, by token.
    pub http: HashMap<String, String>,
    /// Configuration for the authority's handshake, by name in lower case.
    pub tls: HashMap<String, Arc<ServerConfig>>,
}

/// Holder of the open challenges, shared by all listeners.
#[derive(Debug, Default)]
pub struct ChallengeAnswers {
    /// Whether the configuration orders any certificate.
    is_wanted: AtomicBool,
    open: ArcSwap<OpenChallenges>,
}

impl ChallengeAnswers {
    /// Whether there may be challenges at all. Listeners ask once for each connection, so that requests cost nothing
    /// where no certificates are ordered.
    pub fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// Records whether the configuration orders any certificate.
    pub fn set_wanted(&self, is_wanted: bool) {
        self.is_wanted.store(is_wanted, Ordering::Relaxed);
    }

    /// Replaces all open challenges by these.
    pub fn set(&self, open: OpenChallenges) {
        self.open.store(Arc::new(open));
    }

    /// All open challenges.
    pub fn open(&self) -> Arc<OpenChallenges> {
        self.open.load_full()
    }

    /// Whether the next handshake could be an authority's.
    pub fn has_tls(&self) -> bool {
        self.is_wanted() && !self.open.load().tls.is_empty()
    }

    /// Answer to a request for this path, if it asks for an open challenge. Other paths are left to the app, which may
    /// have an ACME client of its own.
    pub fn http(&self, path: &[u8]) -> Option<String> {
        let token = std::str::from_utf8(path.strip_prefix(CHALLENGE_PATH)?).ok()?;
        self.open.load().http.get(token).cloned()
    }

    /// Configuration for a handshake, if it is an authority's: those offer this one protocol and nothing else.
    pub fn tls(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut offered = hello.alpn()?;
        if offered.next() != Some(ACME_TLS) || offered.next().is_some() {
            return None;
        }
        let name = hello.server_name()?.trim_end_matches('.');
        self.open
            .load()
            .tls
            .get(&name.to_ascii_lowercase())
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_open_tokens_below_the_path_are_answered() {
        let answers = ChallengeAnswers::default();
        let http = HashMap::from([("tok-1".to_owned(), "tok-1.thumb".to_owned())]);
        answers.set(OpenChallenges {
            http,
            ..OpenChallenges::default()
        });
        let path = |path: &str| answers.http(path.as_bytes());
        let known = "/.well-known/acme-challenge/tok-1";
        assert_eq!(path(known), Some("tok-1.thumb".to_owned()));
        for other in [
            "/tok-1",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/tok-1/",
        ] {
            assert_eq!(path(other), None);
        }
        answers.set(OpenChallenges::default());
        assert_eq!(path(known), None);
    }
}
