//! TLS towards backends: what `[pool.tls]` says, read from its files and ready for handshakes.
//!
//! One [`BackendTls`] serves a pool until a reload replaces it. It is made when the configuration is read, so that the
//! files that were checked are the ones that are used, and a bad file never replaces a good one.

mod explain;
mod files;
mod stream;
mod verify;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

pub use explain::{explain, is_of_tls};
pub use stream::{BackendTlsStream, CountingStream};

use super::certificate::Certificate;
use crate::config::{Address, UpstreamTls};
pub use files::UpstreamFileError;
use files::UpstreamFiles;

/// Most server names whose TLS sessions are remembered; a backend has one name.
const SESSIONS: usize = 8;

/// Protocol that is offered in the handshake (ALPN, RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// `http/1.1`.
    Http1,
    /// `h2`.
    H2,
}

impl Alpn {
    /// Its name in the handshake.
    pub fn wire(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::H2 => b"h2",
        }
    }
}

/// TLS settings of a pool, ready for handshakes with its backends.
pub struct BackendTls {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
    verify: bool,
    files: Arc<UpstreamFiles>,
}

impl BackendTls {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// A file can't be read or used, or there is no authority to verify with.
    pub fn load(settings: &UpstreamTls) -> Result<Self, UpstreamFileError> {
        let name = settings.server_name.as_deref().map(parse_name).transpose();
        let name = name.map_err(|()| UpstreamFileError {
            key: "server_name",
            message: "it is neither a host name nor an IP address".to_owned(),
            remedy: "write a name such as \"app.internal\"".to_owned(),
        })?;
        let files = UpstreamFiles::read(settings)?;
        let config = config(settings, &files)?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name,
            verify: settings.verify,
            files: Arc::new(files),
        })
    }

    /// A copy for one backend of the pool, with a session cache of its own: a session of one backend could not be
    /// resumed with another that has the same name.
    pub fn for_one(&self) -> Self {
        let mut config = ClientConfig::clone(self.connector.config());
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Self {
            connector: TlsConnector::from(Arc::new(config)),
            name: self.name.clone(),
            verify: self.verify,
            files: self.files.clone(),
        }
    }

    /// Client certificate that lameduck shows to backends, if there is one.
    pub fn identity(&self) -> Option<&Certificate> {
        self.files.identity.as_ref()
    }

    /// Name that the backend's certificate must have: `server_name`, or else the backend's host name or IP address.
    ///
    /// # Errors
    /// The address has no name. Verification is never switched off because of that.
    fn name_of(&self, address: &Address) -> io::Result<ServerName<'static>> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let name = match address {
            Address::Socket(address) => return Ok(ServerName::from(address.ip())),
            Address::Name(host, _) => parse_name(host),
            // The name is not verified in this case, but the handshake needs one.
            Address::Unix(_) if !self.verify => parse_name("localhost"),
            Address::Unix(_) => Err(()),
        };
        name.map_err(|()| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{address}` has no name to verify its certificate by: write `server_name` in [pool.tls]"),
            )
        })
    }

    /// A TLS session with the backend, for callers that read and write by themselves.
    ///
    /// # Errors
    /// The address has no name to verify a certificate with.
    pub fn session(&self, address: &Address) -> io::Result<ClientConnection> {
        let (config, name) = (self.connector.config().clone(), self.name_of(address)?);
        ClientConnection::new(config, name).map_err(io::Error::other)
    }

    /// Does the handshake with the backend at the other end of `stream`.
    ///
    /// # Errors
    /// The handshake failed, or its peer can't be trusted; [`explain`] says why. Nothing but the handshake was sent.
    pub async fn connect<S>(
        &self,
        address: &Address,
        alpn: Alpn,
        stream: S,
    ) -> io::Result<tokio_rustls::client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.name_of(address)?;
        let connector = self.connector.with_alpn(vec![alpn.wire().to_vec()]);
        let established = connector.connect(name, stream).await?;
        // A backend without ALPN speaks HTTP/1.1, but HTTP/2 needs an agreement (RFC 9113, section 3.2).
        if alpn == Alpn::H2 && established.get_ref().1.alpn_protocol() != Some(alpn.wire()) {
            let error = rustls::Error::NoApplicationProtocol;
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(established)
    }
}

fn parse_name(name: &str) -> Result<ServerName<'static>, ()> {
    // An address with a port is written as `[::1]:443`, so brackets may be left.
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let bare = bare.unwrap_or(name);
    match bare.parse::<IpAddr>() {
        Ok(address) => Ok(ServerName::from(address)),
        Err(_) => ServerName::try_from(bare.to_owned()).map_err(|_| ()),
    }
}

fn config(
    settings: &UpstreamTls,
    files: &UpstreamFiles,
) -> Result<ClientConfig, UpstreamFileError> {
    let provider = super::provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| UpstreamFileError {
            key: "",
            message: error.to_string(),
            remedy: "this is a fault of lameduck: please report it".to_owned(),
        })?;
    let builder = match settings.verify {
        true => builder.with_root_certificates(files.roots(settings)?),
        false => builder
            .dangerous()
            .with_custom_certificate_verifier(unverified(provider)),
    };
    Ok(match &files.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let identity = SingleCertAndKey::from(identity.key.clone());
            builder.with_client_cert_resolver(Arc::new(identity))
        }
    })
}

fn unverified(provider: Arc<CryptoProvider>) -> Arc<verify::Unverified> {
    Arc::new(verify::Unverified(provider))
}

/// Two are the same if their settings and the bytes of all files are: a reload then changes nothing.
impl PartialEq for BackendTls {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.verify == other.verify && self.files == other.files
    }
}

impl fmt::Debug for BackendTls {
    /// Leaves out the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.name)
            .field("verify", &self.verify)
            .finish_non_exhaustive()
    }
}
