//! Drains whose backends have not come back, by pool and name, so that each of thousands of new backends finds its
//! own at once.

use std::collections::BTreeMap;

use super::persist::{DrainRecord, KeptDrain};

/// The drains that wait for their backends.
#[derive(Debug, Default)]
pub(super) struct KeptDrains(BTreeMap<String, BTreeMap<String, Vec<DrainRecord>>>);

impl KeptDrains {
    /// Adds some.
    pub(super) fn extend(&mut self, drains: impl IntoIterator<Item = KeptDrain>) {
        for kept in drains {
            let of_pool = self.0.entry(kept.pool).or_default();
            of_pool.entry(kept.backend).or_default().push(kept.drain);
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        let drains = self.0.values().flat_map(BTreeMap::values);
        drains.map(Vec::len).sum()
    }

    /// Takes those of a backend out.
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

    /// Drops the drains of a backend for which `lifted` holds. True: there were any.
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

    /// All of them.
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
