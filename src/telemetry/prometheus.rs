//! Metrics for Prometheus. The request path adds to plain atomics that hang where it already is (a pool, a
//! backend, the plane); labels are put to them when somebody scrapes. Series of a backend that has left are gone
//! because its counters are.

mod collect;
mod families;
mod states;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::TextEncoder;
use prometheus::process_collector::ProcessCollector;

use crate::net::connect_fault::ConnectFault;
use crate::registry::Handle;
use crate::registry::view::DrainResponse;
use crate::rt::vitals::Vitals;
use crate::telemetry::access_log::AccessLog;
use crate::tls::server::Inventory;

pub use crate::metrics::handshake::Handshake;
use crate::metrics::handshake::Handshakes;
pub use crate::metrics::histogram::Histogram;
pub use crate::metrics::limit::Limit;
use crate::metrics::limit::Limited;
use crate::metrics::reasons::Reasons;
use states::States;

/// Answers of our own are errors, or redirects: 300 to 599.
const FIRST_LOCAL: u16 = 300;

/// Answers of our own, by status.
#[derive(Debug)]
struct LocalAnswers(Box<[AtomicU64]>);

impl Default for LocalAnswers {
    fn default() -> Self {
        Self((FIRST_LOCAL..600).map(|_| AtomicU64::new(0)).collect())
    }
}

impl LocalAnswers {
    fn add(&self, status: u16) {
        let index = status.checked_sub(FIRST_LOCAL).map(usize::from);
        if let Some(counter) = index.and_then(|index| self.0.get(index)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        (FIRST_LOCAL..)
            .zip(&self.0)
            .map(|(status, counter)| (status, counter.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }
}

/// What one pool did so far. It outlives snapshots and reloads.
#[derive(Debug, Default)]
pub struct PoolCounters {
    durations: Histogram,
    holds: Histogram,
    retried: Reasons,
    denied: Reasons,
    connect_faults: Reasons,
    local: LocalAnswers,
}

impl PoolCounters {
    /// A request had to wait this long because nothing was eligible.
    pub fn held(&self, held: Duration) {
        self.holds.observe(held);
    }

    /// A failed attempt is tried again; or, with `done` false, would have been if the budget allowed it.
    pub fn retried(&self, reason: &'static str, done: bool) {
        if done { &self.retried } else { &self.denied }.add(reason);
    }

    /// A connect for a request failed.
    pub fn connect_failed(&self, fault: ConnectFault) {
        self.connect_faults.add(fault.as_str());
    }

    /// A request ended; `ours` is the status where lameduck answered by itself.
    pub fn finished(&self, duration: Duration, ours: Option<u16>) {
        self.durations.observe(duration);
        if let Some(status) = ours {
            self.local.add(status);
        }
    }
}

/// What the data plane counts before a pool is known.
#[derive(Debug, Default)]
pub struct PlaneCounters {
    /// To what is for no pool.
    local: LocalAnswers,
    refused: Reasons,
    limited: Limited,
    handshakes: Handshakes,
}

impl PlaneCounters {
    /// Something that is for no pool was answered with this status.
    pub fn answered(&self, status: u16) {
        self.local.add(status);
    }

    /// A connection or request was turned away before it was routed.
    pub fn refused(&self, reason: &'static str) {
        self.refused.add(reason);
    }

    /// A TLS handshake ended.
    pub fn handshake(&self, handshake: Handshake) {
        self.handshakes.add(handshake);
    }

    /// A client ran into a limit.
    pub fn limited(&self, limit: Limit) {
        self.limited.add(limit);
    }
}

/// Everything that is counted, and its text form. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Handle,
    plane: Arc<PlaneCounters>,
    states: States,
    drains: Mutex<BTreeMap<String, Drains>>,
    reloads_applied: AtomicU64,
    reloads_refused: AtomicU64,
    attached: OnceLock<Attached>,
    certificates: Arc<Inventory>,
    vitals: OnceLock<Arc<Vitals>>,
    process: ProcessCollector,
}

/// What exists only after the metrics do.
struct Attached {
    access_log: AccessLog,
    clients: Box<dyn Fn() -> u32 + Send + Sync>,
}

/// Ended drains of one pool.
#[derive(Debug, Default)]
struct Drains {
    outcomes: BTreeMap<&'static str, u64>,
    durations: Histogram,
    cut: u64,
    lost: u64,
}

impl Metrics {
    /// Metrics of what this registry knows. Must be called on a tokio runtime (the control runtime).
    pub fn new(registry: Handle) -> Self {
        Self(Arc::new(Inner {
            states: States::watch(&registry),
            registry,
            plane: Arc::default(),
            drains: Mutex::default(),
            reloads_applied: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            attached: OnceLock::new(),
            certificates: Arc::default(),
            vitals: OnceLock::new(),
            process: ProcessCollector::for_self(),
        }))
    }

    /// The data plane's own counters.
    pub fn plane(&self) -> Arc<PlaneCounters> {
        self.0.plane.clone()
    }

    /// The certificates in use: whoever serves them says so here.
    pub fn certificates(&self) -> Arc<Inventory> {
        self.0.certificates.clone()
    }

    /// Adds the access log's losses, and the number of client connections, which `clients` tells.
    pub fn attach(&self, access_log: AccessLog, clients: impl Fn() -> u32 + Send + Sync + 'static) {
        let _ = self.0.attached.set(Attached {
            access_log,
            clients: Box::new(clients),
        });
    }

    /// Adds the control thread's stalls.
    pub fn watch(&self, vitals: Arc<Vitals>) {
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

    /// The configuration was read again; `applied` is false where it was refused.
    pub fn reloaded(&self, applied: bool) {
        let counter = if applied {
            &self.0.reloads_applied
        } else {
            &self.0.reloads_refused
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// All of it in Prometheus' text format, version 0.0.4.
    pub fn encode(&self) -> String {
        let families = collect::collect(&self.0);
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
