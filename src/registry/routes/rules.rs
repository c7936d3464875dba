//! Routes that ask for more than a host and a path prefix, by the Gateway API's order.
//!
//! Of all routes that fit a request, the first by this order gets it:
//! 1. the host: exact, then wildcards, the longest first, then any;
//! 2. the priority, the highest first;
//! 3. the path: exact, then prefixes, the longest first, then regexes, the longest first, then routes for all paths;
//! 4. the conditions: a listener, then a method, then more header fields, then more query fields, then more cookies, then
//!    a client;
//! 5. the file.
//!
//! Hosts, exact paths and prefixes are found by hash, and the regexes of a host are one automaton. Only routes with the
//! same host and path are tried one after the other.

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

/// What routes look at.
pub trait RoutedRequest {
    /// In any case and without a port (an IPv6 address in brackets), empty if there is none.
    fn host(&self) -> &[u8];

    /// As on the request line; a query is ignored.
    fn path(&self) -> &[u8];

    /// As on the request line.
    fn method(&self) -> &[u8];

    /// What follows the question mark; empty if there is none.
    fn query(&self) -> &[u8];

    /// Whether a field of this name, in any case, has a line whose value `fits`.
    fn has_field(&self, name: &str, fits: &mut dyn FnMut(&[u8]) -> bool) -> bool;

    /// Whether a cookie of this name has a value that `fits`, wherever it stands.
    fn has_cookie(&self, name: &str, fits: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.has_field("cookie", &mut |line| {
            cookie_values(line, name.as_bytes()).any(&mut *fits)
        })
    }

    /// The client's address, behind trusted proxies; `None`: nobody knows.
    fn client(&self) -> Option<IpAddr>;

    /// The listener that the client has come to; `None`: one that the process before the upgrade did not name.
    fn listener(&self) -> Option<&ListenAddress>;
}

/// A route, as far as a request that it fits needs it.
#[derive(Debug)]
pub struct RouteRule {
    /// The index of its pool, if its action is one.
    pub pool: Option<usize>,
    /// Its pools, if there are several.
    pub split: Option<PoolSplit>,
    /// Its name, if it has one.
    pub name: Option<Arc<str>>,
    /// What is counted of its requests by that name; from the first one on.
    pub requests: OnceLock<Arc<RouteRequests>>,
    /// As it is configured.
    pub route: Arc<Route>,
    /// What it changes on the way; `None`: nothing.
    pub changes: Option<Box<RouteChanges>>,
    /// Its `path_regex`, where a text of it names a group.
    pub path_groups: Option<Regex>,
    /// Whether something comes before its pool or action: guards, a redirect to HTTPS, or files.
    pub is_guarded: bool,
    /// Names of fields that only it may say, those that it changes among them; `None`: its authentication says nothing.
    pub said_names: Option<Arc<FieldNames>>,
    /// Its limits, if it has any.
    pub limits: Option<Box<RouteLimits>>,
    /// The directory of its files; without such an action, nobody asks it.
    pub root: ServedRoot,
    conditions: RouteConditions,
}

impl RouteRule {
    /// `None`: its pool is not among those that there are, which no checked configuration has.
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

/// All routes of a configuration in which one asks for more than hosts and a path prefix.
#[derive(Debug)]
pub(super) struct RuleTable {
    rules: Vec<Arc<RouteRule>>,
    hosts: HostMap<HostRules>,
}

/// What a host's routes say of a request.
enum RuleSearch<'a> {
    Found(&'a Arc<RouteRule>),
    Nothing,
    /// A dot segment where the route depends on the path.
    Ambiguous,
}

/// Indices of `rules`, the first to be tried first.
type RuleList = Vec<usize>;

/// The routes of one host.
#[derive(Debug, Default)]
struct HostRules {
    exact: Map<RuleList>,
    prefixes: PrefixMap<RuleList>,
    regexes: RegexRules,
    /// For all paths.
    root: RuleList,
    /// Whether one of them has a priority: the first that fits need not be the one then.
    has_priorities: bool,
}

/// The regexes of one host.
#[derive(Debug, Default)]
struct RegexRules {
    /// The different ones.
    patterns: Vec<Arc<str>>,
    /// Where each of them is in that list.
    places: Map<usize>,
    /// Hosts with the same list share it.
    automaton: Arc<RegexSet>,
    /// A regex, and the rule that it is of.
    rules: Vec<(usize, usize)>,
}

impl RuleTable {
    /// As [`super::RouteTable::new`].
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

    /// All of them, in the file's order.
    pub(super) fn rules(&self) -> impl Iterator<Item = &Arc<RouteRule>> {
        self.rules.iter()
    }

    /// The first rule that fits.
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

    /// The first rule of one host.
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

/// The regex whose groups a route's texts name.
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

    /// Brings all lists into the order in which they are tried, and builds the automaton, or takes the one of another
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

    /// Whether its routes differ by path.
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

    /// As [`HostRules::find`], where routes have priorities: each kind of path has its say, and of equal ones the first
    /// that is asked, in the order of kinds, gets the request.
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
    /// The first rule whose regex has a match in the path.
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
