//! What one registry gives to another that goes on where it was, as it stands on the wire.

use serde::{Deserialize, Serialize};

use super::persist::{DrainRecord, KeptState};
use super::restart_view::{ProxyIdentity, RestartView};

/// What one registry gives to another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedRegistry {
    /// What a restart would keep, too.
    pub kept: KeptState,
    /// Instances that launchers hold.
    pub leases: Vec<HandedLease>,
    /// Backends that sources outside have named.
    pub discovered: Vec<HandedDiscovered>,
    /// What is known of backends.
    pub known: Vec<KnownBackend>,
    /// The key that sessions are signed with where none is configured, in hexadecimal.
    pub sticky_key: Option<String>,
    /// The last restarts, the oldest first.
    pub restarts: Vec<RestartView>,
    /// The processes that have begun them.
    pub processes: Vec<ProxyIdentity>,
    /// Restarts that are over when another backend of the same name is ready.
    pub left: Vec<HandedLeft>,
}

/// A restart whose backend has left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedLeft {
    /// The pool.
    pub pool: String,
    /// The backend's name without `~2`.
    pub backend: String,
    /// The restart's id.
    pub restart: String,
}

/// An instance that a launcher holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedLease {
    /// The pool.
    pub pool: String,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Its share.
    pub weight: u32,
    /// It gets requests only while no other is ready.
    pub backup: bool,
    /// The user whose it is, where it came through the socket for apps.
    pub owner: Option<u32>,
    /// The lease.
    pub id: String,
    /// What tells its launcher from every other one.
    pub nonce: Option<String>,
    /// Drains that end with the lease.
    pub drains: Vec<DrainRecord>,
}

/// What is known of one backend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownBackend {
    /// The pool.
    pub pool: String,
    /// Its name without `~2`.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// How many processes have been seen behind it.
    pub incarnation: u64,
    /// Its probes pass.
    pub up: bool,
    /// The listening socket that they have met, where that is known.
    pub listener: Option<u64>,
    /// Its probes fail.
    pub down: bool,
    /// Its first probe has ended.
    pub probed: bool,
    /// Requests that were sent to it.
    pub requests: u64,
    /// It drains, and those who have a session still go to it: these.
    pub finishing: Vec<HandedSessions>,
    /// Why and for how long it is left out, and how often it was.
    pub outlier: Option<HandedOutlier>,
    /// The last probe, for people.
    pub last_probe: Option<String>,
    /// It drains, and something is in flight on it.
    pub busy: bool,
    /// Its state…
    pub state: String,
    /// …and since when, by the machine's monotonic clock, in nanoseconds.
    pub since: Option<u64>,
    /// The id of its restart under way.
    pub restart: Option<String>,
}

/// What is known of a backend as an outlier. Times are the machine's monotonic clock's, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedOutlier {
    /// How often it was left out, as far as good times have not made up for that.
    pub times: u32,
    /// When the last time ended.
    pub returned: u64,
    /// It is left out now.
    pub ejection: Option<HandedEjection>,
}

/// The time for which one is left out, and why.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedEjection {
    /// Since when.
    pub since: u64,
    /// Until when.
    pub until: u64,
    /// `consecutive_errors`, `error_rate` or `latency`.
    pub cause: String,
    /// Errors: so many in a row, or in all…
    pub errors: u32,
    /// …of so many…
    pub of: u32,
    /// …in this time, in nanoseconds.
    pub window: u64,
    /// The last error, as the metrics' number; 0: none.
    pub last: u32,
    /// Its median latency, in nanoseconds…
    pub median: u64,
    /// …and the pool's.
    pub pool: u64,
    /// Which time it is.
    pub times: u32,
}

/// Sessions that a backend has, or some of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedSessions {
    /// The pool.
    pub pool: String,
    /// The backend's name without `~2`.
    pub backend: String,
    /// Where it listens.
    pub address: String,
    /// Without a request they end after so many seconds.
    pub idle: u64,
    /// Each one's number, when it was last seen (by the machine's monotonic clock, in nanoseconds), and whether it had come
    /// back.
    pub sessions: Vec<(u64, u64, bool)>,
}

/// Requests that a process has sent to a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedRequests {
    /// The pool.
    pub pool: String,
    /// The backend's name without `~2`.
    pub backend: String,
    /// Where it listens.
    pub address: String,
    /// How many.
    pub requests: u64,
}

/// A backend that an external source has named: it stays until that source answers otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedDiscovered {
    /// The pool.
    pub pool: String,
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Its share.
    pub weight: u32,
    /// It gets requests only while no other is ready.
    pub backup: bool,
    /// Where it is.
    pub zone: Option<String>,
    /// The source's label.
    pub source: String,
}

/// For the wire.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that such a text stands for; `None`: it is none of so many.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(bytes)
}
