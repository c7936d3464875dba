//! Routes with conditions other than host and path prefix, in the Gateway API's order.
//!
//! Of all routes that match a request, the first in this order gets it:
//! 1. the host: exact, then wildcards, the longest first, then any;
//! 2. the priority, the highest first;
//! 3. the path: exact, then prefixes, the longest first, then regexes, the longest first, then routes for all paths;
//! 4. the conditions: a listener, then a method, then more header fields, then more query parameters, then more
//!    cookies, then a client;
//! 5. the order in the configuration.
//!
//! Hosts, exact paths and prefixes are looked up by hash, and the regexes of a host are one automaton. Only routes
//! with the same host and path are tried one after the other.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use regex::bytes::{Regex, RegexSet};

use super::changes::RouteChanges;
use super::conditions::RouteConditions;
use super::guards::{RouteLimits, said_names};
use super::hosts::{HostMap, MAX_HOST, Map, lower_host};
use super::paths::{NormalPath, PrefixMap, RequestPath};
use super::split::PoolSplit;
use crate::config::{ListenAddress, MatchedPath, Route, compile_regex, compile_regexes};
use crate::core::cookies::cookie_values;
use crate::core::field_names::FieldNames;
use crate::metrics::RouteRequests;
use crate::rt::rooted::ServedRoot;

/// The parts of a request that routes examine.
pub trait RoutedRequest {
    /// Returns the host, in any case and without a port (an IPv6 address in brackets); empty if there is none.
    fn host(&self) -> &[u8];

    /// Returns the path as on the request line; a query in it is ignored.
    fn path(&self) -> &[u8];

    /// Returns the method as on the request line.
    fn method(&self) -> &[u8];

    /// Returns the query after the question mark; empty if there is none.
    fn query(&self) -> &[u8];

    /// Whether a header field with this name, in any case, has a line whose value `fits`.
    fn has_field(&self, name: &str, fits: &mut dyn FnMut(&[u8]) -> bool) -> bool;

    /// Whether a cookie with this name has a value that `fits`, at any position.
    fn has_cookie(&self, name: &str, fits: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.has_field("cookie", &mut |line| {
            cookie_values(line, name.as_bytes()).any(&mut *fits)
        })
    }

    /// Returns the client's address, behind trusted proxies; `None`: it is unknown.
    fn client(&self) -> Option<IpAddr>;

    /// Returns the listener that accepted the client; `None`: the process before an upgrade did not name it.
    fn listener(&self) -> Option<&ListenAddress>;
}

/// A route, with everything that its requests need.
#[derive(Debug)]
pub struct RouteRule {
    /// Index of its pool, if its action is a single pool.
    pub pool: Option<usize>,
    /// Its pools, if there are several.
    pub split: Option<PoolSplit>,
    /// Its name, if it has one.
    pub name: Option<Arc<str>>,
    /// Counts of its requests by that name; created with the first one.
    pub requests: OnceLock<Arc<RouteRequests>>,
    /// The route as configured.
    pub route: Arc<Route>,
    /// Changes of requests and responses; `None`: there are none.
    pub changes: Option<Box<RouteChanges>>,
    /// Its `path_regex`, if one of its texts refers to a group.
    pub path_groups: Option<Regex>,
    /// Whether guards, a redirect to HTTPS or files come before its pool or action.
    pub is_guarded: bool,
    /// Names of fields that only this route may set, including those that it changes; `None`: its authentication sets
    /// none.
    pub said_names: Option<Arc<FieldNames>>,
    /// Its limits, if it has any.
    pub limits: Option<Box<RouteLimits>>,
    /// Root directory of its files; unused without such an action.
    pub root: ServedRoot,
    conditions: RouteConditions,
}

impl RouteRule {
    /// Returns `None` if its pool does not exist, which does not occur in a checked configuration.
    pub(super) fn new(
        route: &Route,
        pool_index: impl Fn(&str) -> Option<usize>,
    ) -> Option<RouteRule> {
        let pool = route.pool.as_deref().and_then(&pool_index);
        if pool.is_none() && route.pool.is_some() {
            return None;
        }
        let changes = RouteChanges::new(route).map(Box::new);
        let files = route.files.as_ref();
        Some(RouteRule {
            pool,
            split: PoolSplit::new(route, &pool_index),
            name: route.name.as_deref().map(Arc::from),
            requests: OnceLock::new(),
            route: Arc::new(route.clone()),
            said_names: said_names(route, changes.as_deref()),
            changes,
            path_groups: path_groups(route),
            is_guarded: route.is_stopped_before_pool(),
            limits: RouteLimits::new(route),
            root: ServedRoot::new(files.map_or_else(PathBuf::new, |files| files.root.clone())),
            conditions: RouteConditions::new(route),
        })
    }
}

