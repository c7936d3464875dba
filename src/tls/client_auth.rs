//! Clients' certificates: which authorities may have signed them, and the header fields that tell the app about them.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Name;

use super::{TlsFileError, pem};
use crate::config::ClientAuth;
use crate::rt::clock;

/// Most bytes of alternative names in the header; names that don't fit are left out as a whole.
const MAX_NAMES: usize = 4096;

/// Content of a file of revocation lists.
#[derive(Debug)]
pub struct RevocationLists {
    /// The lists.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
    /// Set if one of the lists is out of date: its authority has published a newer one by now.
    pub outdated: Option<TlsFileError>,
}

/// Reads a file of revocation lists. A list that is out of date is still used: it still names revoked certificates, and
/// an error would lock out all clients, or keep a new certificate from being loaded.
///
/// # Errors
/// The file can't be read, holds no list, or holds a damaged one.
pub fn revoked(file: &Path, now: SystemTime) -> Result<RevocationLists, TlsFileError> {
    let lists = pem::revocation_lists(file, &pem::read(file)?)?;
    let mut outdated = None;
    for (n, list) in lists.iter().enumerate() {
        let Ok((_, parsed)) = CertificateRevocationList::from_der(list) else {
            let why = format!("revocation list {} of it is damaged", n + 1);
            let remedy = "write the file anew from where it came from";
            return Err(TlsFileError::new(file, why, remedy));
        };
        let next = parsed.next_update().map(|next| next.timestamp());
        if next.is_some_and(|next| next < clock::unix_seconds(now)) {
            let issuer = distinguished_name(parsed.issuer());
            let why = format!("the revocation list of {issuer} is out of date");
            outdated = Some(TlsFileError::new(
                file,
                why,
                "fetch the authority's newest one",
            ));
        }
    }
    Ok(RevocationLists { lists, outdated })
}

/// Makes the verifier of clients' certificates from the text of a file of certificate authorities. With revocation
/// lists, every authority in a client's chain needs one: a client whose revocation status is unknown is refused.
///
/// # Errors
/// None of the certificates is valid now, or the file can't be used.
pub fn verifier(
    auth: ClientAuth,
    file: &Path,
    text: &[u8],
    revoked: Vec<CertificateRevocationListDer<'static>>,
    now: SystemTime,
) -> Result<Arc<dyn ClientCertVerifier>, TlsFileError> {
    let mut roots = RootCertStore::empty();
    let (mut good, mut end) = (0, 0);
    for (n, der) in pem::certificates(file, text)?.into_iter().enumerate() {
        let until = X509Certificate::from_der(&der)
            .map(|(_, parsed)| parsed.validity().not_after.timestamp());
        let added = roots.add(der);
        let (Ok(until), Ok(())) = (until, added) else {
            let why = format!("certificate {} of it is damaged", n + 1);
            let remedy = "write the file anew from where it came from";
            return Err(TlsFileError::new(file, why, remedy));
        };
        good += usize::from(until >= clock::unix_seconds(now));
        end = until.max(end);
    }
    if good == 0 {
        let remedy = "name the certificates of those who sign clients' certificates now";
        return Err(TlsFileError::new(
            file,
            "all certificates in it have expired",
            remedy,
        ));
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), super::provider())
        .with_crls(revoked);
    let builder = match auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional | ClientAuth::Off => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| {
        let remedy = "name a PEM file with the certificates of those who sign clients'";
        TlsFileError::new(file, error.to_string(), remedy)
    })
}

/// Header fields that tell the app about a client's certificate, each with its line end. Nothing in them can break a
/// line: everything but printable ASCII is escaped.
pub fn identity(der: &CertificateDer<'_>) -> Option<Arc<str>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut out = String::new();
    let subject = distinguished_name(certificate.subject());
    if !subject.is_empty() {
        let _ = write!(out, "X-Client-Cert-Subject: {subject}\r\n");
    }
    let names = alternative_names(&certificate);
    if !names.is_empty() {
        let _ = write!(out, "X-Client-Cert-San: {names}\r\n");
    }
    out.push_str("X-Client-Cert-Fingerprint: ");
    for byte in super::sha256(der) {
        let _ = write!(out, "{byte:02x}");
    }
    out.push_str("\r\n");
    Some(out.into())
}

