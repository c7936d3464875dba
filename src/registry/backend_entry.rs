//! A backend as the registry keeps it: its source, its prober, and the requests that wait for its drain.

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

/// Source of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackendSource {
    /// The configuration file, or `--backend`.
    Config,
    /// The `register` command, or the API.
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

/// A request that waits for the end of a drain.
pub(super) type DrainWaiter = oneshot::Sender<DrainResponse>;

/// A backend, with everything that the core does not need to know.
pub(super) struct BackendEntry {
    /// The backend as the data plane sees it.
    pub endpoint: Arc<Endpoint>,
    /// Name without `~2`. Unique in the pool among backends that are not leaving.
    pub base: String,
    /// Where the backend came from.
    pub source: BackendSource,
    /// The discovery source that names the backend, if one does.
    pub discovery: Option<Arc<str>>,
    /// Whether it gets requests only while no other backend is ready.
    pub is_backup: bool,
    /// Zone in which the backend runs.
    pub zone: Option<String>,
    /// The lease under which the backend was added, if any.
    pub tenure: Option<LeaseRecord>,
    /// User (uid) that owns the backend, if it was registered through the socket for apps.
    pub owner: Option<u32>,
    /// Prober of the backend.
    pub prober: Box<dyn BackendProber>,
    /// Cadence that the prober was last given.
    pub cadence: ProbeCadence,
    /// Result of the last probe, as text.
    pub last_probe: Option<String>,
    /// Whether the first probe has ended.
    pub probed: bool,
    /// Requests that wait for the end of the drain.
    pub waiters: Vec<DrainWaiter>,
    /// Requests that the last deadline cut.
    pub cut: InFlight,
    /// Time at which the backend entered its present state.
    pub state_since: Time,
    /// Time at which the present drain began.
    pub draining_since: Option<Time>,
    /// Whether the backend is removed once it has drained; this can't be undone.
    pub leaving: bool,
    /// For each drain, the processes whose end it waits for.
    pub awaited: BTreeMap<(DrainActor, String), ServingProcesses>,
    /// Requests that previous processes have sent to the backend.
    pub requests_before: u64,
    /// Present ejection, if any: the backend gets no new requests for a while, although it is ready.
    pub ejection: Option<Ejection>,
    /// Records the backend's restarts.
    pub recorder: RestartRecorder,
}

impl BackendEntry {
    /// Adds a request that waits for the end of the drain. Drops those whose clients have gone.
    pub(super) fn wait(&mut self, waiter: DrainWaiter) {
        self.waiters.retain(|waiter| !waiter.is_closed());
        self.waiters.push(waiter);
    }

    /// Returns the answer for the requests that wait.
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

    /// Whether a drain applies to the backend's name, and not only to the process behind it now: drains that the app,
    /// a lease or a discovery source has ordered end with that process.
    pub(super) fn outlives(&self, drain: &OpenDrain) -> bool {
        let leases =
            |tenure: &LeaseRecord| drain.actor == DrainActor::Supervisor && drain.id == tenure.id();
        let is_of_source = self.source == BackendSource::Discovery && is_word_of_source(drain);
        drain.actor != DrainActor::App && !is_of_source && !self.tenure.as_ref().is_some_and(leases)
    }

    /// Returns the number of requests that were sent to the backend, by this process and previous ones.
    pub(super) fn requests(&self) -> u64 {
        let own = self.endpoint.counters.requests();
        self.requests_before.saturating_add(own)
    }

    /// Passes a new cadence on to the prober.
    pub(super) fn set_cadence(&mut self, cadence: ProbeCadence) {
        let to_do = |cadence: ProbeCadence| (cadence.interval, cadence.keep);
        if to_do(self.cadence) != to_do(cadence) {
            self.cadence = cadence;
            self.prober.set(cadence);
        }
    }

    /// Returns the backend as the API shows it.
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

/// Returns the ejection as the API shows it.
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
