//! Views of the registry: the JSON of the admin API and of `status --json`, in both directions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::discovery_view::{ChangeView, ChangedValue, DiscoveryView};
pub use super::in_flight_view::{InFlight, OldestView};
use super::plan_view::PlanView;
use super::supervised::SupervisorView;
use crate::core::drain::DrainOutcome;

/// One pool.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PoolView {
    /// Name.
    pub name: String,
    /// Value of `balance` in the configuration.
    pub balance: String,
    /// Number of backends that take requests now.
    pub eligible: usize,
    /// Number of requests that wait because no backend is eligible.
    pub held: usize,
    /// The backends, sorted by name and age.
    pub backends: Vec<BackendView>,
    /// The pause, if any: no new requests go to the backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseView>,
    /// Its shares in the splits of routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<PoolShareView>,
    /// Why drains and registrations would not survive a restart of the proxy, if `state_dir` is set and can't be
    /// written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsaved: Option<String>,
    /// Discovery sources of its backends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discovery: Vec<DiscoveryView>,
    /// The supervisor that is followed; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<SupervisorView>,
}

/// A pool's pause. Times are in RFC 3339, UTC.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PauseView {
    /// `hold`: requests wait; `page`: they are answered with a page.
    pub mode: String,
    /// Time at which it began.
    pub since: String,
    /// Time at which it ends by itself; absent: it has to be ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Status code of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Reason.
    pub reason: String,
}

/// Body of `POST …/pause`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PauseRequest {
    /// Time after which the pause ends by itself (`"5m"`). Default: 5 minutes; with `page`, never.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub length: Option<String>,
    /// Page that requests are answered with; absent: they are held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// With `page`: status code. Default: 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// With `page`: media type. Default: `text/html; charset=utf-8`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Reason, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Response to `POST …/pause` and `DELETE …/pause`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PauseResponse {
    /// Whether the pool was paused before.
    pub was_paused: bool,
    /// The pause now; absent: the pool is not paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseView>,
    /// Number of requests that wait.
    pub held: usize,
    /// Why the pause, which is in force, would not survive a restart of the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// A pool's share in the split of a route.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PoolShareView {
    /// Name of the route, or its conditions if it has no name.
    pub route: String,
    /// Weight of the pool.
    pub weight: u32,
    /// Sum of the weights of all pools.
    pub of: u64,
    /// Weight in the configuration.
    pub configured: u32,
    /// The plan that moves this pool's share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanShareView>,
}

/// Progress of a plan that moves a pool's share.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PlanShareView {
    /// Share at the end of the plan, in percent.
    pub to: f64,
    /// Present step, from 1.
    pub step: u32,
    /// Number of steps.
    pub steps: u32,
    /// Time at which it will end, in RFC 3339.
    pub ends: String,
}

/// The split of one route; also the response to a change of it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct SplitView {
    /// The route's name.
    pub route: String,
    /// Weights in force, by pool.
    pub weights: BTreeMap<String, u32>,
    /// Weights in the configuration, by pool.
    pub configured: BTreeMap<String, u32>,
    /// Time since which the weights differ from the configuration, in RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
    /// The plan that moves the weights, or the last one that did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanView>,
    /// Why the change, which is in force, would not survive a restart of the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Body of `PUT /v1/routes/{route}/split`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SplitRequest {
    /// The new weights of all pools of the split.
    pub weights: BTreeMap<String, u32>,
}