/// Alternative names, such as `DNS:a.example,URI:spiffe://b`, in the certificate's order.
fn alternative_names(certificate: &X509Certificate<'_>) -> String {
    let mut out = String::new();
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return out;
    };
    for name in &extension.value.general_names {
        let (kind, text) = match name {
            GeneralName::DNSName(name) => ("DNS", escape_text(name)),
            GeneralName::URI(uri) => ("URI", escape_text(uri)),
            GeneralName::RFC822Name(mail) => ("email", escape_text(mail)),
            GeneralName::IPAddress(bytes) => match address(bytes) {
                Some(address) => ("IP", address),
                None => continue,
            },
            _ => continue,
        };
        if out.len() + kind.len() + text.len() + 2 > MAX_NAMES {
            continue;
        }
        let comma = if out.is_empty() { "" } else { "," };
        let _ = write!(out, "{comma}{kind}:{text}");
    }
    out
}

/// Formats an IP address from the 4 or 16 bytes in which certificates encode it; `None`: another number of bytes.
pub(super) fn address(bytes: &[u8]) -> Option<String> {
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(address.to_string())
}

/// Formats a name as RFC 4514 does: the most specific part first.
pub(super) fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut out = String::new();
    for part in parts.into_iter().rev() {
        let mut separator = if out.is_empty() { "" } else { "," };
        for attribute in part.iter() {
            let oid = attribute.attr_type().to_id_string();
            let key = match oid.as_str() {
                "2.5.4.3" => "CN",
                "2.5.4.6" => "C",
                "2.5.4.7" => "L",
                "2.5.4.8" => "ST",
                "2.5.4.9" => "STREET",
                "2.5.4.10" => "O",
                "2.5.4.11" => "OU",
                "0.9.2342.19200300.100.1.1" => "UID",
                "0.9.2342.19200300.100.1.25" => "DC",
                other => other,
            };
            let value = match attribute.as_str() {
                Ok(text) => escape_text(text),
                // A value that is no text: RFC 4514, section 2.4, wants it in hexadecimal.
                Err(_) => attribute
                    .as_slice()
                    .iter()
                    .fold("#".to_owned(), |mut hex, byte| {
                        let _ = write!(hex, "{byte:02x}");
                        hex
                    }),
            };
            let _ = write!(out, "{separator}{key}={value}");
            separator = "+";
        }
    }
    out
}

/// Escapes text as RFC 4514, section 2.4, does: special characters after a backslash, and everything but printable
/// ASCII as `\` and two hexadecimal digits.
fn escape_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (n, byte) in text.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b' ' if n == 0 || n == last => out.push_str("\\20"),
            b'#' if n == 0 => out.push_str("\\#"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\{byte:02x}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_breaks_a_line_or_a_list() {
        assert_eq!(escape_text("a\r\nX-Admin: 1"), "a\\0d\\0aX-Admin: 1");
        assert_eq!(escape_text("a,CN=root"), "a\\,CN=root");
        assert_eq!(escape_text(" ü# "), "\\20\\c3\\bc#\\20");
        assert_eq!(escape_text("#1"), "\\#1");
        assert_eq!(escape_text(""), "");
    }

    #[test]
    fn addresses_have_four_or_sixteen_bytes() {
        assert_eq!(address(&[127, 0, 0, 1]).as_deref(), Some("127.0.0.1"));
        assert_eq!(address(&[0; 16]).as_deref(), Some("::"));
        assert_eq!(address(&[1, 2, 3]), None);
    }
}
