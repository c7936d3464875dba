//! Explanations of failed handshakes: why, and what to do.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Error of the TLS library, if it is one.
pub(super) fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether an error comes from TLS itself, and not from the connection below.
pub fn is_of_tls(error: &io::Error) -> bool {
    tls_error(error).is_some()
}

/// Explains a failed handshake in one line, for logs and `status`.
pub fn explain(error: &io::Error) -> String {
    match tls_error(error) {
        Some(cause) => format!("TLS: {}", explain_error(cause)),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "TLS: it closed the connection in the handshake".to_owned()
        }
        None => format!("TLS: {error}"),
    }
}

/// Used both for an alert that says so and for a backend that agrees to no protocol.
const NO_PROTOCOL: &str =
    "it does not speak the HTTP version that was asked for (ALPN): see `http2` in [pool.upstream]";

fn explain_error(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => certificate(why),
        Error::AlertReceived(alert) => explain_alert(*alert),
        Error::NoApplicationProtocol => NO_PROTOCOL.to_owned(),
        Error::InvalidMessage(_) => {
            "what it answers is not TLS: remove [pool.tls], or give the port that speaks it"
                .to_owned()
        }
        Error::PeerIncompatible(_) => format!("{error} (TLS 1.2 or 1.3 is needed)"),
        other => other.to_string(),
    }
}

fn certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is the clock right?".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "its certificate is signed by nobody that is trusted: name the authority's file with `ca` in [pool.tls]"
                .to_owned()
        }
        CertificateError::BadSignature => {
            "its certificate is not signed by the authority that is trusted, but by another of the same name: see `ca` in [pool.tls]"
                .to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let expected = expected.to_str();
            match presented.is_empty() {
                true => format!("its certificate has no name in it, and should be for {expected}"),
                false => format!(
                    "its certificate is not for {expected}, but for {}; `server_name` in [pool.tls] says which name it must have",
                    presented.iter().map(|name| strip_notation(name)).collect::<Vec<_>>().join(", ")
                ),
            }
        }
        other => format!("its certificate is refused: {other:?}"),
    }
}

/// Removes the notation of Rust: `DnsName("app.internal")` becomes `app.internal`.
fn strip_notation(name: &str) -> &str {
    let inner = name
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn explain_alert(alert: AlertDescription) -> String {
    if is_of_our_certificate(alert) {
        return format!(
            "it refuses our certificate ({alert:?}): see `cert` and `key` in [pool.tls]"
        );
    }
    match alert {
        AlertDescription::NoApplicationProtocol => NO_PROTOCOL.to_owned(),
        AlertDescription::UnrecognisedName => {
            "it does not know the name that was asked for: see `server_name` in [pool.tls]".to_owned()
        }
        AlertDescription::HandshakeFailure => {
            "it refuses the handshake: it may want a client certificate (`cert` and `key` in [pool.tls])".to_owned()
        }
        other => format!("it refuses the handshake ({other:?})"),
    }
}

/// Whether the alert says that the backend refuses our certificate, or demands one.
pub(super) fn is_of_our_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}
