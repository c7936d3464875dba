//! `[admin.tls]`.

use super::listener_tls::{CertificateFiles, ClientAuth, ListenerTls, TlsVersion, file};
use crate::config::declare::section;
use crate::config::forms::FilePath;
use std::path::PathBuf;

section! {
    /// TLS on `http` of `[admin]`; in one line: `tls = { cert = "FILE", key = "FILE" }`. Nothing else is spoken there
    /// then, and commands reach it by `--admin https://HOST:PORT`. The files are read again when they change.
    #[needs(restart)]
    [admin.tls]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AdminTlsConfig {
        /// PEM file with the certificate, then the intermediate ones. Its names may be asked for without `hosts`.
        #[no_default(needed)]
        cert: PathBuf = "/etc/lameduck/tls/fullchain.pem", file();
        /// PEM file with its private key, not encrypted.
        #[no_default(needed)]
        key: PathBuf = "/etc/lameduck/tls/privkey.pem", file();
        /// PEM file with the certificates of those who may sign clients'. Who shows such a certificate may do what the
        /// token allows, and needs none. `""`: clients aren't asked.
        client_ca: Option<PathBuf> = "", FilePath;
    }
}

impl AdminTlsConfig {
    /// Returns the same settings in the form of a listener's.
    pub fn of_listener(&self) -> ListenerTls {
        ListenerTls {
            client_auth: match self.client_ca {
                // Probes, and clients with a token, show no certificate.
                Some(_) => ClientAuth::Optional,
                None => ClientAuth::Off,
            },
            client_ca: self.client_ca.clone(),
            client_crl: None,
            min_version: TlsVersion::Tls12,
            managed: Vec::new(),
            certificates: vec![CertificateFiles {
                cert: self.cert.clone(),
                key: self.key.clone(),
            }],
        }
    }
}