/// All routes of a configuration in which at least one has conditions other than hosts and a path prefix.
#[derive(Debug)]
pub(super) struct RuleTable {
    rules: Vec<Arc<RouteRule>>,
    hosts: HostMap<HostRules>,
}

/// Result of searching the routes of one host.
enum RuleSearch<'a> {
    Found(&'a Arc<RouteRule>),
    Nothing,
    /// A dot segment, while the route depends on the path.
    Ambiguous,
}

/// Indices into `rules`, in the order in which they are tried.
type RuleList = Vec<usize>;

/// The routes of one host.
#[derive(Debug, Default)]
struct HostRules {
    exact: Map<RuleList>,
    prefixes: PrefixMap<RuleList>,
    regexes: RegexRules,
    /// Routes for all paths.
    root: RuleList,
    /// Whether a route has a priority: the first match need not be the best then.
    has_priorities: bool,
}

/// The regexes of one host.
#[derive(Debug, Default)]
struct RegexRules {
    /// The distinct patterns.
    patterns: Vec<Arc<str>>,
    /// Index of each pattern in that list.
    places: Map<usize>,
    /// Shared by hosts with the same list.
    automaton: Arc<RegexSet>,
    /// A regex, and the rule to which it belongs.
    rules: Vec<(usize, usize)>,
}

impl RuleTable {
    /// Builds the table, as [`super::RouteTable::new`].
    pub(super) fn new(routes: &[Route], pool_index: impl Fn(&str) -> Option<usize>) -> Self {
        let mut table = RuleTable {
            rules: Vec::new(),
            hosts: HostMap::default(),
        };
        for route in routes {
            let rule = table.rules.len();
            let Some(made) = RouteRule::new(route, &pool_index) else {
                continue;
            };
            table.rules.push(Arc::new(made));
            for host in route.each_host() {
                let host = table.hosts.entry(host);
                host.has_priorities |= route.priority != 0;
                host.insert(route.matched_path(), rule);
            }
        }
        let mut automata = HashMap::new();
        for host in table.hosts.values_mut() {
            host.sort_rules(&table.rules, &mut automata);
        }
        table
    }

    /// Returns all rules, in the configuration's order.
    pub(super) fn rules(&self) -> impl Iterator<Item = &Arc<RouteRule>> {
        self.rules.iter()
    }

    /// Returns the first rule that matches.
    pub(super) fn find(&self, request: &impl RoutedRequest) -> Option<&Arc<RouteRule>> {
        let mut path = RequestPath::new(request.path());
        if !self.hosts.is_nameless() {
            let mut lower = [0u8; MAX_HOST];
            let lower = lower_host(request.host(), &mut lower);
            for host in lower.into_iter().flat_map(|host| self.hosts.named(host)) {
                match self.find_of(host, &mut path, request) {
                    RuleSearch::Found(rule) => return Some(rule),
                    RuleSearch::Ambiguous => return None,
                    RuleSearch::Nothing => {}
                }
            }
        }
        match self.find_of(&self.hosts.any, &mut path, request) {
            RuleSearch::Found(rule) => Some(rule),
            RuleSearch::Ambiguous | RuleSearch::Nothing => None,
        }
    }

    /// Returns the first rule of one host that matches.
    #[inline]
    fn find_of(
        &self,
        host: &HostRules,
        path: &mut RequestPath<'_>,
        request: &impl RoutedRequest,
    ) -> RuleSearch<'_> {
        if host.looks_at_paths() && path.normal().dotted {
            return RuleSearch::Ambiguous;
        }
        let fits = |rule: &&usize| {
            let rule = self.rules.get(**rule);
            rule.is_some_and(|rule| rule.conditions.hold(request))
        };
        let found = match host.has_priorities {
            false => host.find(path, fits),
            true => host.find_highest(path, fits, &self.rules),
        };
        let found = found.and_then(|rule| self.rules.get(rule));
        found.map_or(RuleSearch::Nothing, RuleSearch::Found)
    }
}

/// Returns the regex to whose groups a route's texts refer.
fn path_groups(route: &Route) -> Option<Regex> {
    let pattern = route
        .path_regex
        .as_ref()
        .filter(|_| route.needs_path_groups())?;
    compile_regex(pattern).ok()
}

