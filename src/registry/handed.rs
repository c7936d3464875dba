//! State that one registry gives to another, as it is sent.

use serde::{Deserialize, Serialize};

use super::persist::{DrainRecord, KeptState};
use super::restart_view::{ProxyIdentity, RestartView};

/// State that one registry gives to another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedRegistry {
    /// State that a restart would keep, too.
    pub kept: KeptState,
    /// Instances that launchers hold.
    pub leases: Vec<HandedLease>,
    /// Backends from discovery sources.
    pub discovered: Vec<HandedDiscovered>,
    /// Health and counters of backends.
    pub known: Vec<KnownBackend>,
    /// Key that sessions are signed with if none is configured, in hexadecimal.
    pub sticky_key: Option<String>,
    /// The last restarts, from the oldest on.
    pub restarts: Vec<RestartView>,
    /// The processes in which these restarts began.
    pub processes: Vec<ProxyIdentity>,
    /// Restarts of backends that have left; they end when another backend of the same name is ready.
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
    /// ID of the restart.
    pub restart: String,
}

/// An instance that a launcher holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedLease {
    /// The pool.
    pub pool: String,
    /// Name.
    pub name: String,
    /// Address at which it listens.
    pub address: String,
    /// Weight.
    pub weight: u32,
    /// Whether it gets requests only while no other backend is ready.
    pub backup: bool,
    /// User (uid) that owns the instance, if it came through the socket for apps.
    pub owner: Option<u32>,
    /// ID of the lease.
    pub id: String,
    /// Nonce by which the launcher is recognised.
    pub nonce: Option<String>,
    /// Drains that end with the lease.
    pub drains: Vec<DrainRecord>,
}

/// State of one backend.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KnownBackend {
    /// The pool.
    pub pool: String,
    /// Name without `~2`.
    pub name: String,
    /// Address at which it listens.
    pub address: String,
    /// Number of processes that have been seen behind it.
    pub incarnation: u64,
    /// Whether its probes pass.
    pub up: bool,
    /// Identity of the listening socket that the probes reached, if known.
    pub listener: Option<u64>,
    /// Whether its probes fail.
    pub down: bool,
    /// Whether its first probe has ended.
    pub probed: bool,
    /// Number of requests that were sent to it.
    pub requests: u64,
    /// If it drains and clients with a session may still use it: these sessions.
    pub finishing: Vec<HandedSessions>,
    /// Its ejection, if any, and how often it was ejected.
    pub outlier: Option<HandedOutlier>,
    /// Result of the last probe, as text.
    pub last_probe: Option<String>,
    /// Whether it drains and has requests in flight.
    pub busy: bool,
    /// Its state.
    pub state: String,
    /// Time since which it has been in that state, by the machine's monotonic clock, in nanoseconds.
    pub since: Option<u64>,
    /// ID of its restart in progress.
    pub restart: Option<String>,
}

/// A backend's record in outlier detection. Times are by the machine's monotonic clock, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedOutlier {
    /// Number of ejections, reduced again by time without ejections.
    pub times: u32,
    /// End of the last ejection.
    pub returned: u64,
    /// Present ejection, if any.
    pub ejection: Option<HandedEjection>,
}

/// An ejection and its reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedEjection {
    /// Time at which it began.
    pub since: u64,
    /// Time at which it ends.
    pub until: u64,
    /// `consecutive_errors`, `error_rate` or `latency`.
    pub cause: String,
    /// Number of consecutive errors; with an error rate, number of errors in the window.
    pub errors: u32,
    /// With an error rate: number of attempts.
    pub of: u32,
    /// With an error rate: length of the window, in nanoseconds.
    pub window: u64,
    /// The last error, as its number (`AttemptError::number`); 0: none.
    pub last: u32,
    /// With latency: median latency of the backend, in nanoseconds.
    pub median: u64,
    /// With latency: median latency of the pool, in nanoseconds.
    pub pool: u64,
    /// Which ejection of the backend it is, from 1.
    pub times: u32,
}

/// All or some of a backend's sessions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedSessions {
    /// The pool.
    pub pool: String,
    /// The backend's name without `~2`.
    pub backend: String,
    /// Address at which it listens.
    pub address: String,
    /// Idle timeout of the sessions, in seconds.
    pub idle: u64,
    /// For each session: its number, the time of its last request (by the machine's monotonic clock, in nanoseconds),
    /// and whether its client has sent its token back.
    pub sessions: Vec<(u64, u64, bool)>,
}

/// Number of requests that a process has sent to a backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedRequests {
    /// The pool.
    pub pool: String,
    /// The backend's name without `~2`.
    pub backend: String,
    /// Address at which it listens.
    pub address: String,
    /// Number of requests.
    pub requests: u64,
}

/// A backend from a discovery source: it stays until that source answers otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandedDiscovered {
    /// The pool.
    pub pool: String,
    /// Name.
    pub name: String,
    /// Address at which it listens.
    pub address: String,
    /// Weight.
    pub weight: u32,
    /// Whether it gets requests only while no other backend is ready.
    pub backup: bool,
    /// Zone in which it runs.
    pub zone: Option<String>,
    /// Label of the source.
    pub source: String,
}

/// Converts bytes to hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Converts hexadecimal to `N` bytes; `None` if `text` is not of that form.
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
