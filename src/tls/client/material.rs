//! What the files of `[pool.tls]` hold.

use std::io::Read;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::UpstreamTls;

/// A larger file is no list of certificates.
const MOST: u64 = 8 << 20;

/// Why the settings can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key of `[pool.tls]` that it is about; empty: the section.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    fn new(key: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            key,
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

/// The bytes of the files; of the system's certificates, the certificates.
#[derive(PartialEq)]
pub(super) struct Material {
    ca: Vec<u8>,
    system: Vec<CertificateDer<'static>>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Material {
    pub(super) fn read(settings: &UpstreamTls) -> Result<Self, Problem> {
        let bytes = |key, path: &Option<PathBuf>| match path {
            Some(path) => read(key, path),
            None => Ok(Vec::new()),
        };
        let system = match (&settings.ca, settings.verify) {
            (None, true) => rustls_native_certs::load_native_certs().unwrap_or_default(),
            _ => Vec::new(),
        };
        Ok(Self {
            ca: bytes("ca", &settings.ca)?,
            system,
            cert: bytes("cert", &settings.cert)?,
            key: bytes("key", &settings.key)?,
        })
    }

    /// The authorities that a backend's certificate may come from.
    pub(super) fn roots(&self, settings: &UpstreamTls) -> Result<RootCertStore, Problem> {
        let mut store = RootCertStore::empty();
        let Some(path) = &settings.ca else {
            // Some systems carry a few that no library takes.
            store.add_parsable_certificates(self.system.iter().cloned());
            if store.is_empty() {
                return Err(Problem::new(
                    "",
                    "[pool.tls] has no `ca`, and this system has no certificates of authorities",
                    "name the file of the authority that signs the backends' certificates with `ca`, or install the package ca-certificates",
                ));
            }
            return Ok(store);
        };
        for (index, certificate) in certificates("ca", path, &self.ca)?.into_iter().enumerate() {
            store.add(certificate).map_err(|error| {
                Problem::new(
                    "ca",
                    format!(
                        "certificate {} of {} can't be used: {error}",
                        index + 1,
                        path.display()
                    ),
                    "take it out, or put the authority's certificate in its place",
                )
            })?;
        }
        Ok(store)
    }

    /// Our own certificate and its key, where the backends want one.
    pub(super) fn identity(&self, settings: &UpstreamTls) -> Result<Option<Identity>, Problem> {
        let (Some(cert), Some(key)) = (&settings.cert, &settings.key) else {
            return match (&settings.cert, &settings.key) {
                (Some(_), None) => Err(Problem::new(
                    "cert",
                    "`cert` has no `key` beside it",
                    "add `key = \"FILE\"` with its private key",
                )),
                (None, Some(_)) => Err(Problem::new(
                    "key",
                    "`key` has no `cert` beside it",
                    "add `cert = \"FILE\"` with its certificate",
                )),
                _ => Ok(None),
            };
        };
        let chain = certificates("cert", cert, &self.cert)?;
        let private = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| {
            let (why, remedy) = match error {
                pem::Error::NoItemsFound if find(&self.key, b"ENCRYPTED PRIVATE KEY") => (
                    "its private key is encrypted".to_owned(),
                    format!(
                        "decrypt it: `openssl pkey -in {} -out plain.pem`",
                        key.display()
                    ),
                ),
                pem::Error::NoItemsFound => (
                    "there is no private key in it".to_owned(),
                    "name the file that begins with -----BEGIN PRIVATE KEY-----".to_owned(),
                ),
                other => (
                    format!("it is broken: {other}"),
                    "name a private key in PEM form".to_owned(),
                ),
            };
            Problem::new("key", format!("{}: {why}", key.display()), remedy)
        })?;
        Ok(Some((chain, private)))
    }
}

/// The certificate and the key don't make an identity.
pub(super) fn unusable_identity(settings: &UpstreamTls, error: &rustls::Error) -> Problem {
    let shown = |path: &Option<PathBuf>| {
        let path = path.as_deref().unwrap_or(Path::new(""));
        path.display().to_string()
    };
    let (cert, key) = (shown(&settings.cert), shown(&settings.key));
    match error {
        rustls::Error::InconsistentKeys(_) => Problem::new(
            "key",
            format!("the private key in {key} is not that of the certificate in {cert}"),
            format!(
                "name the key that belongs to it; `openssl x509 -noout -pubkey -in {cert}` and `openssl pkey -pubout -in {key}` must say the same"
            ),
        ),
        other => Problem::new(
            "cert",
            format!("{cert} and {key} can't be used: {other}"),
            "name a certificate with its chain, and its key (RSA, ECDSA P-256 or P-384, or Ed25519)",
        ),
    }
}

fn certificates(
    key: &'static str,
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let remedy = "name a PEM file: its certificates begin with -----BEGIN CERTIFICATE-----";
    match found {
        Ok(certificates) if certificates.is_empty() => Err(Problem::new(
            key,
            format!("{}: there is no certificate in it", path.display()),
            remedy,
        )),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(Problem::new(
            key,
            format!("{}: it is broken: {error}", path.display()),
            remedy,
        )),
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let outcome =
        std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    match outcome {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let remedy = match error.kind() {
                std::io::ErrorKind::NotFound => "name the right file".to_owned(),
                std::io::ErrorKind::PermissionDenied => {
                    format!(
                        "let lameduck's user read it: `ls -l {}` shows who may",
                        path.display()
                    )
                }
                _ => "name a PEM file".to_owned(),
            };
            let why = crate::config::plain(&error);
            Err(Problem::new(
                key,
                format!("can't read {}: {why}", path.display()),
                remedy,
            ))
        }
    }
}

fn find(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}
