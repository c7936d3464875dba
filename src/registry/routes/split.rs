//! A route that several pools answer, by weights that can be moved while it runs.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::rules::RoutedRequest;
use crate::config::{Route, SplitKey};
use crate::core::split;
use crate::metrics::SplitMeter;

/// The pools of a route, and their weights.
#[derive(Debug)]
pub struct PoolSplit {
    pools: Box<[SplitPool]>,
    on: SplitKey,
    /// In the order of `pools`. They are replaced as a whole: a request sees the old ones or the new ones.
    weights: ArcSwap<Vec<u32>>,
    /// While a plan moves them: what counts the requests.
    meter: ArcSwapOption<SplitMeter>,
}

#[derive(Debug)]
struct SplitPool {
    name: Arc<str>,
    /// What stickiness knows it by.
    hash: u64,
    /// In the snapshot.
    index: usize,
}

impl PoolSplit {
    /// That of a route; `None`: it has none.
    pub(super) fn new(route: &Route, pool_index: impl Fn(&str) -> Option<usize>) -> Option<Self> {
        let (mut pools, mut weights) = (Vec::new(), Vec::new());
        for share in &route.split {
            // A checked configuration has no others.
            let Some(index) = pool_index(&share.pool) else {
                continue;
            };
            pools.push(SplitPool {
                name: share.pool.as_str().into(),
                hash: split::hash(share.pool.as_bytes()),
                index,
            });
            weights.push(share.weight);
        }
        (!pools.is_empty()).then(|| Self {
            pools: pools.into(),
            on: route.split_on.clone(),
            weights: ArcSwap::from_pointee(weights),
            meter: ArcSwapOption::empty(),
        })
    }

    /// The index of the pool for a request; `random` is a fresh random number. `None`: no pool has a weight.
    pub fn choose(&self, request: &impl RoutedRequest, random: u64) -> Option<usize> {
        let weights = self.weights.load();
        let place = match self.key(request) {
            None => split::by_chance(&weights, random),
            Some(key) => {
                let shares = self.pools.iter().zip(weights.iter());
                split::for_key(shares.map(|(pool, weight)| (pool.hash, *weight)), key)
            }
        };
        self.pools.get(place?).map(|pool| pool.index)
    }

    /// What the request has in common with those that go where it goes; `None`: nothing.
    fn key(&self, request: &impl RoutedRequest) -> Option<u64> {
        let mut key = None;
        let mut note = |value: &[u8]| {
            key = (!value.is_empty()).then(|| split::hash(value));
            key.is_some()
        };
        match &self.on {
            SplitKey::Request => return None,
            SplitKey::Client => {}
            SplitKey::Header(name) => {
                request.has_field(name, &mut note);
            }
            SplitKey::Cookie(name) => {
                request.has_cookie(name, &mut note);
            }
        }
        // The first request of a client hardly ever has the cookie: it is better than nothing to know the client.
        key.or_else(|| Some(split::hash(request.client()?.to_string().as_bytes())))
    }

    /// Whether a request that waits for this pool may stay there.
    pub fn keeps(&self, pool: &str) -> bool {
        self.weights()
            .any(|(name, weight)| name == pool && weight > 0)
    }

    /// Each pool with its weight.
    pub fn weights(&self) -> impl Iterator<Item = (&str, u32)> {
        let weights = self.weights.load_full();
        let pools = self.pools.iter().enumerate();
        pools.map(move |(place, pool)| (&*pool.name, weights.get(place).copied().unwrap_or(0)))
    }

    /// Moves the weights: from now on, `weight` says each pool's.
    pub fn move_weights(&self, weight: impl Fn(&str) -> u32) {
        let weights = self.pools.iter().map(|pool| weight(&pool.name));
        self.weights.store(Arc::new(weights.collect()));
    }

    /// What counts its requests; `None`: no plan moves it.
    pub fn meter(&self) -> Option<Arc<SplitMeter>> {
        self.meter.load_full()
    }

    /// Requests are counted by this from now on, or by nothing.
    pub fn set_meter(&self, meter: Option<Arc<SplitMeter>>) {
        self.meter.store(meter);
    }
}
