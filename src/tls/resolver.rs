//! Choice of the certificate that a client gets.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// Chooses by the name that the client asks for (SNI, RFC 6066, section 3), and among several certificates for that
/// name by the signature algorithms that the client can verify.
#[derive(Debug)]
pub struct CertificateResolver {
    names: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// In the order of the configuration. The first one is for clients that ask for no name, or for one that has no
    /// certificate.
    all: Vec<Arc<CertifiedKey>>,
}

impl CertificateResolver {
    /// A resolver for these certificates.
    pub fn new(certificates: &[Certificate]) -> Self {
        let mut names: HashMap<String, Vec<_>> = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                let key = certificate.key.clone();
                names.entry(name.clone()).or_default().push(key);
            }
        }
        let all = certificates
            .iter()
            .map(|certificate| certificate.key.clone());
        Self {
            names,
            all: all.collect(),
        }
    }

    /// Certificates for a name: its own, or else those of a wildcard, which stands for exactly one label (RFC 6125,
    /// section 6.4.3).
    fn of_name(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.names.get(&name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.names.get(&format!("*.{parent}"))
        })
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.of_name(name));
        let usable =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let first = |keys: &[Arc<CertifiedKey>]| {
            let found = keys.iter().find(usable).or(keys.first());
            found.cloned()
        };
        match named {
            Some(keys) => first(keys),
            // Without a matching name any certificate will do, preferably one that the client can verify.
            None => first(&self.all),
        }
    }
}
