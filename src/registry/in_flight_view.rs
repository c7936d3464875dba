//! Views of requests in flight, for operators.

use serde::{Deserialize, Serialize};

/// Number of requests in flight, by kind.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct InFlight {
    /// Ordinary requests.
    pub request: u32,
    /// Streams of events.
    pub stream: u32,
    /// Upgraded connections: WebSockets and the like.
    pub upgrade: u32,
}

impl InFlight {
    /// Returns the numbers with the name of each kind.
    pub fn kinds(&self) -> [(&'static str, u32); 3] {
        [
            ("request", self.request),
            ("stream", self.stream),
            ("upgrade", self.upgrade),
        ]
    }
}

impl std::ops::Add for InFlight {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            request: self.request + other.request,
            stream: self.stream + other.stream,
            upgrade: self.upgrade + other.upgrade,
        }
    }
}

/// The oldest request in flight on a backend that takes no new requests: ordinary requests come first, then streams
/// and upgrades.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct OldestView {
    /// `request`, `stream` or `upgrade`.
    pub kind: String,
    /// Request method.
    pub method: String,
    /// Name of the route, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Path without the query, with `*` in place of parts that may be an identifier or a secret.
    pub path: String,
    /// Time at which it began, in RFC 3339, UTC.
    pub since: String,
    /// Its age, in milliseconds.
    pub age_ms: u64,
}
