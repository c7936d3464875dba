//! Metrics for Prometheus. The request path adds to plain atomics in structs that it uses anyway (a pool, a backend,
//! the data plane); labels are added when metrics are scraped. The series of a removed backend disappear with its
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

/// All metrics, and their text form. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<MetricsInner>);

struct MetricsInner {
    registry: RegistryHandle,
    plane: Arc<PlaneCounters>,
    drains: Mutex<BTreeMap<String, EndedDrains>>,
    /// Number of ended plans that moved a split, by outcome.
    plans: Mutex<BTreeMap<&'static str, u64>>,
    reloads_applied: AtomicU64,
    reloads_refused: AtomicU64,
    attached: OnceLock<Attached>,
    certificates: Arc<CertificateInventory>,
    vitals: OnceLock<Arc<ProcessVitals>>,
    tracer: OnceLock<Tracer>,
    /// Counters of the process before this one.
    carried: Mutex<CarriedCounters>,
    process: ProcessCollector,
}

/// Parts that are created after the metrics.
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
    /// Metrics of everything in this registry.
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

    /// Counters of the data plane.
    pub fn plane(&self) -> Arc<PlaneCounters> {
        self.0.plane.clone()
    }

    /// Certificates in use; the code that serves them adds them here.
    pub fn certificates(&self) -> Arc<CertificateInventory> {
        self.0.certificates.clone()
    }

    /// Adds the access log, whose losses are counted, and the number of client connections, which `clients` returns.
    pub fn attach(&self, access_log: AccessLog, clients: impl Fn() -> u32 + Send + Sync + 'static) {
        let _ = self.0.attached.set(Attached {
            access_log,
            clients: Box::new(clients),
        });
    }

    /// Adds the outcomes of spans.
    pub fn trace(&self, tracer: Tracer) {
        let _ = self.0.tracer.set(tracer);
    }

    /// Adds the stalls of the control thread.
    pub fn watch(&self, vitals: Arc<ProcessVitals>) {
        let _ = self.0.vitals.set(vitals);
    }

    /// Counts an ended drain.
    pub fn drain_ended(&self, pool: &str, response: &DrainResponse) {
        // Label values come from a fixed list, even if there are new outcomes one day.
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

    /// Counts an ended plan that moved the weights of a split.
    pub fn plan_ended(&self, outcome: &'static str) {
        *self.0.plans.lock().entry(outcome).or_default() += 1;
    }

    /// Counts a reload of the configuration; `applied` is false if it was refused.
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

    /// Continues the counters of the process before this one; replaces what an earlier call has set.
    pub fn go_on_from(&self, carried: CarriedCounters) {
        *self.0.carried.lock() = carried;
    }

    fn families(&self) -> Vec<prometheus::proto::MetricFamily> {
        let mut families = collect::collect(&self.0);
        let carried = self.0.carried.lock();
        carried.add_to(&mut families, &self.0.registry.snapshot());
        families
    }

    /// All metrics in Prometheus' text format, version 0.0.4.
    pub fn encode(&self) -> String {
        let families = self.families();
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_else(|error| {
                // Encoding only fails for families without a name or a series, and there are none.
                tracing::error!("metrics can't be written: {error}");
                String::new()
            })
    }
}

#[cfg(test)]
mod tests;
