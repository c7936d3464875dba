//! Restarts as people see them: the JSON of `GET /v1/restarts`, of `lameduck report --json`, and what `verify` reads.

use ring::digest;
use serde::{Deserialize, Serialize};

use crate::metrics::restart_meter::{process_id, process_start};
use crate::rt::clock;

/// Answer of `GET /v1/restarts`: the newest restarts, and of which process they are.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct RestartList {
    /// Whose they are.
    pub proxy: ProxyIdentity,
    /// The processes before it that have begun some of them, and have handed them over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predecessors: Vec<ProxyIdentity>,
    /// The restarts, the oldest first.
    pub restarts: Vec<RestartView>,
}

/// Which process speaks.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct ProxyIdentity {
    /// How the ids of its restarts begin.
    pub id: String,
    /// Its version.
    pub version: String,
    /// When it started. RFC 3339, UTC.
    pub started: String,
    /// SHA-256 of its effective configuration as `GET /v1/config` has it, in hexadecimal.
    pub config_digest: String,
}

/// One restart. Instants are RFC 3339, UTC, with milliseconds; null where nobody saw them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct RestartView {
    /// Its id: the access log's field `restarts` has it.
    pub id: String,
    /// The pool.
    pub pool: String,
    /// The backend, as shown.
    pub backend: String,
    /// The roll that it was part of.
    pub roll: Option<String>,
    /// `launcher`, `api`, `supervisor`, `config`, `discovery`, `unavailable`, `stopped`, `killed`, `probe_failed` or
    /// `replaced`.
    pub cause: String,
    /// The same for people.
    pub reason: String,
    /// `open`, `restarted`, `resumed`, `left` or `unseen`.
    pub outcome: String,
    /// How the drain ended: `drained`, `timed_out`, `died` or `resumed`.
    pub drain: Option<String>,
    /// The first sign.
    pub began: String,
    /// When somebody asked for the drain.
    pub told: Option<String>,
    /// When nothing was in flight any more, and no connection open.
    pub drained: Option<String>,
    /// When its process was first seen to be gone.
    pub stopped: Option<String>,
    /// When another process was first seen.
    pub started: Option<String>,
    /// When it took requests again.
    pub ready: Option<String>,
    /// When what was in flight was to be cut.
    pub deadline: Option<String>,
    /// What it cost.
    pub requests: RestartCounts,
    /// The least share of the pool's weight that took requests meanwhile, in percent.
    pub capacity_percent: f64,
    /// How long the pool's requests took, before, while and after.
    pub latency: RestartLatency,
}

/// Requests, by what they were to a restart. One may be several of these.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct RestartCounts {
    /// Lines of the access log that name the restart.
    pub lines: u64,
    /// The backend answered them while it took no new requests.
    pub served: u64,
    /// Streams and upgraded connections that were closed in good order.
    pub closed: u64,
    /// An attempt on the backend failed, and another was made.
    pub retried: u64,
    /// They waited because nothing in the pool took requests.
    pub held: u64,
    /// Their sessions went to another backend.
    pub moved: u64,
    /// The deadline cut them, and their clients noticed. Also lost.
    pub cut: u64,
    /// Their clients did not get the app's whole answer.
    pub lost: u64,
}

/// How long a pool's requests took, around a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct RestartLatency {
    /// In the seconds before; null where nothing is known of them.
    pub before: Option<LatencyWindow>,
    /// From the first sign until it took requests again.
    pub during: Option<LatencyWindow>,
    /// In the seconds after that.
    pub after: Option<LatencyWindow>,
}

/// How long the requests took that ended in a span of time.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
pub struct LatencyWindow {
    /// From here…
    pub from: String,
    /// …to here.
    pub to: String,
    /// So many requests ended.
    pub requests: u64,
    /// Half of them took no longer than this; a bound of the histogram, null: over its last one, or no requests.
    pub p50_ms: Option<f64>,
    /// 99 of 100 took no longer than this.
    pub p99_ms: Option<f64>,
}

impl ProxyIdentity {
    /// This process, with this effective configuration.
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

    /// Whether a restart has begun in this process: its id says so.
    pub fn has_seen(&self, restart: &RestartView) -> bool {
        let number = restart.id.strip_prefix(&*self.id);
        number.is_some_and(|number| number.starts_with('-'))
    }
}

impl RestartCounts {
    /// Each figure with its name, in the order of the document.
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

    /// The figure of this name.
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

    /// Adds another account's figures.
    pub fn add(&mut self, other: &Self) {
        for (name, value) in other.figures() {
            if let Some(own) = self.figure_mut(name) {
                *own = own.saturating_add(value);
            }
        }
    }
}

impl RestartLatency {
    /// Each span with its name.
    pub fn windows(&self) -> [(&'static str, Option<&LatencyWindow>); 3] {
        [
            ("before", self.before.as_ref()),
            ("during", self.during.as_ref()),
            ("after", self.after.as_ref()),
        ]
    }
}
