//! Why a client is refused before it has sent a complete request.

use super::h1::request::RequestError;
use crate::metrics::ServerLimit;

/// The refusal of a connection, or of bytes on it that are not a valid request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRefusal {
    /// The status of the response.
    pub status: u16,
    /// The reason, for people.
    pub detail: &'static str,
    /// The reason, as a metric's label.
    pub(super) reason: &'static str,
    /// The limit that was reached, if any.
    pub(super) limit: Option<ServerLimit>,
}

impl ClientRefusal {
    /// Returns the refusal for a reached limit of `[server]`.
    pub fn limited(limit: ServerLimit, status: u16, detail: &'static str) -> Self {
        Self {
            status,
            detail,
            reason: limit.key(),
            limit: Some(limit),
        }
    }

    /// Returns a refusal without a response: the client's protocol is unknown, or it must not learn of the refusal.
    pub fn silent(detail: &'static str) -> Self {
        Self {
            status: 0,
            detail,
            reason: detail,
            limit: None,
        }
    }
}

impl ClientRefusal {
    /// Plain HTTP on a port that expects TLS.
    pub const PLAIN_HTTP: Self = Self {
        status: 400,
        detail: "this port speaks HTTPS, and the request came as plain HTTP: use https://",
        reason: "plain_http",
        limit: None,
    };
}

impl From<RequestError> for ClientRefusal {
    fn from(error: RequestError) -> Self {
        Self {
            status: error.status(),
            detail: error.reason(),
            reason: error.reason(),
            limit: match error {
                RequestError::TargetTooLong => Some(ServerLimit::Uri),
                RequestError::HeadTooLarge | RequestError::TooManyFields => {
                    Some(ServerLimit::Header)
                }
                _ => None,
            },
        }
    }
}
