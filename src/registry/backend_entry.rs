//! One backend as the registry keeps it: its source, its prober, and the requests that wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::discovery::is_word_of_source;
use super::endpoint::Endpoint;
use super::lease::LeaseRecord;
use super::probing::{BackendProber, ProbeCadence};
use super::restart_watch;
use super::view::{BackendView, DrainResponse, EjectionView, InFlight};
use crate::core::Time;
use crate::core::backend::BackendState;
use crate::core::drain::{DrainActor, DrainOutcome, OpenDrain};
use crate::core::outlier::Ejection;
use crate::core::restart::RestartRecorder;
use crate::net::serving::ServingProcesses;
use crate::rt::clock;

/// Where a backend came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackendSource {
    /// The configuration file (or `--backend`).
    Config,
    /// `register` or the API.
    Api,
    /// A launcher's lease.
    Lease,
    /// A source of `[[pool.discovery]]`.
    Discovery,
}

impl BackendSource {
    fn as_str(self) -> &'static str {
        match self {
            BackendSource::Config => "config",
            BackendSource::Api => "api",
            BackendSource::Lease => "lease",
            BackendSource::Discovery => "discovery",
        }
    }
}

/// A request that waits for a drain's end.
pub(super) type DrainWaiter = oneshot::Sender<DrainResponse>;

/// One backend, with what the core does not need to know.
pub(super) struct BackendEntry {
    /// The data plane's side.
    pub endpoint: Arc<Endpoint>,
    /// Its name without `~2`. Among those that stay, it is unique in the pool.
    pub base: String,
    /// Where it came from.
    pub source: BackendSource,
    /// The source that names it, where one does.
    pub discovery: Option<Arc<str>>,
    /// It gets requests only while no other is ready.
    pub is_backup: bool,
    /// Where it is.
    pub zone: Option<String>,
    /// The lease that it is there for.
    pub tenure: Option<LeaseRecord>,
    /// The user whose it is, where it came through the socket for apps.
    pub owner: Option<u32>,
    /// Its prober.
    pub prober: Box<dyn BackendProber>,
    /// What the prober was last told.
    pub cadence: ProbeCadence,
    /// The last probe, for people.
    pub last_probe: Option<String>,
    /// The first probe has ended.
    pub probed: bool,
    /// Those who wait for the drain's end.
    pub waiters: Vec<DrainWaiter>,
    /// What the last deadline has cut.
    pub cut: InFlight,
    /// Since when it has been in its state.
    pub state_since: Time,
    /// Since when it drains.
    pub draining_since: Option<Time>,
    /// It goes when it has drained, and nothing brings it back.
    pub leaving: bool,
    /// By drain: the processes whose end it waits for.
    pub awaited: BTreeMap<(DrainActor, String), ServingProcesses>,
    /// What processes before this one have sent to it.
    pub requests_before: u64,
    /// It gets no new requests for a while, though it is ready.
    pub ejection: Option<Ejection>,
    /// Writes its restarts down.
    pub recorder: RestartRecorder,
}

impl BackendEntry {
    /// Adds a request that waits for the drain's end. Those whose clients have gone are dropped.
    pub(super) fn wait(&mut self, waiter: DrainWaiter) {
        self.waiters.retain(|waiter| !waiter.is_closed());
        self.waiters.push(waiter);
    }

    /// The answer for the requests that wait.
    pub(super) fn ending(&self, outcome: DrainOutcome) -> DrainResponse {
        let waited = self
            .draining_since
            .map(|since| clock::now().saturating_sub(since));
        let (cut, lost) = match outcome {
            DrainOutcome::Drained | DrainOutcome::Resumed => (0, 0),
            DrainOutcome::TimedOut { cut } => (cut, 0),
            DrainOutcome::Died { lost } => (0, lost),
        };
        DrainResponse {
            outcome: outcome.as_str().to_owned(),
            in_flight: self.endpoint.gate.in_flight(),
            cut,
            cut_by_kind: match outcome {
                DrainOutcome::TimedOut { .. } => self.cut,
                _ => InFlight::default(),
            },
            lost,
            sessions: self.endpoint.holders.count_if_any(clock::now()),
            waited_ms: waited.unwrap_or_default().as_millis() as u64,
            warning: None,
        }
    }

    /// Whether a drain concerns the backend's name, and not only what is behind it now: the app's own word and
    /// a lease's drain end with the process, and so does what its source says of it.
    pub(super) fn outlives(&self, drain: &OpenDrain) -> bool {
        let leases =
            |tenure: &LeaseRecord| drain.actor == DrainActor::Supervisor && drain.id == tenure.id();
        let is_of_source = self.source == BackendSource::Discovery && is_word_of_source(drain);
        drain.actor != DrainActor::App && !is_of_source && !self.tenure.as_ref().is_some_and(leases)
    }

    /// Requests that were sent to it, by this process and those before it.
    pub(super) fn requests(&self) -> u64 {
        let own = self.endpoint.counters.requests();
        self.requests_before.saturating_add(own)
    }

    /// Passes a changed cadence on.
    pub(super) fn set_cadence(&mut self, cadence: ProbeCadence) {
        let to_do = |cadence: ProbeCadence| (cadence.interval, cadence.keep);
        if to_do(self.cadence) != to_do(cadence) {
            self.cadence = cadence;
            self.prober.set(cadence);
        }
    }

    /// As people see it.
    pub(super) fn view(&self, backend: &BackendState) -> BackendView {
        let in_flight = self.endpoint.gate.in_flight();
        BackendView {
            id: self.endpoint.key.0,
            name: self.endpoint.name.to_string(),
            address: self.endpoint.address.to_string(),
            weight: self.endpoint.weight(),
            backup: self.is_backup,
            zone: self.zone.clone(),
            incarnation: backend.incarnation(),
            state: backend.state().as_str().to_owned(),
            since: clock::rfc3339(clock::wall(self.state_since)),
            health: backend.health().as_str().to_owned(),
            source: self.source.as_str().to_owned(),
            last_probe: self.last_probe.clone(),
            drains: backend
                .drains()
                .map(|(_, drain)| {
                    restart_watch::view(&self.endpoint.pool, &self.endpoint.name, drain)
                })
                .collect(),
            in_flight,
            in_flight_by_kind: self.endpoint.kinds.split(in_flight),
            h2_streams: self.endpoint.sessions.streams(),
            oldest: self.endpoint.oldest(),
            sessions: self.endpoint.holders.count_if_any(clock::now()),
            connections: self.endpoint.connections.open(),
            requests: self.requests(),
            ejected: self.ejection.as_ref().map(shown_ejection),
            ended_ejection: None,
            warning: None,
        }
    }
}

/// As people see it.
pub(super) fn shown_ejection(ejection: &Ejection) -> EjectionView {
    let shown = |at| clock::rfc3339(clock::wall(at));
    EjectionView {
        reason: ejection.reason.to_string(),
        cause: ejection.reason.as_str().to_owned(),
        since: shown(ejection.since),
        until: shown(ejection.until),
        times: ejection.times,
    }
}
