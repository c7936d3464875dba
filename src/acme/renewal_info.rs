//! Time at which an authority wants a certificate to be renewed (ARI, RFC 9773).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;

use super::AcmeError;
use super::authority::AuthorityClient;
use crate::core::renewal::RenewalWindow;
use crate::tls::certificate::Certificate;

/// Identifier of a certificate for the authority (RFC 9773, section 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateId {
    /// Key identifier of its signer.
    pub(super) signer: Vec<u8>,
    /// Serial number in its DER encoding.
    pub(super) serial: Vec<u8>,
}

impl CertificateId {
    /// Identifier of a certificate; `None`: the certificate lacks its signer's key identifier.
    pub(super) fn of(certificate: &Certificate) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate.key.cert.first()?).ok()?;
        let signer =
            parsed
                .iter_extensions()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::AuthorityKeyIdentifier(found) => {
                        Some(found.key_identifier.as_ref()?.0.to_vec())
                    }
                    _ => None,
                });
        Some(Self {
            signer: signer?,
            serial: parsed.raw_serial().to_vec(),
        })
    }

    fn in_url(&self) -> String {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        format!("{}.{}", encode(&self.signer), encode(&self.serial))
    }
}

/// Part of an authority's directory that is needed here (RFC 8555, section 7.1.1).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthorityDirectory {
    /// URL of the renewal information; `None`: the authority has none.
    pub(super) renewal_info: Option<String>,
}

/// Answer of an authority about a certificate.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RenewalAdvice {
    suggested_window: SuggestedTimes,
    #[serde(rename = "explanationURL")]
    explanation_url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SuggestedTimes {
    start: String,
    end: String,
}

/// A renewal window, with further data of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AdvisedWindow {
    /// The window; `None`: the authority has no advice.
    pub(super) window: Option<RenewalWindow>,
    /// URL of an explanation.
    pub(super) explanation: Option<String>,
    /// Time of the next request, in seconds from now.
    pub(super) asked: Option<i64>,
}

/// Fetches the renewal window of a certificate.
pub(super) async fn ask_window(
    client: &AuthorityClient,
    directory_url: &str,
    id: &CertificateId,
) -> Result<AdvisedWindow, AcmeError> {
    let directory: AuthorityDirectory = client.get(directory_url).await?;
    let Some(base) = directory.renewal_info else {
        return Ok(AdvisedWindow {
            window: None,
            explanation: None,
            // The authority may support it later.
            asked: Some(24 * 3600),
        });
    };
    let url = format!("{}/{}", base.trim_end_matches('/'), id.in_url());
    let advice: RenewalAdvice = client.get(&url).await?;
    let times = &advice.suggested_window;
    Ok(AdvisedWindow {
        window: parse_time(&times.start)
            .zip(parse_time(&times.end))
            .map(|(start, end)| RenewalWindow { start, end }),
        explanation: advice.explanation_url,
        asked: client.take_asked(),
    })
}

/// Parses RFC 3339, with any offset from UTC, to Unix time in seconds.
fn parse_time(text: &str) -> Option<i64> {
    let (plain, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(plain) => (plain, 0),
        None => {
            let at = text.len().checked_sub(6)?;
            let (plain, offset) = text.split_at_checked(at)?;
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            match offset.as_bytes().first()? {
                b'+' => (plain, seconds),
                b'-' => (plain, -seconds),
                _ => return None,
            }
        }
    };
    let read = humantime::parse_rfc3339(&format!("{plain}Z")).ok()?;
    Some(signed_unix(read).saturating_sub(offset))
}

fn signed_unix(time: SystemTime) -> i64 {
    let seconds = |length: std::time::Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(past) => seconds(past),
        Err(before) => -seconds(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_any_offset() {
        assert_eq!(parse_time("1970-01-02T00:00:00Z"), Some(86_400));
        assert_eq!(parse_time("1970-01-02T02:00:00+02:00"), Some(86_400));
        assert_eq!(parse_time("1970-01-01T22:30:00.5-01:30"), Some(86_400));
        for bad in ["", "soon", "1970-01-02", "1970-01-02T00:00:00", "é"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    /// The example of RFC 9773, section 4.1.
    #[test]
    fn certificate_is_named_as_in_the_rfc() {
        let id = CertificateId {
            signer: vec![
                0x69, 0x88, 0x5B, 0x6B, 0x87, 0x46, 0x40, 0x41, 0xE1, 0xB3, 0x7B, 0x84, 0x7B, 0xA0,
                0xAE, 0x2C, 0xDE, 0x01, 0xC8, 0xD4,
            ],
            serial: vec![0x00, 0x87, 0x65, 0x43, 0x21],
        };
        assert_eq!(id.in_url(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
    }
}
