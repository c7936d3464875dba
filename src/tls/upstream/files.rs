//! Content of the files that `[pool.tls]` names.

use std::path::Path;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use crate::config::{CertificateFiles, UpstreamTls};
use crate::tls::certificate::Certificate;
use crate::tls::{TlsFileError, pem};

/// Why the settings can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamFileError {
    /// Key of `[pool.tls]` that it concerns; empty: the whole section.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// What the user can do.
    pub remedy: String,
}

impl UpstreamFileError {
    /// Error for a key whose file has a problem.
    fn of(key: &'static str, problem: TlsFileError) -> Self {
        Self {
            key,
            message: format!("{}: {}", problem.file.display(), problem.why),
            remedy: problem.remedy,
        }
    }
}

/// Trusted authorities, and the proxy's own certificate.
pub(super) struct UpstreamFiles {
    authorities: Vec<CertificateDer<'static>>,
    pub(super) identity: Option<Certificate>,
}

impl UpstreamFiles {
    pub(super) fn read(settings: &UpstreamTls) -> Result<Self, UpstreamFileError> {
        let authorities = match (&settings.ca, settings.verify) {
            (Some(path), _) => {
                authorities(path).map_err(|problem| UpstreamFileError::of("ca", problem))?
            }
            // A system's authority that can't be read is left out, as if it were not installed.
            (None, true) => rustls_native_certs::load_native_certs().certs,
            (None, false) => Vec::new(),
        };
        let identity = match (&settings.cert, &settings.key) {
            (Some(cert), Some(key)) => {
                let (cert, key) = (cert.clone(), key.clone());
                let files = CertificateFiles { cert, key };
                let loaded = Certificate::load(&files, SystemTime::now());
                let key_of = |problem: &TlsFileError| match problem.file == files.key {
                    true => "key",
                    false => "cert",
                };
                Some(loaded.map_err(|problem| UpstreamFileError::of(key_of(&problem), problem))?)
            }
            (None, None) => None,
            (cert, _) => {
                let (key, other) = match cert {
                    Some(_) => ("cert", "key"),
                    None => ("key", "cert"),
                };
                return Err(UpstreamFileError {
                    key,
                    message: format!("it has no `{other}` beside it"),
                    remedy: format!("add `{other} = \"FILE\"`"),
                });
            }
        };
        Ok(Self {
            authorities,
            identity,
        })
    }

    /// Authorities that may have signed a backend's certificate.
    pub(super) fn roots(&self, settings: &UpstreamTls) -> Result<RootCertStore, UpstreamFileError> {
        let mut store = RootCertStore::empty();
        let Some(path) = &settings.ca else {
            // Some systems install a few certificates that no TLS library accepts.
            store.add_parsable_certificates(self.authorities.iter().cloned());
            if store.is_empty() {
                return Err(UpstreamFileError {
                    key: "",
                    message: "there is no `ca`, and this system has no certificates of authorities".to_owned(),
                    remedy: "name the file of the authority that signs the backends' certificates with `ca`, or install the package ca-certificates".to_owned(),
                });
            }
            return Ok(store);
        };
        for (index, certificate) in self.authorities.iter().enumerate() {
            store
                .add(certificate.clone())
                .map_err(|error| UpstreamFileError {
                    key: "ca",
                    message: format!(
                        "{}: certificate {} of it can't be used: {error}",
                        path.display(),
                        index + 1
                    ),
                    remedy: "take it out, or put the authority's certificate in its place"
                        .to_owned(),
                })?;
        }
        Ok(store)
    }
}

fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    pem::certificates(path, &pem::read(path)?)
}

impl PartialEq for UpstreamFiles {
    fn eq(&self, other: &Self) -> bool {
        let digest = |material: &Self| material.identity.as_ref().map(|own| own.digest);
        self.authorities == other.authorities && digest(self) == digest(other)
    }
}
