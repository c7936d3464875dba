//! A certificate chain with its key: whether they belong together, which names it is for, and how long it is good.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::{TlsFileError, pem};
use crate::config::CertificateFiles;
use crate::rt::clock;

/// A certificate that can be served.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Path of the certificate file.
    pub file: PathBuf,
    /// DNS names and IP addresses that it is for, in lower case. Without alternative names, the subject's common name.
    pub names: Vec<String>,
    /// Name of the authority that signed it: its common name, or else its distinguished name.
    pub issuer: String,
    /// Start of its validity, as Unix time in seconds.
    pub not_before: i64,
    /// End of the whole chain's validity, as Unix time in seconds: an intermediate certificate may end sooner.
    pub not_after: i64,
    /// Chain and private key, in the form that rustls uses for handshakes.
    pub key: Arc<CertifiedKey>,
    /// SHA-256 of chain and key, to tell whether it has changed.
    pub digest: [u8; 32],
}

impl Certificate {
    /// Its first name, for messages.
    pub fn name(&self) -> &str {
        self.names.first().map_or("(no name)", String::as_str)
    }

    /// Time until it expires; zero once it has.
    pub fn left(&self, now: SystemTime) -> Duration {
        let seconds = self.not_after.saturating_sub(clock::unix_seconds(now));
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// Time at which it expires, in RFC 3339.
    pub fn expires(&self) -> String {
        date(self.not_after)
    }

    /// Reads and judges a chain and its key.
    ///
    /// # Errors
    /// What is wrong, with the file that it concerns.
    pub fn load(files: &CertificateFiles, now: SystemTime) -> Result<Self, TlsFileError> {
        Self::read(files, Some(now))
    }

    /// Reads a chain and its key without looking at the dates. Until the next certificate is issued, an expired one is
    /// better than none.
    ///
    /// # Errors
    /// As [`Certificate::load`].
    pub fn load_expired(files: &CertificateFiles) -> Result<Self, TlsFileError> {
        Self::read(files, None)
    }

    fn read(files: &CertificateFiles, now: Option<SystemTime>) -> Result<Self, TlsFileError> {
        let cert_text = pem::read(&files.cert)?;
        let chain = pem::certificates(&files.cert, &cert_text)?;
        let key_text = pem::read(&files.key)?;
        let key = pem::key(&files.key, &key_text)?;
        let mut digest = Vec::new();
        chain.iter().for_each(|der| digest.extend_from_slice(der));
        digest.extend_from_slice(key.secret_der());
        let digest = super::sha256(&digest);

        let provider = rustls::crypto::ring::default_provider();
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| {
                TlsFileError::new(
                    &files.key,
                    format!("the key can't be used: {error}"),
                    "use RSA with 2048 bits or more, ECDSA P-256 or P-384, or Ed25519",
                )
            })?;
        let parsed = parse_all(files, &chain)?;
        if let Some(public) = key.public_key() {
            check_key_belongs(files, &parsed, &public)?;
        }
        check_chain_order(files, &parsed)?;
        let not_after = check_validity(files, &parsed, now)?;
        let names = parsed.first().map(dns_names).unwrap_or_default();
        let first = parsed.first();
        let issuer = first.map(issuer_name).unwrap_or_default();
        let not_before = first.map_or(0, |first| first.validity().not_before.timestamp());
        drop(parsed);
        Ok(Self {
            file: files.cert.clone(),
            names,
            issuer,
            not_before,
            not_after,
            key: Arc::new(CertifiedKey::new(chain, key)),
            digest,
        })
    }
}

/// Name of the authority that signed a certificate.
fn issuer_name(certificate: &X509Certificate<'_>) -> String {
    let issuer = certificate.issuer();
    let common = issuer
        .iter_common_name()
        .find_map(|name| name.as_str().ok());
    match common {
        Some(name) => name.to_owned(),
        None => super::client_auth::distinguished_name(issuer),
    }
}

