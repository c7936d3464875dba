//! TLS for the admin APIs of remote proxies: trusted authorities, and the client's certificate.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use super::error::ClientError;
use crate::config::{Address, UpstreamTls};
use crate::tls::upstream::{Alpn, BackendTls, explain, is_of_tls};

/// TLS settings, ready for handshakes.
#[derive(Debug, Clone)]
pub struct AdminTls(Arc<BackendTls>);

impl AdminTls {
    /// Reads the files of `--admin-ca`, `--admin-cert` and `--admin-key`. Without `--admin-ca`, the authorities of the
    /// system are trusted.
    ///
    /// # Errors
    /// What can't be used, and what to do.
    pub fn load(
        ca: Option<&Path>,
        cert: Option<&Path>,
        key: Option<&Path>,
    ) -> Result<Self, ClientError> {
        let settings = UpstreamTls {
            ca: ca.map(Path::to_owned),
            cert: cert.map(Path::to_owned),
            key: key.map(Path::to_owned),
            ..UpstreamTls::unwritten_settings()
        };
        let loaded = BackendTls::load(&settings).map_err(|error| match error.key {
            "" => ClientError::failed(
                "there is no --admin-ca, and this system has no certificates of authorities; name the file of the \
                 authority that signs the proxies' certificates",
            ),
            key => ClientError::failed(format!(
                "--admin-{key}: {}; {}",
                error.message,
                error.remedy.replace("add `", "add `--admin-").replace(" = \"FILE\"`", " FILE`")
            )),
        })?;
        Ok(Self(Arc::new(loaded)))
    }

    /// Does the handshake.
    ///
    /// # Errors
    /// The server's certificate can't be trusted, or the handshake fails.
    pub(super) async fn connect<S>(&self, authority: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let address = address(authority)?;
        let shaken = self.0.connect(&address, Alpn::Http1, stream).await;
        shaken.map_err(in_words)
    }

    /// A TLS session for code that reads and writes without a runtime.
    ///
    /// # Errors
    /// The address has no name to verify the certificate with.
    pub(super) fn session(&self, authority: &str) -> io::Result<ClientConnection> {
        self.0.session(&address(authority)?)
    }
}

fn address(authority: &str) -> io::Result<Address> {
    authority
        .parse()
        .map_err(|_| io::Error::other(format!("`{authority}` is no host with a port")))
}

/// Explains a failed handshake to users.
pub(super) fn in_words(error: io::Error) -> io::Error {
    match is_of_tls(&error) {
        true => io::Error::new(error.kind(), explain(&error)),
        false => error,
    }
}
