//! Routes in nginx's order, each with the priority of its place.

use super::conditions::RequestTest;
use super::location::{LocationPlan, PathChange, PlanVariant};
use super::paths::PathTier;
use crate::tools::import::draft::{DraftPath, RouteDraft, toml_text};
use crate::tools::import::notice::ImportNotice;

/// Place of a route in nginx's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RouteTier {
    Of(PathTier),
    /// Some paths of a prefix: before the prefix itself, and after longer ones; the higher number comes first.
    Raised(PathTier, usize),
    /// A regular expression; the higher number comes first.
    Regex(usize),
    /// A route before all locations; the higher number comes first.
    Early(usize),
}

impl RouteTier {
    /// Rank among all routes: firm paths come before regular expressions.
    fn rank(self) -> (u8, usize) {
        match self {
            RouteTier::Raised(PathTier::Firm, n) => (3, n),
            RouteTier::Raised(_, n) => (0, n),
            RouteTier::Of(PathTier::Plain) => (0, 0),
            RouteTier::Of(PathTier::Edge(length)) => (1, length),
            RouteTier::Regex(n) => (2, n),
            RouteTier::Of(PathTier::Firm) => (3, 0),
            RouteTier::Early(n) => (4, n),
        }
    }
}

/// Routes of a server so far.
pub(super) struct RouteOrder {
    hosts: Vec<String>,
    routes: Vec<(RouteTier, RouteDraft)>,
}

impl RouteOrder {
    /// Routes for these hosts; empty for the default server.
    pub(super) fn new(hosts: &[String]) -> Self {
        RouteOrder {
            hosts: hosts.to_vec(),
            routes: Vec::new(),
        }
    }

    /// Whether there are no routes.
    pub(super) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Removes all routes.
    pub(super) fn clear(&mut self) {
        self.routes.clear();
    }

    /// Whether a route for this path comes before regular expressions.
    pub(super) fn has_firm(&self, path: &DraftPath) -> bool {
        let firm = RouteTier::Of(PathTier::Firm);
        self.routes
            .iter()
            .any(|(tier, route)| *tier == firm && route.path == *path)
    }

    /// Adds the routes of a plan for one path. Notices are added once.
    pub(super) fn push_plan(
        &mut self,
        tier: RouteTier,
        path: DraftPath,
        plan: &LocationPlan,
        is_first: bool,
    ) {
        let notices: &[ImportNotice] = if is_first { &plan.notices } else { &[] };
        for (n, variant) in plan.variants.iter().enumerate() {
            self.push_variant(tier, &path, variant, if n == 0 { notices } else { &[] });
        }
        let base = PlanVariant {
            test: RequestTest::default(),
            keys: plan.keys.clone(),
            pools: plan.pools.clone(),
            change: plan.change.clone(),
        };
        let notices = if plan.variants.is_empty() {
            notices
        } else {
            &[]
        };
        self.push_variant(tier, &path, &base, notices);
    }

    pub(super) fn push_variant(
        &mut self,
        tier: RouteTier,
        path: &DraftPath,
        variant: &PlanVariant,
        notices: &[ImportNotice],
    ) {
        let path = variant.test.path.as_ref().unwrap_or(path).clone();
        let hosts = match &variant.test.hosts {
            Some(hosts) => hosts.clone(),
            None => self.hosts.to_vec(),
        };
        let mut keys = variant.test.keys.clone();
        keys.extend(variant.keys.iter().cloned());
        keys.extend(change_key(&variant.change, &path));
        let route = RouteDraft {
            notices: notices.to_vec(),
            hosts,
            path,
            priority: 0,
            keys,
            pools: variant.pools.clone(),
        };
        self.routes.push((tier, route));
    }

    /// The routes with their priorities. Each different place has its own; the lowest one needs none.
    pub(super) fn finish(self) -> Vec<RouteDraft> {
        let mut ranks: Vec<_> = self.routes.iter().map(|(tier, _)| tier.rank()).collect();
        ranks.extend([(0, 0)]);
        ranks.sort_unstable();
        ranks.dedup();
        // Firm paths come before prefixes anyway, if nothing is between them.
        let is_between =
            |rank: &(u8, usize)| (1..=2).contains(&rank.0) || rank.0 != 4 && rank.1 > 0;
        let is_flat = !ranks.iter().any(is_between);
        let mut known: Vec<RouteDraft> = Vec::new();
        for (tier, mut route) in self.routes {
            let rank = match tier.rank() {
                (3, _) if is_flat => (0, 0),
                rank => rank,
            };
            let place = ranks
                .iter()
                .filter(|other| !is_flat || other.0 != 3)
                .position(|other| *other == rank);
            route.priority = i32::try_from(place.unwrap_or(0)).unwrap_or(0).min(1000);
            let is_same = |other: &RouteDraft| {
                other.path == route.path
                    && other.hosts == route.hosts
                    && matchers(other) == matchers(&route)
            };
            // Of several equal routes, only the highest one ever gets a request.
            match known.iter().position(is_same) {
                None => known.push(route),
                Some(at) if known[at].priority < route.priority => {
                    let notices = std::mem::take(&mut known[at].notices);
                    route.notices.extend(notices);
                    known[at] = route;
                }
                Some(at) => known[at].notices.append(&mut route.notices),
            }
        }
        known.sort_by_key(|route| {
            (
                std::cmp::Reverse(route.priority),
                route.path != DraftPath::any(),
            )
        });
        known
    }
}

/// Conditions of a route besides host and path.
fn matchers(route: &RouteDraft) -> Vec<&(&'static str, String)> {
    let is_matcher = |key: &&(&'static str, String)| {
        ["methods", "headers", "query", "cookies", "clients"].contains(&key.0)
    };
    route.keys.iter().filter(is_matcher).collect()
}

/// Key for the change of the path.
fn change_key(change: &PathChange, path: &DraftPath) -> Option<(&'static str, String)> {
    match (change, path) {
        (PathChange::None, _) => None,
        (PathChange::Replace { from, to }, DraftPath::Prefix(prefix))
            if to == "/"
                && from.trim_end_matches('/') == prefix
                && from.ends_with('/')
                && prefix != "/" =>
        {
            Some(("strip_prefix", toml_text(prefix)))
        }
        (PathChange::Replace { from, to }, DraftPath::Exact(path)) if from == path => Some((
            "rewrite",
            toml_text(&to.replace('$', "$$").replace('{', "{{").replace('}', "}}")),
        )),
        (change, _) => Some(("rewrite", change.rewrite_value())),
    }
}
