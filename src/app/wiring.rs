//! Connects parts of the program that need each other but must not know each other.

use std::sync::Arc;

use tokio::sync::watch;

use super::lifecycle::ProcessLifecycle;
use super::renewal;
use super::state_saver::StateSaver;
use crate::config::{self, Config};
use crate::discovery;
use crate::probe;
use crate::proxy::data_plane::DataPlane;
use crate::registry::persist;
use crate::registry::probing::{BackendProber, ProbeCadence, ProbeStarter};
use crate::registry::saves::SaveLedger;
use crate::registry::view::DrainResponse;
use crate::registry::{Endpoint, RegistryHandle, RegistryObserver};
use crate::rt::panics;
use crate::rt::vitals::{BEAT, ProcessVitals};
use crate::server::quiet::{self, QuietPeriod};
use crate::server::reaper;
use crate::supervisor;
use crate::tls;

/// Returns a starter of probers, which report to the registry.
pub(super) fn probing(handle: &RegistryHandle) -> Box<dyn ProbeStarter> {
    Box::new(ProbeFactory(Arc::new(handle.clone())))
}

struct ProbeFactory(Arc<RegistryHandle>);

impl ProbeStarter for ProbeFactory {
    fn start(
        &self,
        endpoint: Arc<Endpoint>,
        health: Arc<config::HealthConfig>,
        cadence: ProbeCadence,
    ) -> Box<dyn BackendProber> {
        let (sender, receiver) = watch::channel(cadence);
        let target = probe::ProbeTarget {
            endpoint,
            health,
            own: self.0.own_listeners().clone(),
        };
        Box::new(ProbeReporter {
            prober: probe::spawn(target, receiver, self.0.clone()),
            cadence: sender,
        })
    }
}

struct ProbeReporter {
    prober: probe::RunningProber,
    cadence: watch::Sender<ProbeCadence>,
}

impl BackendProber for ProbeReporter {
    fn now(&self) {
        self.prober.probe_now();
    }

    fn set(&self, cadence: ProbeCadence) {
        let _ = self.cadence.send(cadence);
    }
}

/// Passes the registry's events on to the process.
pub(super) struct RegistryWatcher {
    lifecycle: Arc<ProcessLifecycle>,
    saver: Option<Arc<StateSaver>>,
}

impl RegistryWatcher {
    /// Creates the watcher; with a saver, drains and registrations are saved.
    pub(super) fn new(lifecycle: Arc<ProcessLifecycle>, saver: Option<Arc<StateSaver>>) -> Self {
        Self { lifecycle, saver }
    }
}

impl RegistryObserver for RegistryWatcher {
    fn first_round_finished(&self, ready: usize, all: usize) {
        self.lifecycle.first_round_finished(ready, all);
    }

    fn registered(&self) {
        self.lifecycle.registered();
    }

    fn lease_ended(&self, lease: &str, eligible: usize) {
        self.lifecycle.lease_ended(lease, eligible);
    }

    fn persist(&self, state: persist::KeptState) {
        if let Some(saver) = &self.saver {
            saver.keep(state);
        }
    }

    fn saves(&self) -> Option<Arc<SaveLedger>> {
        self.saver.as_ref().map(|saver| saver.saves())
    }

    fn drain_ended(&self, pool: &str, response: &DrainResponse) {
        self.lifecycle.drain_ended(pool, response);
    }

    fn plan_ended(&self, outcome: &'static str) {
        self.lifecycle.plan_ended(outcome);
    }
}

/// Starts the tasks that run on the control thread for as long as the process, and the watch over them.
pub(super) fn keep_tasks(
    vitals: &Arc<ProcessVitals>,
    lifecycle: &Arc<ProcessLifecycle>,
    registry: &RegistryHandle,
    plane: &Arc<DataPlane>,
) {
    let beating = vitals.clone();
    let beat = move || beat(beating.clone());
    tokio::spawn(panics::restart("the heartbeat", beat));
    let (ended, of) = (vitals.clone(), registry.clone());
    tokio::spawn(async move {
        of.ended().await;
        ended.lost("the registry", "its task has ended");
    });
    let of = registry.clone();
    let follow = move || discovery::keep_sources(of.clone());
    tokio::spawn(panics::restart("the discovery of backends", follow));
    let of = registry.clone();
    let listen = move || supervisor::watch_supervisors(of.clone());
    tokio::spawn(panics::restart("the watch over supervisors", listen));
    let of = plane.clone();
    let reap = move || reaper::reap_idle(of.clone());
    tokio::spawn(panics::restart("the reaper of idle connections", reap));
    let of = plane.certificates.clone();
    let watch = move || tls::watch::watch_files(of.clone());
    tokio::spawn(panics::restart("the watch over certificates", watch));
    let (of, registry, certificates) = (
        lifecycle.clone(),
        registry.clone(),
        plane.certificates.clone(),
    );
    let renew = move || renewal::renew_clients(of.clone(), registry.clone(), certificates.clone());
    tokio::spawn(panics::restart("the renewal of client certificates", renew));
    #[cfg(feature = "acme")]
    {
        let (of, inventory) = (lifecycle.clone(), plane.certificates.clone());
        let keep = move || {
            let of = of.clone();
            crate::acme::keep_certificates(move || of.config(), inventory.clone())
        };
        tokio::spawn(panics::restart("the orders of certificates", keep));
    }
}

/// Starts to detect quiet periods, for lame-duck phases that last until no new requests arrive.
pub(super) fn listen_for_silence(
    lifecycle: &ProcessLifecycle,
    plane: &Arc<DataPlane>,
) -> Arc<QuietPeriod> {
    let ear = QuietPeriod::new(plane.clone(), &lifecycle.config().server);
    lifecycle.listens(ear.clone());
    let of = ear.clone();
    let listen = move || quiet::keep_listening(of.clone());
    tokio::spawn(panics::restart("the watch for silence", listen));
    ear
}

async fn beat(vitals: Arc<ProcessVitals>) {
    let mut round = tokio::time::interval(BEAT);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        round.tick().await;
        vitals.beat();
    }
}

/// Returns the configuration with the names that unnamed backends had in the earlier run, so that a drain applies to
/// the address for which it was requested, even if the file has changed since.
pub(super) fn keep_backend_names(config: Arc<Config>, kept: &persist::KeptState) -> Arc<Config> {
    let known: Vec<_> = kept
        .drains
        .iter()
        .filter_map(|kept| Some((kept, kept.address.as_ref()?.parse().ok()?)))
        .collect();
    if known.is_empty() {
        return config;
    }
    let mut config = Arc::unwrap_or_clone(config);
    config.keep_backend_names(
        known
            .iter()
            .map(|(kept, address)| (kept.pool.as_str(), kept.backend.as_str(), address)),
    );
    Arc::new(config)
}

/// Returns the source of the key that signs session tokens, for pools without a key of their own.
pub(super) fn own_key(config: &Config) -> anyhow::Result<persist::OwnKeySource> {
    let dir = config.server.state_dir.as_deref();
    Ok(persist::OwnKeySource::new(dir)?)
}

/// Reads the state that an earlier run of the proxy has saved.
pub(super) fn restore(config: &Config) -> anyhow::Result<persist::KeptState> {
    Ok(match &config.server.state_dir {
        Some(dir) => persist::load(dir)?,
        None => persist::KeptState::default(),
    })
}
