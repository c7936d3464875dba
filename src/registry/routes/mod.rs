//! Which pool a request is for, from its host and path, at a cost that does not depend on how many routes
//! there are.
//!
//! The rules, for people in `docs/routes.md`:
//! 1. Hosts are compared without case and without a trailing dot. An exact host comes before a wildcard, a
//!    longer wildcard before a shorter one, and any of them before routes without a host.
//! 2. Of the most specific host that has a matching prefix, the longest prefix wins. Prefixes match whole
//!    segments.
//! 3. Paths are compared as the client sent them, with case, and forwarded untouched. Only two spellings that
//!    mean the same are taken for the same: runs of slashes count as one slash, and a percent-encoded
//!    unreserved character is that character (RFC 3986, section 6.2.2.2). Nothing else is decoded.
//! 4. A path with a dot segment (`.` or `..`, however it is encoded) matches no route where the host's routes
//!    differ by path: an app would resolve it to a path that another route is for. Clients resolve them
//!    before they send. Where the host's only prefix is `/` there is nothing to confuse, and it matches.

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
    /// Where hosts and prefixes are all that routes ask for, whatever they do.
    hosts: HostMap<Prefixes>,
    /// Of those, the routes that are more than a pool, in the file's order.
    rules: Vec<Arc<RouteRule>>,
    /// Where one asks for more; `hosts` and `rules` are then empty.
    asking: Option<Box<RuleTable>>,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy)]
pub enum RouteTarget<'a> {
    /// As it is to the pool with this index.
    Pool(usize),
    /// By this rule.
    Rule(&'a Arc<RouteRule>),
}

impl RouteTarget<'_> {
    /// The index of its pool, if it is for one alone.
    pub fn pool(self) -> Option<usize> {
        match self {
            Self::Pool(index) => Some(index),
            Self::Rule(rule) => rule.pool,
        }
    }
}

/// The same in the table.
#[derive(Debug, Clone, Copy)]
enum PlainTarget {
    Pool(usize),
    /// An index of `rules`.
    Rule(usize),
}

/// The routes of one host.
#[derive(Debug, Clone, Default)]
struct Prefixes {
    /// `/`.
    root: Option<PlainTarget>,
    /// The others; each has a target.
    longer: PrefixMap<Option<PlainTarget>>,
}

impl RouteTable {
    /// Build the table. `pools` are the names of the pools in the order of their indices. A route to a pool
    /// that is not among them is left out (a checked configuration has none), and of two equal routes the
    /// first counts. Without any route, a single pool gets everything.
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

    /// Where a request goes. `None` if no route matches, or if one asks for more than host and path: then
    /// [`RouteTable::find_rule`] has to be asked. `host` is in any case and without a port (an IPv6 address in
    /// brackets), empty if there is none; `path` is as on the request line, a query is ignored. Allocates nothing.
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

    /// Whether [`RouteTable::lookup`] finds nothing, because a route asks for more than host and path.
    pub fn asks_for_more(&self) -> bool {
        self.asking.is_some()
    }

    /// The first rule, for tests of what a route does.
    #[cfg(test)]
    pub(crate) fn first_rule(&self) -> Option<&Arc<RouteRule>> {
        self.rules().next()
    }

    /// The route for a request, where one asks for more than host and path.
    pub fn find_rule(&self, request: &impl RoutedRequest) -> Option<&Arc<RouteRule>> {
        self.asking.as_ref()?.find(request)
    }

    /// The routes that are more than a pool; all of them, where one asks for more than host and path.
    fn rules(&self) -> impl Iterator<Item = &Arc<RouteRule>> {
        let asking = self.asking.iter().flat_map(|table| table.rules());
        self.rules.iter().chain(asking)
    }

    /// The routes that are split over several pools.
    pub fn splits(&self) -> impl Iterator<Item = (&RouteRule, &PoolSplit)> {
        self.rules()
            .filter_map(|rule| Some((&**rule, rule.split.as_ref()?)))
    }
}

enum RouteMatch {
    Target(PlainTarget),
    Nothing,
    /// A dot segment where the pool depends on the path.
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
