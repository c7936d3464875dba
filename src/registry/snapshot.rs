//! What the data plane reads: pools and their eligible backends, replaced as a whole.

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

/// The world at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration it was made from.
    pub config: Arc<config::Config>,
    /// Host and path to an index of `pools`.
    pub routes: Arc<RouteTable>,
    /// By the index that routes give.
    pub pools: Vec<Arc<PoolSnapshot>>,
}

/// One pool at one moment.
#[derive(Debug)]
pub struct PoolSnapshot {
    /// Its name.
    pub name: Arc<str>,
    /// Its settings.
    pub config: Arc<config::PoolConfig>,
    /// Every backend, for status and metrics. Snapshots share it until one comes or goes.
    pub backends: Arc<[Arc<Endpoint>]>,
    /// The eligible ones that take requests: of a pool that is paused, none; backups only where no other is eligible.
    pub ready: Vec<Arc<Endpoint>>,
    /// Those that fail-open may try: down, or drained by nobody but the app itself.
    pub last_resort: Vec<Arc<Endpoint>>,
    /// Chooses among `ready`.
    pub balancer: Balancer,
    /// The eligible ones of other zones, where there are some in the proxy's: for requests that these have no room for.
    pub other_zones: Option<Box<LowerTier>>,
    /// The eligible backups, where others are eligible: for requests that none of those takes.
    pub backups: Option<Box<LowerTier>>,
    /// Which backend a session's token means; `None`: sessions don't stay.
    pub sticky: Option<Box<StickyBackends>>,
    /// Nothing new goes to any of them.
    pub pause: Option<Arc<PoolPause>>,
    /// How attempts end matters here: see [`super::endpoint::outcomes`].
    pub watches_outcomes: bool,
    /// What outlives the snapshot.
    pub shared: Arc<PoolShared>,
}

/// Eligible backends whose turn comes after others.
#[derive(Debug)]
pub struct LowerTier {
    /// All of them.
    pub ready: Vec<Arc<Endpoint>>,
    /// Chooses among them.
    pub balancer: Balancer,
}

/// What a pool keeps from one snapshot to the next.
#[derive(Debug)]
pub struct PoolShared {
    /// Round robin's place.
    pub cursor: AtomicU64,
    /// Requests that wait because nothing is eligible.
    pub held: AtomicUsize,
    /// Bytes they keep buffered.
    pub held_bytes: AtomicU64,
    /// Where they wait.
    pub queue: Arc<HoldQueue>,
    /// Unproven retries.
    pub budget: RetryBudget,
    /// For metrics.
    pub counters: PoolCounters,
    /// Of the restart of one of its backends that has begun last.
    pub restart: ArcSwapOption<RestartMeter>,
}

/// Where requests wait for something eligible, or for room on a backend that is full.
#[derive(Debug)]
pub struct HoldQueue {
    /// Each permit lets one waiting request try again; first come, first served.
    pub release: Semaphore,
    /// Those among them that wait for room. New requests queue up behind them.
    pub room: CapacityWaiters,
    /// Another configuration is in force, or the pool was paused or has been: whoever waits here may belong elsewhere,
    /// or wait by other rules.
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
    /// A request has left an open gate. `limited`: there is a `max_in_flight`, as far as it knew.
    pub fn on_room(&self, limited: bool) {
        let wanted = match limited {
            true => self.room.is_wanted(),
            // Only a reload that has brought the limit just now lets anybody wait for this one.
            false => self.room.is_waited_for(),
        };
        if wanted {
            self.release.add_permits(1);
        }
    }
}
