//! Finds the pool for a request by its host and path, at a cost that does not depend on the number of routes.
//!
//! The rules, which `docs/routes.md` explains:
//! 1. Hosts are compared without case and without a trailing dot. An exact host comes before a wildcard, a
//!    longer wildcard before a shorter one, and any of them before routes without a host.
//! 2. Of the most specific host that has a matching prefix, the longest prefix wins. Prefixes match whole
//!    segments.
//! 3. Paths are compared as the client sent them, with case, and forwarded unchanged. Only two kinds of spellings
//!    are treated as equal: several slashes count as one slash, and a percent-encoded unreserved character as
//!    that character (RFC 3986, section 6.2.2.2). Nothing else is decoded.
//! 4. A path with a dot segment (`.` or `..`, however it is encoded) matches no route if the host's routes
//!    differ by path: an app would resolve it to a path that another route is for. Clients resolve dot segments
//!    before they send a request. If the host's only prefix is `/`, there is no such risk, and the path matches.

pub mod changes;
mod conditions;
mod guards;
mod hosts;
mod paths;
mod rules;
mod split;

use crate::config::Route;
use std::sync::Arc;

pub use guards::{AtOnceLimit, RateLimit, RouteLimits};
use hosts::{HostMap, MAX_HOST, lower_host};
use paths::{PrefixMap, RequestPath};
pub use paths::{compared_path, has_dot_segment, rest_of_path};
use rules::RuleTable;
pub use rules::{RouteRule, RoutedRequest};
pub use split::PoolSplit;

/// All routes, ready for lookup. Built once for each configuration.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Targets by host and prefix, if no route has other conditions.
    hosts: HostMap<Prefixes>,
    /// The routes among them that do more than name a pool, in the configuration's order.
    rules: Vec<Arc<RouteRule>>,
    /// Table for routes with other conditions; if there are any, `hosts` and `rules` are empty.
    asking: Option<Box<RuleTable>>,
}

/// Target of a request.
#[derive(Debug, Clone, Copy)]
pub enum RouteTarget<'a> {
    /// To the pool with this index, unchanged.
    Pool(usize),
    /// According to this rule.
    Rule(&'a Arc<RouteRule>),
}

impl RouteTarget<'_> {
    /// Returns the index of the pool, if there is exactly one.
    pub fn pool(self) -> Option<usize> {
        match self {
            Self::Pool(index) => Some(index),
            Self::Rule(rule) => rule.pool,
        }
    }
}

/// Target in the table.
#[derive(Debug, Clone, Copy)]
enum PlainTarget {
    Pool(usize),
    /// An index into `rules`.
    Rule(usize),
}

/// The routes of one host.
#[derive(Debug, Clone, Default)]
struct Prefixes {
    /// Target of the prefix `/`.
    root: Option<PlainTarget>,
    /// Targets of the other prefixes.
    longer: PrefixMap<Option<PlainTarget>>,
}

impl RouteTable {
    /// Builds the table. `pools` are the names of the pools in the order of their indices. A route to a pool that is
    /// not among them is left out (a checked configuration has none), and of two equal routes the first counts.
    /// Without any route, a single pool gets everything.
    pub fn new(routes: &[Route], pools: &[impl AsRef<str>]) -> Self {
        let pool_index = |name: &str| pools.iter().position(|other| other.as_ref() == name);
        let mut table = RouteTable::default();
        if !routes.iter().all(Route::asks_for_prefix_alone) {
            table.asking = Some(Box::new(RuleTable::new(routes, pool_index)));
            return table;
        }
        if routes.is_empty() && pools.len() == 1 {
            table.hosts.any.root = Some(PlainTarget::Pool(0));
        }
        for route in routes {
            let target = match route.is_plain() {
                true => match route.pool.as_deref().and_then(pool_index) {
                    Some(pool) => PlainTarget::Pool(pool),
                    None => continue,
                },
                false => match RouteRule::new(route, pool_index) {
                    Some(rule) => {
                        table.rules.push(Arc::new(rule));
                        PlainTarget::Rule(table.rules.len() - 1)
                    }
                    None => continue,
                },
            };
            for host in route.each_host() {
                let prefixes = table.hosts.entry(host);
                prefixes.insert(&route.path_prefix, target);
            }
        }
        table
    }

    /// Returns the target of a request. `None` if no route matches, or if a route has conditions other than host and
    /// path: then call [`RouteTable::find_rule`]. `host` is in any case and without a port (an IPv6 address in
    /// brackets), empty if there is none; `path` is as on the request line, and a query is ignored. Allocates
    /// nothing.
    pub fn lookup(&self, host: &[u8], path: &[u8]) -> Option<RouteTarget<'_>> {
        let mut path = RequestPath::new(path);
        if !self.hosts.is_nameless() {
            let mut lower = [0u8; MAX_HOST];
            if let Some(lower) = lower_host(host, &mut lower) {
                for prefixes in self.hosts.named(lower) {
                    match prefixes.find(&mut path) {
                        RouteMatch::Target(target) => return self.target(target),
                        RouteMatch::Ambiguous => return None,
                        RouteMatch::Nothing => {}
                    }
                }
            }
        }
        match self.hosts.any.find(&mut path) {
            RouteMatch::Target(target) => self.target(target),
            RouteMatch::Ambiguous | RouteMatch::Nothing => None,
        }
    }

    #[inline]
    fn target(&self, target: PlainTarget) -> Option<RouteTarget<'_>> {
        Some(match target {
            PlainTarget::Pool(pool) => RouteTarget::Pool(pool),
            PlainTarget::Rule(rule) => RouteTarget::Rule(self.rules.get(rule)?),
        })
    }

    /// Whether [`RouteTable::lookup`] finds nothing, because a route has conditions other than host and path.
    pub fn asks_for_more(&self) -> bool {
        self.asking.is_some()
    }

    /// Returns the first rule, for tests of a route's changes.
    #[cfg(test)]
    pub(crate) fn first_rule(&self) -> Option<&Arc<RouteRule>> {
        self.rules().next()
    }

    /// Returns the route for a request, if a route has conditions other than host and path.
    pub fn find_rule(&self, request: &impl RoutedRequest) -> Option<&Arc<RouteRule>> {
        self.asking.as_ref()?.find(request)
    }

    /// Returns the routes that do more than name a pool; all routes, if one has conditions other than host and path.
    fn rules(&self) -> impl Iterator<Item = &Arc<RouteRule>> {
        let asking = self.asking.iter().flat_map(|table| table.rules());
        self.rules.iter().chain(asking)
    }

    /// Returns the routes that are split over several pools.
    pub fn splits(&self) -> impl Iterator<Item = (&RouteRule, &PoolSplit)> {
        self.rules()
            .filter_map(|rule| Some((&**rule, rule.split.as_ref()?)))
    }
}

enum RouteMatch {
    Target(PlainTarget),
    Nothing,
    /// A dot segment, while the pool depends on the path.
    Ambiguous,
}

impl Prefixes {
    fn insert(&mut self, prefix: &str, target: PlainTarget) {
        let place = self.longer.entry(prefix).unwrap_or(&mut self.root);
        place.get_or_insert(target);
    }

    fn find(&self, path: &mut RequestPath<'_>) -> RouteMatch {
        if !self.longer.is_empty() {
            let path = path.normal();
            if path.dotted {
                return RouteMatch::Ambiguous;
            }
            if let Some(target) = self.longer.find(path.text(), |target| *target) {
                return RouteMatch::Target(target);
            }
        }
        self.root.map_or(RouteMatch::Nothing, RouteMatch::Target)
    }
}

#[cfg(test)]
mod tests;