/// Formats a Unix time, in seconds, as RFC 3339 does.
pub fn date(seconds: i64) -> String {
    // The formatter takes years up to 9999, and certificates have no later ones.
    let seconds = u64::try_from(seconds).unwrap_or(0).min(253_402_300_799);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

fn parse_all<'a>(
    files: &CertificateFiles,
    chain: &'a [CertificateDer<'static>],
) -> Result<Vec<X509Certificate<'a>>, TlsFileError> {
    let parse = |(n, der): (usize, &'a CertificateDer<'static>)| {
        X509Certificate::from_der(der)
            .map(|(_, parsed)| parsed)
            .map_err(|_| {
                TlsFileError::new(
                    &files.cert,
                    format!("certificate {} of it is damaged", n + 1),
                    "write the file anew from where it came from",
                )
            })
    };
    chain.iter().enumerate().map(parse).collect()
}

/// Checks that the key is that of the chain's first certificate.
fn check_key_belongs(
    files: &CertificateFiles,
    chain: &[X509Certificate<'_>],
    public: &[u8],
) -> Result<(), TlsFileError> {
    let place = chain
        .iter()
        .position(|certificate| certificate.public_key().raw == public);
    match place {
        Some(0) => Ok(()),
        Some(place) => Err(TlsFileError::new(
            &files.cert,
            format!(
                "the chain is in the wrong order: the key's own certificate is number {}, and must be the first",
                place + 1
            ),
            "put the server's certificate first, then the one that signed it, and so on",
        )),
        None => Err(TlsFileError::new(
            &files.key,
            format!("it is not the key of {}", files.cert.display()),
            "name the key that the certificate was made for; `openssl x509 -in CERT -noout -pubkey` and `openssl pkey -in KEY -pubout` must say the same",
        )),
    }
}

/// Checks that each certificate was signed by the next one. RFC 5246, section 7.4.2, demands this order; RFC 8446 does
/// not, but many clients still need it.
fn check_chain_order(
    files: &CertificateFiles,
    chain: &[X509Certificate<'_>],
) -> Result<(), TlsFileError> {
    for (n, pair) in chain.windows(2).enumerate() {
        let [one, next] = pair else { continue };
        if one.issuer().as_raw() != next.subject().as_raw() {
            return Err(TlsFileError::new(
                &files.cert,
                format!(
                    "the chain is broken: certificate {} is not of the one that signed certificate {} ({})",
                    n + 2,
                    n + 1,
                    super::client_auth::distinguished_name(one.issuer()),
                ),
                "put the server's certificate first, then the one that signed it, and so on; leave others out",
            ));
        }
    }
    Ok(())
}

/// Checks that all certificates are valid at `now` (`None`: skips that), and returns the first end of their validity.
fn check_validity(
    files: &CertificateFiles,
    chain: &[X509Certificate<'_>],
    now: Option<SystemTime>,
) -> Result<i64, TlsFileError> {
    let now = now.map(clock::unix_seconds);
    let mut end = i64::MAX;
    for (n, certificate) in chain.iter().enumerate() {
        let which = match n {
            0 => "the certificate".to_owned(),
            _ => format!("certificate {} of the chain", n + 1),
        };
        let validity = certificate.validity();
        let (from, until) = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        if now.is_some_and(|now| until < now) {
            let why = format!("{which} expired at {}", date(until));
            return Err(TlsFileError::new(&files.cert, why, "renew it"));
        }
        if now.is_some_and(|now| from > now) {
            let why = format!("{which} is not valid before {}", date(from));
            let remedy = "wait, or see whether this machine's clock is right";
            return Err(TlsFileError::new(&files.cert, why, remedy));
        }
        end = end.min(until);
    }
    Ok(end)
}

/// Names of a certificate (RFC 6125): the subject's common name counts only where there are no alternative names.
fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    if let Some(extension) = alternative {
        let names = extension.value.general_names.iter();
        return names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => super::client_auth::address(bytes),
                _ => None,
            })
            .collect();
    }
    let common = certificate.subject().iter_common_name();
    common
        .filter_map(|name| Some(name.as_str().ok()?.to_ascii_lowercase()))
        .collect()
}
