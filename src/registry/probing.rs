//! What the registry needs of a prober. The registry does not know how one works; `app` brings it.

use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;
use crate::config;

/// Starts a prober for each backend.
pub trait ProbeStarter: Send {
    /// Starts probing `endpoint`; results go to the registry's handle. Dropping the result stops it.
    fn start(
        &self,
        endpoint: Arc<Endpoint>,
        health: Arc<config::HealthConfig>,
        cadence: ProbeCadence,
    ) -> Box<dyn BackendProber>;
}

/// One backend's prober.
pub trait BackendProber: Send {
    /// Probe at once.
    fn now(&self);
    /// Probe like this from now on.
    fn set(&self, cadence: ProbeCadence);
}

/// How often to probe, and whether the probe's connection may stay open in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeCadence {
    /// Between probes.
    pub interval: Duration,
    /// False while draining: nothing of ours may keep the app from stopping.
    pub keep: bool,
    /// The whole pool gets this at the same moment, without a doubt about any backend: a prober whose next probe is
    /// overdue by the new interval takes its turn within it, so that not all probe at once.
    pub in_turn: bool,
}
