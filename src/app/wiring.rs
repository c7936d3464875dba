//! The joints: what one part needs of another, put together here so that they need not know each other.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::warn;

use super::lifecycle::Lifecycle;
use crate::config::{self, Config};
use crate::probe;
use crate::registry::persist;
use crate::registry::probing::{Cadence, Prober, Probing};
use crate::registry::view::DrainResponse;
use crate::registry::{Endpoint, Handle, Observer};

/// Starts probers that report to the registry.
pub fn probing(handle: &Handle) -> Box<dyn Probing> {
    Box::new(Probes(Arc::new(handle.clone())))
}

struct Probes(Arc<Handle>);

impl Probing for Probes {
    fn start(
        &self,
        endpoint: Arc<Endpoint>,
        health: Arc<config::Health>,
        cadence: Cadence,
    ) -> Box<dyn Prober> {
        let (sender, receiver) = watch::channel(cadence);
        let target = probe::Target { endpoint, health };
        Box::new(Probe {
            prober: probe::spawn(target, receiver, self.0.clone()),
            cadence: sender,
        })
    }
}

struct Probe {
    prober: probe::Prober,
    cadence: watch::Sender<Cadence>,
}

impl Prober for Probe {
    fn now(&self) {
        self.prober.probe_now();
    }

    fn set(&self, cadence: Cadence) {
        let _ = self.cadence.send(cadence);
    }
}

/// What the registry tells the process.
pub struct Watcher {
    lifecycle: Arc<Lifecycle>,
    keeper: Option<Arc<Keeper>>,
}

impl Watcher {
    /// Watches; with a keeper, drains and registrations are kept.
    pub fn new(lifecycle: Arc<Lifecycle>, keeper: Option<Arc<Keeper>>) -> Self {
        Self { lifecycle, keeper }
    }
}

impl Observer for Watcher {
    fn first_round_finished(&self) {
        self.lifecycle.first_round_finished();
    }

    fn registered(&self) {
        self.lifecycle.registered();
    }

    fn lease_ended(&self, lease: &str, eligible: usize) {
        self.lifecycle.lease_ended(lease, eligible);
    }

    fn persist(&self, state: persist::State) {
        if let Some(keeper) = &self.keeper {
            keeper.newest.send_replace(Some(state));
        }
    }

    fn drain_ended(&self, pool: &str, response: &DrainResponse) {
        self.lifecycle.drain_ended(pool, response);
    }
}

/// Keeps drains and registrations in `state_dir`.
pub struct Keeper {
    dir: PathBuf,
    newest: watch::Sender<Option<persist::State>>,
    /// One save at a time: they share the temporary file.
    saving: Mutex<()>,
}

impl Keeper {
    /// Keeps them in `dir`. A slow disk skips versions; it never delays the registry.
    pub fn start(dir: PathBuf) -> Arc<Self> {
        let keeper = Arc::new(Self {
            dir,
            newest: watch::Sender::new(None),
            saving: Mutex::new(()),
        });
        let (mut newest, saver) = (keeper.newest.subscribe(), keeper.clone());
        tokio::spawn(async move {
            while newest.changed().await.is_ok() {
                let saver = saver.clone();
                let _ = tokio::task::spawn_blocking(move || saver.save()).await;
            }
        });
        keeper
    }

    /// Writes the newest state. To be called at the end, too: the last change may be younger than the last save.
    pub fn save(&self) {
        let _turn = self.saving.lock();
        let newest = self.newest.borrow().clone();
        if let Some(state) = newest
            && let Err(error) = persist::save(&self.dir, &state)
        {
            warn!(%error, "drains and registrations could not be saved: a restart of the proxy would forget them");
        }
    }
}

/// The configuration with the names that unnamed backends had in the earlier run, so that a drain holds for the
/// address that it was asked for, whatever was removed from the file since.
pub fn keep_backend_names(config: Arc<Config>, kept: &persist::State) -> Arc<Config> {
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

/// What an earlier run of the proxy kept.
pub fn restore(config: &Config) -> anyhow::Result<persist::State> {
    Ok(match &config.server.state_dir {
        Some(dir) => persist::load(dir)?,
        None => persist::State::default(),
    })
}
