//! Metrics of ejected backends: only for pools with `[pool.outlier]`.

use super::families::FamilyBuilder;
use crate::registry::snapshot::Snapshot;

pub(super) fn outliers(snapshot: &Snapshot) -> [FamilyBuilder; 2] {
    let mut ejections = FamilyBuilder::counter(
        "lameduck_outlier_ejections_total",
        "Times that a backend was ejected, by what made the case.",
    );
    let mut ejected = FamilyBuilder::gauge(
        "lameduck_outlier_ejected",
        "1 while a backend is ejected: it gets no new requests, though it is ready.",
    );
    let pools = snapshot.pools.iter();
    for pool in pools.filter(|pool| pool.config.outlier.is_some()) {
        for endpoint in pool.backends.iter() {
            let labels = [("pool", &*pool.name), ("backend", &*endpoint.name)];
            for (reason, count) in endpoint.outcomes.ejections() {
                ejections.add(&[labels[0], labels[1], ("reason", reason)], count);
            }
            ejected.add(&labels, u64::from(endpoint.outcomes.is_ejected()));
        }
    }
    [ejections, ejected]
}
