//! What the data plane reads: pools and their eligible backends, replaced as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use tokio::sync::Semaphore;

use super::endpoint::Endpoint;
use crate::config;
use crate::core::balance::Balancer;
use crate::core::retry::AtomicBudget;
use crate::proxy::route::RouteTable;
use crate::telemetry::metrics::PoolCounters;

/// The world at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration it was made from.
    pub config: Arc<config::Config>,
    /// Host and path to an index of `pools`.
    pub routes: Arc<RouteTable>,
    /// By the index that routes give.
    pub pools: Vec<Arc<Pool>>,
}

/// One pool at one moment.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: Arc<str>,
    /// Its settings.
    pub config: Arc<config::Pool>,
    /// Every backend, for status and metrics.
    pub backends: Vec<Arc<Endpoint>>,
    /// The eligible ones.
    pub ready: Vec<Arc<Endpoint>>,
    /// Those that fail-open may try: down, or drained by nobody but the app itself.
    pub last_resort: Vec<Arc<Endpoint>>,
    /// Chooses among `ready`.
    pub balancer: Balancer,
    /// What outlives the snapshot.
    pub shared: Arc<PoolShared>,
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
    /// Each permit lets one waiting request try again; first come, first served.
    pub release: Semaphore,
    /// Unproven retries.
    pub budget: AtomicBudget,
    /// For metrics.
    pub counters: PoolCounters,
}
