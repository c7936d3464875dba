//! Views of restarts: the JSON of `GET /v1/restarts` and of `lameduck report --json`, which `verify` reads as well.

use ring::digest;
use serde::{Deserialize, Serialize};

use crate::metrics::restart_meter::{process_id, process_start};
use crate::rt::clock;

/// Response to `GET /v1/restarts`: the newest restarts, and the process to which they belong.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct RestartList {
    /// The process to which they belong.
    pub proxy: ProxyIdentity,
    /// The previous processes in which some of them began, and which have handed them over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predecessors: Vec<ProxyIdentity>,
    /// The restarts, from the oldest on.
    pub restarts: Vec<RestartView>,
}

/// Identity of a proxy process.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct ProxyIdentity {
    /// Prefix of the IDs of its restarts.
    pub id: String,
    /// Version of lameduck.
    pub version: String,
    /// Time at which it started, in RFC 3339, UTC.
    pub started: String,
    /// SHA-256 of its effective configuration as in `GET /v1/config`, in hexadecimal.
    pub config_digest: String,
}

/// One restart. Times are in RFC 3339, UTC, with milliseconds; null if nobody saw them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct RestartView {
    /// ID, as in the field `restarts` of the access log.
    pub id: String,
    /// The pool.
    pub pool: String,
    /// Name of the backend, as shown.
    pub backend: String,
    /// ID of the roll that the restart was part of.
    pub roll: Option<String>,
    /// `launcher`, `api`, `supervisor`, `config`, `discovery`, `unavailable`, `stopped`, `killed`, `probe_failed` or
    /// `replaced`.
    pub cause: String,
    /// The cause as text.
    pub reason: String,
    /// `open`, `restarted`, `resumed`, `left` or `unseen`.
    pub outcome: String,
    /// Result of the drain: `drained`, `timed_out`, `died` or `resumed`.
    pub drain: Option<String>,
    /// Time of the first sign of the restart.
    pub began: String,
    /// Time at which the drain was ordered.
    pub told: Option<String>,
    /// Time at which nothing was in flight any more and no connection was open.
    pub drained: Option<String>,
    /// Time at which its process was first seen to be gone.
    pub stopped: Option<String>,
    /// Time at which another process was first seen.
    pub started: Option<String>,
    /// Time at which it took requests again.
    pub ready: Option<String>,
    /// Time at which requests in flight were to be cut.
    pub deadline: Option<String>,
    /// Cost of the restart, in requests.
    pub requests: RestartCounts,
    /// Smallest share of the pool's weight that took requests during the restart, in percent.
    pub capacity_percent: f64,
    /// Response times of the pool before, during and after the restart.
    pub latency: RestartLatency,
}

/// Numbers of requests, by how the restart affected them. A request may count in several of them.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct RestartCounts {
    /// Lines of the access log that name the restart.
    pub lines: u64,
    /// Requests that the backend answered while it took no new ones.
    pub served: u64,
    /// Streams and upgraded connections that were closed in an orderly way.
    pub closed: u64,
    /// Requests with a failed attempt on the backend and another attempt after it.
    pub retried: u64,
    /// Requests that waited because no backend of the pool took requests.
    pub held: u64,
    /// Requests whose sessions moved to another backend.
    pub moved: u64,
    /// Requests that were cut at the deadline, and their clients noticed. They also count as lost.
    pub cut: u64,
    /// Requests whose clients did not get the app's complete response.
    pub lost: u64,
}

/// Response times of a pool around a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct RestartLatency {
    /// In the seconds before; null if nothing is known of them.
    pub before: Option<LatencyWindow>,
    /// From the first sign until the backend took requests again.
    pub during: Option<LatencyWindow>,
    /// In the seconds after that.
    pub after: Option<LatencyWindow>,
}

/// Response times of the requests that ended in a span of time.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct LatencyWindow {
    /// Begin of the span.
    pub from: String,
    /// End of the span.
    pub to: String,
    /// Number of requests that ended.
    pub requests: u64,
    /// Time within which half of them were answered, as an upper bound of a histogram bucket; null: above the last
    /// bucket, or no requests.
    pub p50_ms: Option<f64>,
    /// Time within which 99 of 100 were answered.
    pub p99_ms: Option<f64>,
}

impl ProxyIdentity {
    /// Returns the identity of this process, with this effective configuration.
    pub fn own(config: &serde_json::Value) -> Self {
        let digest = digest::digest(&digest::SHA256, config.to_string().as_bytes());
        let hexadecimal = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        Self {
            id: process_id().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: clock::rfc3339(process_start()),
            config_digest: hexadecimal.collect(),
        }
    }

    /// Whether a restart began in this process, according to its ID.
    pub fn has_seen(&self, restart: &RestartView) -> bool {
        let number = restart.id.strip_prefix(&*self.id);
        number.is_some_and(|number| number.starts_with('-'))
    }
}

impl RestartCounts {
    /// Returns each count with its name, in the order of the document.
    pub fn figures(&self) -> [(&'static str, u64); 8] {
        [
            ("lines", self.lines),
            ("served", self.served),
            ("closed", self.closed),
            ("retried", self.retried),
            ("held", self.held),
            ("moved", self.moved),
            ("cut", self.cut),
            ("lost", self.lost),
        ]
    }

    /// Returns the count with this name.
    pub fn figure_mut(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "lines" => &mut self.lines,
            "served" => &mut self.served,
            "closed" => &mut self.closed,
            "retried" => &mut self.retried,
            "held" => &mut self.held,
            "moved" => &mut self.moved,
            "cut" => &mut self.cut,
            "lost" => &mut self.lost,
            _ => return None,
        })
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        for (name, value) in other.figures() {
            if let Some(own) = self.figure_mut(name) {
                *own = own.saturating_add(value);
            }
        }
    }
}

impl RestartLatency {
    /// Returns each span with its name.
    pub fn windows(&self) -> [(&'static str, Option<&LatencyWindow>); 3] {
        [
            ("before", self.before.as_ref()),
            ("during", self.during.as_ref()),
            ("after", self.after.as_ref()),
        ]
    }
}
