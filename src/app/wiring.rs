//! The joints: what one part needs of another, put together here so that they need not know each other.

use std::path::PathBuf;
use std::sync::Arc;

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
    keeper: Option<watch::Sender<persist::State>>,
}

impl Watcher {
    /// Watches; with a `state_dir`, keeps drains and registrations there.
    pub fn new(lifecycle: Arc<Lifecycle>, state_dir: Option<PathBuf>) -> Self {
        let keeper = state_dir.map(|dir| {
            let (sender, receiver) = watch::channel(persist::State::default());
            tokio::spawn(keep(dir, receiver));
            sender
        });
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

    fn persist(&self, state: persist::State) {
        if let Some(keeper) = &self.keeper {
            let _ = keeper.send(state);
        }
    }

    fn drain_ended(&self, pool: &str, response: &DrainResponse) {
        self.lifecycle.drain_ended(pool, response);
    }
}

/// Writes the newest state whenever it changes; a slow disk skips versions, it never delays the registry.
async fn keep(dir: PathBuf, mut states: watch::Receiver<persist::State>) {
    while states.changed().await.is_ok() {
        let state = states.borrow_and_update().clone();
        let dir = dir.clone();
        let saved = tokio::task::spawn_blocking(move || persist::save(&dir, &state)).await;
        if let Ok(Err(error)) = saved {
            warn!(%error, "drains and registrations could not be saved: a restart of the proxy would forget them");
        }
    }
}

/// What an earlier run of the proxy kept.
pub fn restore(config: &Config) -> anyhow::Result<persist::State> {
    Ok(match &config.server.state_dir {
        Some(dir) => persist::load(dir)?,
        None => persist::State::default(),
    })
}
