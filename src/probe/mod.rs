//! Health checks: one task for each backend probes it, and keeps one idle connection open, the *sentinel*, because its
//! end is the first sign of a process that stops.
//!
//! Probes decide nothing: each result goes to [`ProbeReport::report`].

mod connect;
mod grpc;
mod http;
mod http1;
mod http2;
mod identity;
mod jitter;
mod resolve;
mod sentinel;
mod task;
mod tcp;
mod verdict;

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::config;
use crate::core::backend::BackendEvent;
use crate::registry::own_listeners::OwnListeners;
use crate::registry::{BackendKey, Endpoint, RegistryHandle};
use crate::rt::owned_task::OwnedTask;
use crate::rt::panics;

pub use crate::registry::probing::ProbeCadence;

/// What to probe, and how.
#[derive(Debug, Clone)]
pub struct ProbeTarget {
    /// The backend. Probes use its resolved address, and are counted among its connections.
    pub endpoint: Arc<Endpoint>,
    /// Settings of `[pool.health]`.
    pub health: Arc<config::HealthConfig>,
    /// Listeners of this proxy: no backend may be at such an address.
    pub own: OwnListeners,
}

/// Receiver of each probe's result: the registry, or a channel in tests.
pub trait ProbeReport: Send + Sync + 'static {
    /// Receives a [`BackendEvent::Probed`] or [`BackendEvent::PeerClosed`], with a line of text for users.
    fn report(&self, key: BackendKey, event: BackendEvent, detail: String);
}

impl ProbeReport for RegistryHandle {
    fn report(&self, key: BackendKey, event: BackendEvent, detail: String) {
        RegistryHandle::report(self, key, event, detail);
    }
}

/// A running prober; dropping it ends its task and closes its connection.
#[derive(Debug)]
pub struct RunningProber {
    wake: Arc<Notify>,
    _task: OwnedTask,
}

impl RunningProber {
    /// Starts a probe without waiting for its time. Many calls together start one probe: only one runs at a time, and
    /// at least 20 ms lie between two starts.
    pub fn probe_now(&self) {
        self.wake.notify_one();
    }
}

/// Starts probing: at once, or within the first interval if the backend takes requests already. Must be called on a
/// tokio runtime (the control runtime).
pub fn spawn(
    target: ProbeTarget,
    cadence: watch::Receiver<ProbeCadence>,
    reporter: Arc<dyn ProbeReport>,
) -> RunningProber {
    let wake = Arc::new(Notify::new());
    let woken = wake.clone();
    let start = move || {
        let (target, cadence) = (target.clone(), cadence.clone());
        task::ProbeTask::new(target, cadence, reporter.clone(), woken.clone()).run_probes()
    };
    // The task is restarted after a panic, because a backend without a prober would keep its state for ever.
    RunningProber {
        wake,
        _task: OwnedTask::spawn(panics::restart("prober", start)),
    }
}

#[cfg(test)]
mod tests;
