//! Metrics of sticky sessions.

use super::families::FamilyBuilder;
use crate::registry::snapshot::Snapshot;
use crate::rt::clock;

/// Only if a pool is sticky.
pub(super) fn collect(snapshot: &Snapshot) -> [FamilyBuilder; 3] {
    let mut requests = FamilyBuilder::counter(
        "lameduck_sticky_requests_total",
        "Requests of a sticky pool that a backend has answered, by what became of their session: new, kept or moved.",
    );
    let mut moved = FamilyBuilder::counter(
        "lameduck_sticky_moved_total",
        "Requests whose session had to go to another backend.",
    );
    let mut sessions = FamilyBuilder::gauge(
        "lameduck_sticky_sessions",
        "Sessions that stay with a backend, idle ones left out.",
    );
    for pool in &snapshot.pools {
        if pool.sticky.is_none() {
            continue;
        }
        let name = ("pool", &*pool.name);
        let mut moves = 0;
        for (state, count) in pool.shared.counters.sessions.read() {
            requests.add(&[name, ("session", state)], count);
            if state == "moved" {
                moves = count;
            }
        }
        moved.add(&[name], moves);
        for endpoint in pool.backends.iter() {
            let count = endpoint.holders.count(clock::now());
            sessions.add(&[name, ("backend", &*endpoint.name)], count.into());
        }
    }
    [requests, moved, sessions]
}
