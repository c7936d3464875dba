//! TLS on public listeners, and towards backends: rustls with the *ring* provider.
//!
//! Read [`server_files`] first: it turns the files of a `[listener.tls]` into what handshakes need, or into a list of what
//! is wrong with them. [`pem`] reads the files, [`certificate`] judges a chain with its key, [`resolver`] chooses by
//! the name that a client asks for, [`client_auth`] is about clients' certificates and what the app learns of them.
//! [`server`] is a listener's TLS at run time: handshakes take what is newest, connections keep what they began with.
//! [`challenge`] answers authorities that sign for us, [`managed`] says how those certificates are.
//! [`fingerprint`] and [`watch`] notice changed files. [`stream`] is a connection, [`tickets`] lets
//! clients resume one. [`upstream`] is TLS towards backends.

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

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}; {remedy}", file.display())]
pub struct TlsFileError {
    /// Which one.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// What to do.
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

/// The cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// SHA-256.
pub fn digest_file(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap_or([0; 32])
}
