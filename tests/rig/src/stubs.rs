//! Parts of a registry's surroundings for tests that need none of them.

use std::sync::Arc;

use lameduck::config::HealthConfig;
use lameduck::registry::probing::{BackendProber, Cadence, Probing};
use lameduck::registry::view::DrainResponse;
use lameduck::registry::{Endpoint, Observer, persist};

/// Probes nothing: backends stay unknown, and thousands of them cost nothing but their registration.
pub struct NoProbes;

impl Probing for NoProbes {
    fn start(&self, _: Arc<Endpoint>, _: Arc<HealthConfig>, _: Cadence) -> Box<dyn BackendProber> {
        Box::new(NoProbes)
    }
}

impl BackendProber for NoProbes {
    fn now(&self) {}
    fn set(&self, _: Cadence) {}
}

/// Takes no notice of anything, and saves nothing.
pub struct NoObserver;

impl Observer for NoObserver {
    fn first_round_finished(&self, _ready: usize, _all: usize) {}
    fn registered(&self) {}
    fn persist(&self, _: persist::KeptState) {}
    fn drain_ended(&self, _: &str, _: &DrainResponse) {}
}
