//! What the registry tells people: the JSON of the admin API and of `status --json`, both ways.

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
    /// Its name.
    pub name: String,
    /// As `balance` in the configuration.
    pub balance: String,
    /// Backends that take requests now.
    pub eligible: usize,
    /// Requests that wait because nothing is eligible.
    pub held: usize,
    /// Its backends, by name and age.
    pub backends: Vec<BackendView>,
    /// It is paused: nothing new goes to its backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseView>,
    /// Its part in the splits of routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<PoolShareView>,
    /// Why drains and registrations would not survive a restart of the proxy, where `state_dir` is set and can't be
    /// written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsaved: Option<String>,
    /// Where its backends come from by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub discovery: Vec<DiscoveryView>,
    /// The supervisor that is listened to; absent: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<SupervisorView>,
}

/// A pool's pause. Times are RFC 3339, UTC.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PauseView {
    /// `hold`: requests wait; `page`: they are answered with a page.
    pub mode: String,
    /// Since when.
    pub since: String,
    /// When it ends by itself; absent: somebody has to end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The page's status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why.
    pub reason: String,
}

/// Body of `POST …/pause`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct PauseRequest {
    /// It ends by itself after this time (`"5m"`). Default: 5 minutes; with `page`, never.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub length: Option<String>,
    /// The page that requests are answered with; absent: they are held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// With `page`: its status, 503 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// With `page`: its media type, `text/html; charset=utf-8` by default.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Answer of `POST …/pause` and `DELETE …/pause`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PauseResponse {
    /// Whether the pool was paused before.
    pub was_paused: bool,
    /// Its pause now; absent: it is not paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<PauseView>,
    /// Requests that wait.
    pub held: usize,
    /// Why a restart of the proxy would forget it, though it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// A pool's part in the split of a route.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PoolShareView {
    /// The route: its name; what it matches, where it has none.
    pub route: String,
    /// Its weight…
    pub weight: u32,
    /// …of so much in all…
    pub of: u64,
    /// …and its weight in the configuration.
    pub configured: u32,
    /// The plan that moves this pool's share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanShareView>,
}

/// How far a plan is that moves a pool's share.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PlanShareView {
    /// The share at its end, in percent.
    pub to: f64,
    /// The step under way, from 1…
    pub step: u32,
    /// …of so many.
    pub steps: u32,
    /// When it will be done, RFC 3339.
    pub ends: String,
}

/// The split of one route, and the answer to its change.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct SplitView {
    /// The route's name.
    pub route: String,
    /// The weights in force, by pool.
    pub weights: BTreeMap<String, u32>,
    /// Those of the configuration.
    pub configured: BTreeMap<String, u32>,
    /// Since when others are in force than the configuration's; RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
    /// The plan that moves them, or the last one that did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanView>,
    /// Why a restart of the proxy would forget it, though it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Body of `PUT /v1/routes/{route}/split`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SplitRequest {
    /// The new weights, of every pool of the split.
    pub weights: BTreeMap<String, u32>,
}

/// One backend.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct BackendView {
    /// Its number, which no other backend gets while the proxy runs: with `incarnation`, it tells one process from
    /// every other.
    #[serde(default)]
    pub id: u64,
    /// Its name; the second of two with the same name is shown `NAME~2`.
    pub name: String,
    /// `host:port` or `unix:/path`.
    pub address: String,
    /// Its share.
    pub weight: u32,
    /// It gets requests only while no other is ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Where it is; absent where nobody has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Counts the processes that were behind this backend.
    pub incarnation: u64,
    /// `ready`, `starting`, `down`, `draining` or `drained`.
    pub state: String,
    /// Since when it has been in that state, as far as this process knows; RFC 3339, UTC.
    #[serde(default)]
    pub since: String,
    /// `starting`, `up` or `down`.
    pub health: String,
    /// Where it came from: `config`, `api` or `lease`.
    pub source: String,
    /// The last probe's result, for people: `200 in 1.2ms`, `connection refused`, …
    pub last_probe: Option<String>,
    /// Open drains.
    pub drains: Vec<DrainView>,
    /// It is ready, and gets no new requests for a while, because others do better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejected: Option<EjectionView>,
    /// In the answer to a resume: the ejection that it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ejection: Option<EjectionView>,
    /// In flight: requests, streams and upgrades together.
    pub in_flight: u32,
    /// The same by kind.
    #[serde(default)]
    pub in_flight_by_kind: InFlight,
    /// Of those in flight, streams on HTTP/2 connections to it.
    #[serde(default)]
    pub h2_streams: u32,
    /// What has been in flight for longest, while it takes no new requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<OldestView>,
    /// Sessions of clients that stay with it, where its pool is sticky and there has been one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
    /// Open connections of ours to it, the probe's included.
    pub connections: u32,
    /// Requests sent to it since the proxy started.
    pub requests: u64,
    /// In an answer to a change: why that would not survive a restart of the proxy, though it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Why a backend gets no new requests, though it is ready. Times are RFC 3339, UTC.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct EjectionView {
    /// Why, for people.
    pub reason: String,
    /// `consecutive_errors`, `error_rate` or `latency`.
    pub cause: String,
    /// Since when.
    pub since: String,
    /// When it comes back, if nothing happens before.
    pub until: String,
    /// The how manieth time it is, of those that good times have not made up for.
    pub times: u32,
}

