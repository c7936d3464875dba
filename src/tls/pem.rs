//! PEM files (RFC 7468): certificates and keys.

use std::path::Path;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::TlsFileError;

/// Most bytes that are read; no chain or bundle is longer. A user who names a disk or `/dev/zero` gets an error.
const MAX_FILE_SIZE: u64 = 4 << 20;

/// Reads a PEM file.
///
/// # Errors
/// The file can't be read, or is empty.
pub fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let bytes = crate::config::plain_file::read_file(path, MAX_FILE_SIZE);
    let bytes = bytes.map_err(|error| {
        use std::io::ErrorKind;
        let name = path.display();
        let remedy = match error.kind() {
            ErrorKind::NotFound => "name the right file".to_owned(),
            ErrorKind::PermissionDenied => {
                format!("let lameduck's user read it: `ls -l {name}` shows who may")
            }
            ErrorKind::IsADirectory => "name the file in it".to_owned(),
            _ => "see whether it is a plain file".to_owned(),
        };
        TlsFileError::new(path, crate::config::plain(&error), remedy)
    })?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        let remedy = "name a PEM file, as `openssl x509 -in FILE -noout -text` shows it";
        return Err(TlsFileError::new(path, "it is larger than 4 MiB", remedy));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        let remedy = "write the certificate or key into it";
        return Err(TlsFileError::new(path, "it is empty", remedy));
    }
    Ok(bytes)
}

fn damaged_error(path: &Path, error: &pem::Error) -> TlsFileError {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } => {
            "it ends in the middle: an END line is missing".into()
        }
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is damaged".into(),
        pem::Error::Base64Decode(_) => "what is between BEGIN and END is not base64".into(),
        other => format!("it is not PEM: {other}"),
    };
    TlsFileError::new(path, why, "write the file anew from where it came from")
}

/// Certificates in the file, in its order; at least one.
///
/// # Errors
/// There is none, or one is damaged.
pub fn certificates(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let mut all = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(bytes) {
        all.push(certificate.map_err(|error| damaged_error(path, &error))?);
    }
    if all.is_empty() {
        let (why, remedy) = if contains_text(bytes, b"PRIVATE KEY-----") {
            let why = "there is a key in it, and no certificate";
            (
                why,
                "name the certificate's file here, and this one as the key",
            )
        } else {
            let why = "there is no certificate in it (no BEGIN CERTIFICATE)";
            (
                why,
                "write it as PEM: `openssl x509 -inform der -in FILE -out FILE.pem` converts DER",
            )
        };
        return Err(TlsFileError::new(path, why, remedy));
    }
    Ok(all)
}

/// Revocation lists in the file; at least one.
///
/// # Errors
/// There is none, or one is damaged.
pub fn revocation_lists(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsFileError> {
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
    let lists = lists.map_err(|error| damaged_error(path, &error))?;
    if lists.is_empty() {
        return Err(TlsFileError::new(
            path,
            "there is no revocation list in it (no BEGIN X509 CRL)",
            "write it as PEM: `openssl crl -inform der -in FILE -out FILE.pem` converts DER",
        ));
    }
    Ok(lists)
}

/// Private key in the file.
///
/// # Errors
/// There is none, it is encrypted, or it is damaged.
pub fn key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    if contains_text(bytes, b"BEGIN ENCRYPTED PRIVATE KEY") || contains_text(bytes, b"4,ENCRYPTED")
    {
        return Err(TlsFileError::new(
            path,
            "the key is encrypted, and nobody is there to type its password",
            "decrypt it: `openssl pkey -in FILE -out FILE.plain && chmod 600 FILE.plain`",
        ));
    }
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound if contains_text(bytes, b"BEGIN CERTIFICATE") => {
            TlsFileError::new(
                path,
                "there is a certificate in it, and no key",
                "name the key's file here",
            )
        }
        pem::Error::NoItemsFound => TlsFileError::new(
            path,
            "there is no private key in it (no BEGIN PRIVATE KEY)",
            "write it as PEM: `openssl pkey -inform der -in FILE -out FILE.pem` converts DER",
        ),
        other => damaged_error(path, &other),
    })
}

fn contains_text(bytes: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(bytes, text).is_some()
}
