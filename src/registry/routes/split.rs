//! A route to several pools, with weights that can be moved at run time.

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
    /// Weights in the order of `pools`. They are replaced as a whole: a request sees either the old or the new ones.
    weights: ArcSwap<Vec<u32>>,
    /// Counts the requests while a plan moves the weights.
    meter: ArcSwapOption<SplitMeter>,
}

#[derive(Debug)]
struct SplitPool {
    name: Arc<str>,
    /// Hash by which stickiness identifies the pool.
    hash: u64,
    /// Index in the snapshot.
    index: usize,
}

impl PoolSplit {
    /// Creates the split of a route; `None`: it has none.
    pub(super) fn new(route: &Route, pool_index: impl Fn(&str) -> Option<usize>) -> Option<Self> {
        let (mut pools, mut weights) = (Vec::new(), Vec::new());
        for share in &route.split {
            // A checked configuration contains only known pools.
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

    /// Returns the index of the pool for a request; `random` is a fresh random number. `None`: all weights are 0.
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

    /// Returns the key that keeps requests on the same pool; `None`: there is none.
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
        // The first request of a client usually lacks the cookie, so the client's address is used instead.
        key.or_else(|| Some(split::hash(request.client()?.to_string().as_bytes())))
    }

    /// Whether a request that waits for this pool may continue to wait for it.
    pub fn keeps(&self, pool: &str) -> bool {
        self.weights()
            .any(|(name, weight)| name == pool && weight > 0)
    }

    /// Returns each pool with its weight.
    pub fn weights(&self) -> impl Iterator<Item = (&str, u32)> {
        let weights = self.weights.load_full();
        let pools = self.pools.iter().enumerate();
        pools.map(move |(place, pool)| (&*pool.name, weights.get(place).copied().unwrap_or(0)))
    }

    /// Moves the weights: from now on, `weight` returns each pool's weight.
    pub fn move_weights(&self, weight: impl Fn(&str) -> u32) {
        let weights = self.pools.iter().map(|pool| weight(&pool.name));
        self.weights.store(Arc::new(weights.collect()));
    }

    /// Returns the meter that counts requests; `None`: no plan moves the weights.
    pub fn meter(&self) -> Option<Arc<SplitMeter>> {
        self.meter.load_full()
    }

    /// Sets or removes the meter that counts requests.
    pub fn set_meter(&self, meter: Option<Arc<SplitMeter>>) {
        self.meter.store(meter);
    }
}