/// One drain. Times are RFC 3339, UTC.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct DrainView {
    /// `app`, `supervisor`, `operator` or `config`.
    pub actor: String,
    /// Tells this actor's drains apart.
    pub id: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: String,
    /// When what is in flight is cut.
    pub deadline: Option<String>,
    /// `resumed` or `restarted`.
    pub until: String,
    /// With `restarted`: what shows the restart, `new-process`, `exit` or `probe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_when: Option<String>,
    /// When it ends by itself.
    pub expires: Option<String>,
    /// Why it may last longer than its asker thinks, and what to do: it waits for a restart, and none is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// Body of `POST …/drain`. Durations as in the config (`"30s"`).
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct DrainRequest {
    /// The deadline, from now; the pool's `drain.deadline` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// `resumed` (default) or `restarted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// With `restarted`, what shows the restart: `new-process` (default), `exit` or `probe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarted_when: Option<String>,
    /// When it ends by itself, from now. Default: never for operators, deadline + 60 s for supervisors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `operator` (default) or `supervisor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Tells this actor's drains apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Answer only when it ended (default true).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<bool>,
}

/// Answer of `POST …/drain`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct DrainResponse {
    /// `drained`, `timed_out`, `died`, `resumed`, or `asked` where nobody waited.
    pub outcome: String,
    /// Still in flight.
    pub in_flight: u32,
    /// Cut at the deadline.
    pub cut: u32,
    /// The same by kind.
    #[serde(default)]
    pub cut_by_kind: InFlight,
    /// Lost with the process, where it died.
    pub lost: u32,
    /// Sessions of clients that were still there, where its pool is sticky: they go elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
    /// How long the answer took.
    pub waited_ms: u64,
    /// What to know about the drain, though it is in force: it could not be saved and would not survive a restart of
    /// the proxy, or it waits for a restart and none is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl DrainResponse {
    /// [`DrainResponse::outcome`] where nobody waited for the end.
    const ASKED: &str = "asked";

    /// How the drain ended. `None`: nobody waited for its end, or it ended in a way that another release knows.
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

    /// Whether nobody waited for the end.
    pub fn is_asked_for(&self) -> bool {
        self.outcome == Self::ASKED
    }

    /// The answer where nobody waits.
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
    /// Lift everybody's drains, not only the operator's.
    pub all: bool,
    /// With `actor` or `id`, only this one drain is lifted: `operator` (default) or `supervisor`…
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// …and its id, by default the actor's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Wait this long until it is ready (`"30s"`); absent: don't wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
}

/// Body of `PUT …/backends/{name}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// `host:port` or `unix:/path`.
    pub address: String,
    /// Its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// It gets requests only while no other is ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Where it is, such as a data centre; absent: nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Wait this long until it is ready; absent: don't wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<String>,
}

/// Body of `POST …/roll`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct RollRequest {
    /// Who rolls, for people.
    pub by: String,
}

/// Body of `POST …/backends/{name}/lease`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// `host:port` or `unix:/path`.
    pub address: String,
    /// Its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// It gets requests only while no other is ready.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// Where it is, such as a data centre; absent: nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The app's process, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Tells this process from every other one: who asks again with the same one is the same process, and takes
    /// the place of its earlier lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

/// Body of `POST /v1/leases/{lease}/drain`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct LeaseDrainRequest {
    /// The deadline, from now; the pool's `drain.deadline` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Answer only when it ended (default true). The lease's stream tells the end in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<bool>,
}

/// One line of a lease's stream.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LeaseEvent {
    /// The first line.
    Registered {
        /// The lease's id, for `/v1/leases/{lease}/drain` and for `/v1/lame-duck`.
        lease: String,
        /// The pool.
        pool: String,
        /// The name as shown: `NAME~2` where another one has the name already.
        name: String,
        /// Counts the processes under this name.
        incarnation: u64,
        /// Its state now.
        state: String,
    },
    /// The state changed.
    State {
        /// The new one.
        state: String,
        /// Why, for people.
        reason: String,
        /// In flight.
        in_flight: u32,
    },
    /// A drain ended.
    Drain(DrainResponse),
    /// Sent every 2 s, so that each side notices when the other one is gone without a word.
    Alive {
        /// Its state now.
        state: String,
        /// In flight.
        in_flight: u32,
        /// The last probe's result, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_probe: Option<String>,
    },
    /// The last line: the backend has left, though the connection holds.
    Left,
}

/// One line of `GET /v1/events`, as JSON in `data:`; `event:` is `kind`.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct EventView {
    /// `state`, `drain`, `registered`, `deregistered`, `config`, `lame_duck`, `roll`, `pause`, `split`, `split_plan`,
    /// `sessions`, `outlier`, `supervisor`.
    pub kind: String,
    /// RFC 3339, UTC, with milliseconds.
    pub time: String,
    /// Where it concerns one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Where it concerns one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Before, for `state` and `outlier` (`ready` or `ejected`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// After, for `state`; the outcome, for `drain`; `finishing` or `over`, for `sessions`, `outlier`; `listening` or `away`,
    /// for `supervisor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why, for people.
    pub reason: String,
}
