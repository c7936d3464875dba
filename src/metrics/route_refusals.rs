//! Counters of requests that routes have refused, by the route's name. Names come from the configuration file; clients
//! can't add any.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Reason why a route refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteRefusal {
    /// `allow` or `deny`: 403.
    Network,
    /// `client_certificate`: 403.
    Certificate,
    /// `connections`: 429.
    Connections,
    /// `rate`: 429.
    Rate,
    /// `auth`: 401, or the answer of the authentication server.
    Unauthorized,
    /// `auth`: too many passwords, of this client or of all, wait to be checked: 429 or 503.
    AuthBusy,
    /// `auth`: the authentication server can't be reached: 503 or 504.
    AuthDown,
}

impl RouteRefusal {
    /// Name in metrics and the access log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Certificate => "certificate",
            Self::Connections => "connections",
            Self::Rate => "rate",
            Self::Unauthorized => "unauthorized",
            Self::AuthBusy => "auth_busy",
            Self::AuthDown => "auth_down",
        }
    }
}

/// A counter for each route and reason. Only refusals take the lock, and requests that pass do not.
#[derive(Debug, Default)]
pub(crate) struct RouteRefusals(Mutex<BTreeMap<Box<str>, BTreeMap<RouteRefusal, u64>>>);

impl RouteRefusals {
    pub(crate) fn add(&self, route: &str, reason: RouteRefusal) {
        let mut routes = self.0.lock();
        if let Some(counts) = routes.get_mut(route) {
            *counts.entry(reason).or_default() += 1;
        } else {
            routes.insert(route.into(), BTreeMap::from([(reason, 1)]));
        }
    }

    /// All counts; routes that a reload has removed are dropped.
    pub(crate) fn read(
        &self,
        is_there: impl Fn(&str) -> bool,
    ) -> Vec<(Box<str>, &'static str, u64)> {
        let mut routes = self.0.lock();
        routes.retain(|route, _| route.is_empty() || is_there(route));
        let counts = routes.iter().flat_map(|(route, counts)| {
            let counts = counts.iter();
            counts.map(|(reason, count)| (route.clone(), reason.as_str(), *count))
        });
        counts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_routes_are_dropped() {
        let refusals = RouteRefusals::default();
        for (route, reason) in [
            ("a", RouteRefusal::Rate),
            ("b", RouteRefusal::Network),
            ("a", RouteRefusal::Rate),
            ("", RouteRefusal::Rate),
        ] {
            refusals.add(route, reason);
        }
        let told = refusals.read(|route| route == "a");
        assert_eq!(told, [("".into(), "rate", 1), ("a".into(), "rate", 2)]);
        assert_eq!(refusals.read(|_| true).len(), 2);
    }
}