impl HostRules {
    fn insert(&mut self, path: MatchedPath<'_>, rule: usize) {
        match path {
            MatchedPath::Exact(path) => {
                let key = NormalPath::new(path.as_bytes());
                self.exact.entry(key.text().into()).or_default().push(rule);
            }
            MatchedPath::Prefix(prefix) => {
                let place = self.prefixes.entry(prefix);
                place.unwrap_or(&mut self.root).push(rule);
            }
            MatchedPath::Regex(pattern) => {
                let regexes = &mut self.regexes;
                let next = regexes.patterns.len();
                let place = *regexes
                    .places
                    .entry(pattern.as_bytes().into())
                    .or_insert(next);
                if place == next {
                    regexes.patterns.push(pattern.into());
                }
                regexes.rules.push((place, rule));
            }
        }
    }

    /// Sorts all lists into the order in which they are tried, and builds the automaton, or shares that of another
    /// host with the same regexes.
    fn sort_rules(
        &mut self,
        rules: &[Arc<RouteRule>],
        automata: &mut HashMap<Vec<Arc<str>>, Arc<RegexSet>>,
    ) {
        let highest = |rule: &usize| std::cmp::Reverse(rules[*rule].route.priority);
        let rank = |rule: &usize| (highest(rule), rules[*rule].conditions.rank(), *rule);
        let lists = self.exact.values_mut().chain(self.prefixes.values_mut());
        for list in lists.chain([&mut self.root]) {
            list.sort_by_key(rank);
        }
        let regexes = &mut self.regexes;
        let length = |regex: usize| std::cmp::Reverse(regexes.patterns[regex].len());
        regexes
            .rules
            .sort_by_key(|(regex, rule)| (highest(rule), length(*regex), rank(rule)));
        regexes.automaton = automata
            .entry(regexes.patterns.clone())
            .or_insert_with_key(|patterns| Arc::new(compile_regexes(patterns)))
            .clone();
    }

    /// Whether the host's routes differ by path.
    fn looks_at_paths(&self) -> bool {
        !(self.exact.is_empty() && self.prefixes.is_empty() && self.regexes.rules.is_empty())
    }

    fn find(&self, path: &mut RequestPath<'_>, fits: impl Fn(&&usize) -> bool) -> Option<usize> {
        let first = |list: Option<&RuleList>| list?.iter().find(&fits).copied();
        if self.looks_at_paths() {
            let text = path.normal().text();
            if let Some(rule) = first(self.exact.get(text)) {
                return Some(rule);
            }
            if let Some(rule) = self.prefixes.find(text, |list| first(Some(list))) {
                return Some(rule);
            }
            if let Some(rule) = self.regexes.find(path, &fits) {
                return Some(rule);
            }
        }
        first(Some(&self.root))
    }

    /// As [`HostRules::find`], for routes with priorities: every kind of path is searched, and of rules with the same
    /// priority the first in the order of kinds gets the request.
    fn find_highest(
        &self,
        path: &mut RequestPath<'_>,
        fits: impl Fn(&&usize) -> bool,
        rules: &[Arc<RouteRule>],
    ) -> Option<usize> {
        let best = Cell::new(None::<usize>);
        let priority = |rule: usize| rules.get(rule).map(|rule| rule.route.priority);
        let offer = |rule: Option<usize>| {
            if let Some(rule) = rule
                && best
                    .get()
                    .is_none_or(|best| priority(best) < priority(rule))
            {
                best.set(Some(rule));
            }
        };
        let first = |list: &RuleList| list.iter().find(&fits).copied();
        if self.looks_at_paths() {
            let text = path.normal().text();
            offer(self.exact.get(text).and_then(first));
            self.prefixes.find(text, |list| {
                offer(first(list));
                None::<()>
            });
            offer(self.regexes.find(path, &fits));
        }
        offer(first(&self.root));
        best.get()
    }
}

impl RegexRules {
    /// Returns the first rule whose regex matches the path.
    fn find(&self, path: &RequestPath<'_>, fits: &impl Fn(&&usize) -> bool) -> Option<usize> {
        if self.rules.is_empty() {
            return None;
        }
        let matches = self.automaton.matches(&path.whole());
        let mut rules = self.rules.iter();
        let found = rules
            .find(|(regex, rule)| matches.len() > *regex && matches.matched(*regex) && fits(&rule));
        found.map(|(_, rule)| *rule)
    }
}
