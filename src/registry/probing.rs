//! Interface between the registry and probers. The registry does not know how a prober works; `app` provides it.

use std::sync::Arc;
use std::time::Duration;

use super::endpoint::Endpoint;
use crate::config;

/// Starts a prober for each backend.
pub trait ProbeStarter: Send {
    /// Starts probing `endpoint`; results go to the registry's handle. Dropping the prober stops it.
    fn start(
        &self,
        endpoint: Arc<Endpoint>,
        health: Arc<config::HealthConfig>,
        cadence: ProbeCadence,
    ) -> Box<dyn BackendProber>;
}

/// One backend's prober.
pub trait BackendProber: Send {
    /// Probes at once.
    fn now(&self);
    /// Sets the cadence from now on.
    fn set(&self, cadence: ProbeCadence);
}

/// Interval of probes, and whether the probe's connection may stay open between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeCadence {
    /// Time between probes.
    pub interval: Duration,
    /// Whether the connection stays open. `false` while draining: the proxy must not keep the app from stopping.
    pub keep: bool,
    /// Whether the whole pool gets this cadence at the same moment, without suspicion against any backend. A prober
    /// whose next probe is overdue by the new interval then probes at its turn within the interval, so that not all
    /// probe at once.
    pub in_turn: bool,
}
