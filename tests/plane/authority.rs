//! Certificates of a test's making, and backends that speak TLS with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use lameduck_rig::wire::PATIENCE;

/// One version alone.
pub static TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Somebody who signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

/// A certificate with its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    pem: String,
}

/// What a backend's TLS is like.
pub struct Server {
    pub versions: &'static [&'static SupportedProtocolVersion],
    pub protocols: &'static [&'static str],
    /// Whose certificates clients must have.
    pub clients: Option<CertificateDer<'static>>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            versions: rustls::DEFAULT_VERSIONS,
            protocols: &["http/1.1"],
            clients: None,
        }
    }
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate().unwrap();
        // Two authorities have two names.
        let name = format!(
            "Authority {:x}",
            key.public_key_raw()[1..5]
                .iter()
                .fold(0u32, |n, byte| n << 8 | u32::from(*byte))
        );
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Its directory, for files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file with its certificate.
    pub fn ca(&self) -> PathBuf {
        let path = self.dir().join("ca.pem");
        std::fs::write(&path, self.issuer.pem()).unwrap();
        path
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A certificate for this name or address.
    pub fn identity(&self, name: impl ToString) -> Identity {
        self.sign(CertificateParams::new(vec![name.to_string()]).unwrap())
    }

    /// The same, long over.
    pub fn expired(&self, name: impl ToString) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            key,
        }
    }

    /// The keys of `[pool.tls]` that show this identity.
    pub fn shown(&self, name: &str, identity: &Identity) -> String {
        let (cert, key) = (
            self.dir().join(format!("{name}.pem")),
            self.dir().join(format!("{name}.key")),
        );
        std::fs::write(&cert, &identity.pem).unwrap();
        std::fs::write(&key, identity.key.serialize_pem()).unwrap();
        format!("cert = {cert:?}\nkey = {key:?}\n")
    }
}

impl Identity {
    /// A backend with this identity.
    pub fn serve(&self, server: &Server) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(server.versions)
            .unwrap();
        let builder = match &server.clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = builder
            .with_single_cert(vec![self.certificate.clone()], key)
            .unwrap();
        let protocols = server.protocols.iter();
        config.alpn_protocols = protocols.map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Shakes hands with the proxy.
pub async fn shake_hands(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> std::io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true).unwrap();
    tokio::time::timeout(PATIENCE, acceptor.accept(stream))
        .await
        .expect("the handshake never ends")
}