/// One backend.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct BackendView {
    /// Number that no other backend gets while the proxy runs: together with `incarnation`, it identifies a process.
    #[serde(default)]
    pub id: u64,
    /// Name; the second of two backends with the same name is shown as `NAME~2`.
    pub name: String,
    /// `host:port` or `unix:/path`.
    pub address: String,
    /// Weight.
    pub weight: u32,
    /// Whether it gets requests only while no other backend is ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Zone in which it runs; absent: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Number of the process behind this backend.
    pub incarnation: u64,
    /// `ready`, `starting`, `down`, `draining` or `drained`.
    pub state: String,
    /// Time since which it has been in that state, as far as this process knows, in RFC 3339, UTC.
    #[serde(default)]
    pub since: String,
    /// `starting`, `up` or `down`.
    pub health: String,
    /// Where it came from: `config`, `api`, `lease` or `discovery`.
    pub source: String,
    /// Result of the last probe, as text: `200 in 1.2ms`, `connection refused`, …
    pub last_probe: Option<String>,
    /// Open drains.
    pub drains: Vec<DrainView>,
    /// Present ejection: the backend is ready, and gets no new requests for a while because others do better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejected: Option<EjectionView>,
    /// In the response to a resume: the ejection that it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ejection: Option<EjectionView>,
    /// Number in flight: requests, streams and upgrades together.
    pub in_flight: u32,
    /// Number in flight, by kind.
    #[serde(default)]
    pub in_flight_by_kind: InFlight,
    /// Number of streams in flight on HTTP/2 connections to it.
    #[serde(default)]
    pub h2_streams: u32,
    /// The oldest request in flight, while the backend takes no new ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<OldestView>,
    /// Number of client sessions bound to it, if its pool is sticky and there has been a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
    /// Number of open connections to it, including the probe's.
    pub connections: u32,
    /// Number of requests sent to it by this process and those from which it has taken over.
    pub requests: u64,
    /// In the response to a change: why the change, which is in force, would not survive a restart of the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Why a ready backend gets no new requests. Times are in RFC 3339, UTC.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct EjectionView {
    /// Reason, as text.
    pub reason: String,
    /// `consecutive_errors`, `error_rate` or `latency`.
    pub cause: String,
    /// Time at which the ejection began.
    pub since: String,
    /// Time at which it ends, if nothing happens before.
    pub until: String,
    /// Number of ejections, including this one, reduced by time without ejections.
    pub times: u32,
}

/// One drain. Times are in RFC 3339, UTC.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct DrainView {
    /// `app`, `supervisor`, `operator`, `config` or `discovery`.
    pub actor: String,
    /// ID, by which this actor's drains are told apart.
    pub id: String,
    /// Reason.
    pub reason: String,
    /// Time at which it began.
    pub since: String,
    /// Time at which requests in flight are cut.
    pub deadline: Option<String>,
    /// `resumed` or `restarted`.
    pub until: String,
    /// With `restarted`: the sign of the restart, `new-process`, `exit` or `probe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_when: Option<String>,
    /// Time at which it expires.
    pub expires: Option<String>,
    /// Why it may last longer than expected, and what to do: it waits for a restart, and none is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Body of `POST …/drain`. Durations are written as in the configuration (`"30s"`).
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct DrainRequest {
    /// Deadline, from now. Default: the pool's `drain.deadline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// `resumed` (default) or `restarted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// With `restarted`: the sign of the restart, `new-process` (default), `exit` or `probe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarted_when: Option<String>,
    /// Time after which it expires, from now. Default: never for operators, deadline + 60 s for supervisors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Reason, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `operator` (default) or `supervisor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// ID, by which this actor's drains are told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Whether the response comes only when the drain has ended (default: true).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<bool>,
}

/// Response to `POST …/drain`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct DrainResponse {
    /// `drained`, `timed_out`, `died`, `resumed`, or `asked` if the client did not wait.
    pub outcome: String,
    /// Number of requests still in flight.
    pub in_flight: u32,
    /// Number of requests cut at the deadline.
    pub cut: u32,
    /// Number of requests cut, by kind.
    #[serde(default)]
    pub cut_by_kind: InFlight,
    /// Number of requests lost with the process, if it died.
    pub lost: u32,
    /// Number of client sessions that were left, if the pool is sticky: they move to other backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
    /// Time until the response, in milliseconds.
    pub waited_ms: u64,
    /// Warning about the drain, which is in force: it could not be saved and would not survive a restart of the
    /// proxy, or it waits for a restart and none is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl DrainResponse {
    /// [`DrainResponse::outcome`] if the client did not wait for the end.
    const ASKED: &str = "asked";

    /// Returns how the drain ended. `None`: the client did not wait for its end, or the outcome is one of another
    /// release.
    pub fn ending(&self) -> Option<DrainOutcome> {
        let (cut, lost) = (self.cut, self.lost);
        let all = [
            DrainOutcome::Drained,
            DrainOutcome::TimedOut { cut },
            DrainOutcome::Died { lost },
            DrainOutcome::Resumed,
        ];
        all.into_iter().find(|one| one.as_str() == self.outcome)
    }

    /// Whether the client did not wait for the end.
    pub fn is_asked_for(&self) -> bool {
        self.outcome == Self::ASKED
    }

    /// Returns the response for a client that does not wait.
    pub(in crate::registry) fn asked() -> Self {
        Self {
            outcome: Self::ASKED.to_owned(),
            in_flight: 0,
            cut: 0,
            cut_by_kind: InFlight::default(),
            lost: 0,
            sessions: None,
            waited_ms: 0,
            warning: None,
        }
    }
}

