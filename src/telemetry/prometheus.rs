//! Metrics for Prometheus. The request path adds to plain atomics that hang where it already is (a pool, a backend,
//! the plane); labels are added when the metrics are scraped. Series of a backend that has left disappear with its
//! counters.

pub mod carried;
mod certificates;
mod collect;
mod discovery;
mod families;
mod outliers;
mod sessions;
mod supervisors;
mod traces;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::TextEncoder;
use prometheus::process_collector::ProcessCollector;

use crate::metrics::{Histogram, PlaneCounters};
use crate::registry::RegistryHandle;
use crate::registry::view::DrainResponse;
use crate::rt::vitals::ProcessVitals;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::spans::Tracer;
use crate::tls::server::CertificateInventory;

use carried::CarriedCounters;

/// Everything that is counted, and its text form. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<MetricsInner>);

struct MetricsInner {
    registry: RegistryHandle,
    plane: Arc<PlaneCounters>,
    drains: Mutex<BTreeMap<String, EndedDrains>>,
    /// Plans that moved a split and have ended, by outcome.
    plans: Mutex<BTreeMap<&'static str, u64>>,
    reloads_applied: AtomicU64,
    reloads_refused: AtomicU64,
    attached: OnceLock<Attached>,
    certificates: Arc<CertificateInventory>,
    vitals: OnceLock<Arc<ProcessVitals>>,
    tracer: OnceLock<Tracer>,
    /// What the process before this one has counted.
    carried: Mutex<CarriedCounters>,
    process: ProcessCollector,
}

/// What exists only after the metrics do.
struct Attached {
    access_log: AccessLog,
    clients: Box<dyn Fn() -> u32 + Send + Sync>,
}

/// Ended drains of one pool.
#[derive(Debug, Default)]
struct EndedDrains {
    outcomes: BTreeMap<&'static str, u64>,
    durations: Histogram,
    cut: u64,
    lost: u64,
}

impl Metrics {
    /// Metrics of what this registry knows.
    pub fn new(registry: RegistryHandle) -> Self {
        Self(Arc::new(MetricsInner {
            registry,
            plane: Arc::default(),
            drains: Mutex::default(),
            plans: Mutex::default(),
            reloads_applied: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            attached: OnceLock::new(),
            certificates: Arc::default(),
            vitals: OnceLock::new(),
            tracer: OnceLock::new(),
            carried: Mutex::default(),
            process: ProcessCollector::for_self(),
        }))
    }

    /// The data plane's own counters.
    pub fn plane(&self) -> Arc<PlaneCounters> {
        self.0.plane.clone()
    }

    /// The certificates in use, which the code that serves them adds here.
    pub fn certificates(&self) -> Arc<CertificateInventory> {
        self.0.certificates.clone()
    }

    /// Adds the access log's losses, and the number of client connections, which `clients` tells.
    pub fn attach(&self, access_log: AccessLog, clients: impl Fn() -> u32 + Send + Sync + 'static) {
        let _ = self.0.attached.set(Attached {
            access_log,
            clients: Box::new(clients),
        });
    }

    /// Adds what became of spans.
    pub fn trace(&self, tracer: Tracer) {
        let _ = self.0.tracer.set(tracer);
    }

    /// Adds the control thread's stalls.
    pub fn watch(&self, vitals: Arc<ProcessVitals>) {
        let _ = self.0.vitals.set(vitals);
    }

    /// A drain ended.
    pub fn drain_ended(&self, pool: &str, response: &DrainResponse) {
        // Labels come from a fixed list, whatever the outcome is called one day.
        const OUTCOMES: [&str; 4] = ["drained", "timed_out", "died", "resumed"];
        let outcome = OUTCOMES
            .into_iter()
            .find(|outcome| *outcome == response.outcome)
            .unwrap_or("other");
        let mut pools = self.0.drains.lock();
        let drains = pools.entry(pool.to_owned()).or_default();
        *drains.outcomes.entry(outcome).or_default() += 1;
        drains
            .durations
            .observe(Duration::from_millis(response.waited_ms));
        drains.cut += u64::from(response.cut);
        drains.lost += u64::from(response.lost);
    }

    /// A plan that moved the weights of a split has ended.
    pub fn plan_ended(&self, outcome: &'static str) {
        *self.0.plans.lock().entry(outcome).or_default() += 1;
    }

    /// The configuration was read again; `applied` is false where it was refused.
    pub fn reloaded(&self, applied: bool) {
        let counter = if applied {
            &self.0.reloads_applied
        } else {
            &self.0.reloads_refused
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All counters, for the process that takes over.
    pub fn carry(&self) -> CarriedCounters {
        CarriedCounters::of(&self.families())
    }

    /// Goes on where the process before this one was; takes the place of what was said of it before.
    pub fn go_on_from(&self, carried: CarriedCounters) {
        *self.0.carried.lock() = carried;
    }

    fn families(&self) -> Vec<prometheus::proto::MetricFamily> {
        let mut families = collect::collect(&self.0);
        let carried = self.0.carried.lock();
        carried.add_to(&mut families, &self.0.registry.snapshot());
        families
    }

    /// All of it in Prometheus' text format, version 0.0.4.
    pub fn encode(&self) -> String {
        let families = self.families();
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_else(|error| {
                // It fails on families without a name or a series only, and none is made.
                tracing::error!("metrics can't be written: {error}");
                String::new()
            })
    }
}

#[cfg(test)]
mod tests;
