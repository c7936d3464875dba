//! Counters of requests of named routes, by name and status class. Names come from the configuration file; clients
//! can't add any.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Status classes, by first digit.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counters of one route.
#[derive(Debug, Default)]
pub struct RouteRequests([AtomicU64; CLASSES.len()]);

impl RouteRequests {
    /// Counts a response with this status.
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100).checked_sub(1);
        if let Some(count) = class.and_then(|class| self.0.get(class)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counters of all routes that have answered a request. A request gets the counters together with its route; only a
/// route's first use takes the lock.
#[derive(Debug, Default)]
pub(crate) struct RouteRequestTable(Mutex<BTreeMap<Box<str>, Arc<RouteRequests>>>);

impl RouteRequestTable {
    /// Counters of a route; the same ones after a reload.
    pub(crate) fn of_route(&self, name: &str) -> Arc<RouteRequests> {
        let mut routes = self.0.lock();
        match routes.get(name) {
            Some(known) => known.clone(),
            None => routes.entry(name.into()).or_default().clone(),
        }
    }

    /// All counts above zero; routes that a reload has removed are dropped.
    pub(crate) fn read(
        &self,
        is_there: impl Fn(&str) -> bool,
    ) -> Vec<(Box<str>, &'static str, u64)> {
        let mut routes = self.0.lock();
        routes.retain(|route, _| is_there(route));
        let counts = routes.iter().flat_map(|(route, counts)| {
            let counts = counts.0.iter().map(|count| count.load(Ordering::Relaxed));
            let told = CLASSES.iter().zip(counts).filter(|(_, count)| *count > 0);
            told.map(|(class, count)| (route.clone(), *class, count))
        });
        counts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_class_and_removed_routes_are_dropped() {
        let table = RouteRequestTable::default();
        let shop = table.of_route("shop");
        for status in [200, 204, 101, 404, 599, 0, 600, u16::MAX] {
            shop.answered(status);
        }
        table.of_route("gone").answered(200);
        // Another rule of the same name, after a reload.
        table.of_route("shop").answered(200);
        let told = table.read(|route| route == "shop");
        let told: Vec<_> = told
            .iter()
            .map(|(_, class, count)| (*class, *count))
            .collect();
        assert_eq!(told, [("1xx", 1), ("2xx", 3), ("4xx", 1), ("5xx", 1)]);
        assert_eq!(table.read(|_| true).len(), 4);
    }
}
