//! Stand-ins for the surroundings of a registry: for benchmarks, tests, and programs that embed a registry alone.

use std::sync::Arc;

use super::probing::{BackendProber, ProbeCadence, ProbeStarter};
use super::view::DrainResponse;
use super::{Endpoint, RegistryObserver, persist};
use crate::config::HealthConfig;

/// Makes no probes: backends stay as they are, and cost nothing apart from their registration.
#[derive(Debug, Clone, Copy)]
pub struct NoProbes;

impl ProbeStarter for NoProbes {
    fn start(
        &self,
        _: Arc<Endpoint>,
        _: Arc<HealthConfig>,
        _: ProbeCadence,
    ) -> Box<dyn BackendProber> {
        Box::new(NoProbes)
    }
}

impl BackendProber for NoProbes {
    fn now(&self) {}
    fn set(&self, _: ProbeCadence) {}
}

/// Ignores all reports, and saves nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoObserver;

impl RegistryObserver for NoObserver {
    fn first_round_finished(&self, _ready: usize, _all: usize) {}
    fn registered(&self) {}
    fn persist(&self, _: persist::KeptState) {}
    fn drain_ended(&self, _: &str, _: &DrainResponse) {}
}
