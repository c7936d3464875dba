//! The data plane's view: pools and their eligible backends, replaced as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, Semaphore};

use super::endpoint::Endpoint;
use super::pause::PoolPause;
use crate::config;
use crate::core::balance::Balancer;
use crate::core::retry::RetryBudget;
use crate::metrics::PoolCounters;
use crate::metrics::restart_meter::RestartMeter;
use crate::registry::endpoint::waiters::CapacityWaiters;
use crate::registry::routes::RouteTable;
use crate::registry::sticky::StickyBackends;

/// The state of all pools at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration from which it was made.
    pub config: Arc<config::Config>,
    /// Maps host and path to an index of `pools`.
    pub routes: Arc<RouteTable>,
    /// Indexed by `routes`.
    pub pools: Vec<Arc<PoolSnapshot>>,
}

/// The state of one pool at one moment.
#[derive(Debug)]
pub struct PoolSnapshot {
    /// Name.
    pub name: Arc<str>,
    /// Settings.
    pub config: Arc<config::PoolConfig>,
    /// All backends, for status and metrics. Shared by snapshots until a backend is added or removed.
    pub backends: Arc<[Arc<Endpoint>]>,
    /// Eligible backends that take requests. Empty if the pool is paused; includes backups only if no other backend
    /// is eligible.
    pub ready: Vec<Arc<Endpoint>>,
    /// Backends that fail-open may try: down, ejected, or drained only by the app itself.
    pub last_resort: Vec<Arc<Endpoint>>,
    /// Chooses among `ready`.
    pub balancer: Balancer,
    /// Eligible backends of other zones, if the proxy's zone has some: for requests that those have no room for.
    pub other_zones: Option<Box<LowerTier>>,
    /// Eligible backups, if other backends are eligible: for requests that none of those takes.
    pub backups: Option<Box<LowerTier>>,
    /// Maps session tokens to backends; `None`: the pool is not sticky.
    pub sticky: Option<Box<StickyBackends>>,
    /// The pause, if any: no new requests go to the backends.
    pub pause: Option<Arc<PoolPause>>,
    /// Whether outcomes of attempts are counted: see [`super::endpoint::outcomes`].
    pub watches_outcomes: bool,
    /// State that outlives the snapshot.
    pub shared: Arc<PoolShared>,
}

/// Eligible backends that are used only after others.
#[derive(Debug)]
pub struct LowerTier {
    /// The backends.
    pub ready: Vec<Arc<Endpoint>>,
    /// Chooses among them.
    pub balancer: Balancer,
}

/// State that a pool keeps from one snapshot to the next.
#[derive(Debug)]
pub struct PoolShared {
    /// Position of round robin.
    pub cursor: AtomicU64,
    /// Number of requests that wait because no backend is eligible.
    pub held: AtomicUsize,
    /// Bytes that these requests buffer.
    pub held_bytes: AtomicU64,
    /// Queue in which they wait.
    pub queue: Arc<HoldQueue>,
    /// Budget for retries of requests that a backend may have seen already.
    pub budget: RetryBudget,
    /// Counters for metrics.
    pub counters: PoolCounters,
    /// Meter of the most recent restart of one of its backends.
    pub restart: ArcSwapOption<RestartMeter>,
}

/// Queue of requests that wait for an eligible backend, or for room on a full one.
#[derive(Debug)]
pub struct HoldQueue {
    /// Each permit lets one waiting request try again, in the order of arrival.
    pub release: Semaphore,
    /// Requests among them that wait for room. New requests queue up behind them.
    pub room: CapacityWaiters,
    /// Notified when another configuration is in force, or the pool was paused or resumed: a waiting request may then
    /// belong to another pool, or wait under other rules.
    pub reconfigured: Notify,
}

impl Default for HoldQueue {
    fn default() -> Self {
        Self {
            release: Semaphore::new(0),
            room: CapacityWaiters::new(),
            reconfigured: Notify::new(),
        }
    }
}

impl HoldQueue {
    /// Notes that a request has left an open gate. `limited`: whether there is a `max_in_flight`, as far as the
    /// request knew.
    pub fn on_room(&self, limited: bool) {
        let wanted = match limited {
            true => self.room.is_wanted(),
            // Only if a reload has just added the limit can a request wait for this one to leave.
            false => self.room.is_waited_for(),
        };
        if wanted {
            self.release.add_permits(1);
        }
    }
}