/// Body of `POST …/resume`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ResumeRequest {
    /// Whether the drains of all actors are lifted, and not only the operator's.
    pub all: bool,
    /// With `actor` or `id`, only this drain is lifted: its actor, `operator` (default) or `supervisor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// ID of that drain. Default: the actor's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Timeout of the wait until the backend is ready (`"30s"`); absent: don't wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
}

/// Body of `PUT …/backends/{name}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// `host:port` or `unix:/path`.
    pub address: String,
    /// Weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Whether it gets requests only while no other backend is ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Zone in which it runs, such as a data centre; absent: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Timeout of the wait until the backend is ready; absent: don't wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
}

/// Body of `POST …/roll`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RollRequest {
    /// User who runs the roll, as text.
    pub by: String,
}

/// Body of `POST …/backends/{name}/lease`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// `host:port` or `unix:/path`.
    pub address: String,
    /// Weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Whether it gets requests only while no other backend is ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Zone in which it runs, such as a data centre; absent: unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Process ID of the app, for display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Identifies the process: a request with the same nonce comes from the same process, and replaces its earlier
    /// lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

/// Body of `POST /v1/leases/{lease}/drain`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct LeaseDrainRequest {
    /// Deadline, from now. Default: the pool's `drain.deadline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Reason, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the response comes only when the drain has ended (default: true). The lease's stream reports the end
    /// in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<bool>,
}

/// One line of a lease's stream.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LeaseEvent {
    /// First line.
    Registered {
        /// ID of the lease, for `/v1/leases/{lease}/drain` and `/v1/lame-duck`.
        lease: String,
        /// The pool.
        pool: String,
        /// Name as shown: `NAME~2` if another backend already has the name.
        name: String,
        /// Number of the process under this name.
        incarnation: u64,
        /// Present state.
        state: String,
    },
    /// The state has changed.
    State {
        /// New state.
        state: String,
        /// Reason, as text.
        reason: String,
        /// Number of requests in flight.
        in_flight: u32,
    },
    /// A drain has ended.
    Drain(DrainResponse),
    /// Sent every 2 s, so that each side notices when the other is gone without closing the connection.
    Alive {
        /// Present state.
        state: String,
        /// Number of requests in flight.
        in_flight: u32,
        /// Result of the last probe, as text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_probe: Option<String>,
    },
    /// Last line: the backend has left, although the connection is open.
    Left,
}

/// One line of `GET /v1/events`, as JSON in `data:`; `event:` is `kind`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct EventView {
    /// Name of an [`EventKind`](crate::registry::event_kind::EventKind).
    pub kind: String,
    /// Time in RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// The pool, if the event concerns one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// The backend, if the event concerns one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Previous value, for `state`, `outlier` (`ready` or `ejected`) and `split`; the mode, for a `pause` that has
    /// ended; `running`, for a `split_plan` that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// New value, for `state`, `outlier` and `split`; the outcome or `unseen`, for `drain`; `begun` or `ended`, for
    /// `roll`; the mode, for a `pause` that begins; `running` or how it ended, for `split_plan`; `finishing` or `over`,
    /// for `sessions`; `listening` or `away`, for `supervisor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Reason, as text.
    pub reason: String,
}
