//! Why a client is turned away before there is a request of it.

use super::h1::request::RequestError;
use crate::metrics::ServerLimit;

/// Why a connection, or what came on it, is turned away before it is a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRefusal {
    /// The answer's status.
    pub status: u16,
    /// Why, for people.
    pub detail: &'static str,
    /// Why, as a metric's label.
    pub(super) reason: &'static str,
    /// The limit that was reached, if it was one.
    pub(super) limit: Option<ServerLimit>,
}

impl ClientRefusal {
    /// A limit of `[server]` was reached.
    pub fn limited(limit: ServerLimit, status: u16, detail: &'static str) -> Self {
        Self {
            status,
            detail,
            reason: limit.key(),
            limit: Some(limit),
        }
    }

    /// A refusal without an answer: the client's protocol is unknown, or it shall not learn of the refusal.
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
    /// Plain HTTP where TLS is spoken.
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
