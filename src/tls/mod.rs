//! TLS on public listeners, and towards backends: rustls with the *ring* provider.
//!
//! Read [`server_files`] first: it turns the files of a `[listener.tls]` into what handshakes need, or into a list of
//! what is wrong with them. [`pem`] reads the files, [`certificate`] checks a chain with its key, [`resolver`] chooses
//! a certificate by the name that a client asks for, and [`client_auth`] is about clients' certificates. [`server`] is
//! a listener's TLS at run time: a new handshake uses the newest files, an open connection keeps its own. [`challenge`]
//! answers authorities (ACME), and [`managed`] has the state of the certificates that lameduck orders. [`fingerprint`]
//! and [`watch`] notice changed files. [`stream`] is one connection, [`tickets`] lets clients resume sessions.
//! [`upstream`] is TLS towards backends.

pub mod certificate;
pub mod challenge;
pub mod client_auth;
pub mod fingerprint;
pub mod managed;
pub mod pem;
pub mod resolver;
pub mod server;
pub mod server_files;
pub mod stream;
pub mod tickets;
pub mod upstream;
pub mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// A problem with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}; {remedy}", file.display())]
pub struct TlsFileError {
    /// Path of the file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// What the user can do.
    pub remedy: String,
}

impl TlsFileError {
    pub(crate) fn new(
        file: impl Into<PathBuf>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            file: file.into(),
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

/// Cryptography provider of all TLS in lameduck: *ring*.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// SHA-256 of these bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap_or([0; 32])
}
