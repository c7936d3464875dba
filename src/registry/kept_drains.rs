//! Drains whose backends have not come back, by pool and name, so that even among thousands of new backends each
//! finds its own at once.

use std::collections::BTreeMap;

use super::persist::{DrainRecord, KeptDrain};

/// The drains that are kept for backends to come.
#[derive(Debug, Default)]
pub(super) struct KeptDrains(BTreeMap<String, BTreeMap<String, Vec<DrainRecord>>>);

impl KeptDrains {
    /// Adds drains.
    pub(super) fn extend(&mut self, drains: impl IntoIterator<Item = KeptDrain>) {
        for kept in drains {
            let of_pool = self.0.entry(kept.pool).or_default();
            of_pool.entry(kept.backend).or_default().push(kept.drain);
        }
    }

    /// Returns the number of drains.
    pub(super) fn count(&self) -> usize {
        let drains = self.0.values().flat_map(BTreeMap::values);
        drains.map(Vec::len).sum()
    }

    /// Takes out the drains of a backend.
    pub(super) fn take(&mut self, pool: &str, backend: &str) -> Vec<DrainRecord> {
        let Some(of_pool) = self.0.get_mut(pool) else {
            return Vec::new();
        };
        let taken = of_pool.remove(backend).unwrap_or_default();
        if of_pool.is_empty() {
            self.0.remove(pool);
        }
        taken
    }

    /// Drops the drains of a backend for which `lifted` returns `true`. Returns whether there were any.
    pub(super) fn lift(
        &mut self,
        pool: &str,
        backend: &str,
        lifted: impl Fn(&DrainRecord) -> bool,
    ) -> bool {
        let mut left = self.take(pool, backend);
        let before = left.len();
        left.retain(|drain| !lifted(drain));
        let any = left.len() < before;
        self.extend(left.into_iter().map(|drain| KeptDrain {
            pool: pool.to_owned(),
            backend: backend.to_owned(),
            address: None,
            drain,
        }));
        any
    }

    /// Returns all drains.
    pub(super) fn all(&self) -> impl Iterator<Item = KeptDrain> + '_ {
        self.0.iter().flat_map(|(pool, backends)| {
            backends.iter().flat_map(move |(backend, drains)| {
                drains.iter().map(move |drain| KeptDrain {
                    pool: pool.clone(),
                    backend: backend.clone(),
                    address: None,
                    drain: drain.clone(),
                })
            })
        })
    }
}
