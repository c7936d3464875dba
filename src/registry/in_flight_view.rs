//! The view of requests in flight, for operators.

use serde::{Deserialize, Serialize};

/// What is in flight, by kind.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct InFlight {
    /// Requests.
    pub request: u32,
    /// Streams of events.
    pub stream: u32,
    /// Upgraded connections: WebSockets and the like.
    pub upgrade: u32,
}

impl InFlight {
    /// Each kind with its name.
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

/// What has been in flight for longest on a backend that takes no new requests: requests first, then streams and upgrades.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct OldestView {
    /// `request`, `stream` or `upgrade`.
    pub kind: String,
    /// Its method.
    pub method: String,
    /// Its route's name, if that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Its path, with `*` for what may be an identifier or a secret, and without the query.
    pub path: String,
    /// When it began; RFC 3339, UTC.
    pub since: String,
    /// How long that is ago.
    pub age_ms: u64,
}
