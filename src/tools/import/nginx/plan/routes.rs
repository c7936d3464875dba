//! Converts the locations of a server to routes, or reports them as left out.

use super::location::{LocationPlan, LocationPlanner};
use super::ordering::{RouteOrder, RouteTier};
use super::paths::{PathTier, PlannedPrefix, beyond_edge, prefix_routes};
use super::pools::PoolBook;
use super::rewrites::judge_if;
use super::targets::read_end;
use crate::tools::import::draft::{DraftKeys, DraftPath, RouteGroup, toml_text};
use crate::tools::import::nginx::model::{LocationKind, NginxLocation, NginxServer, NginxSite};
use crate::tools::import::nginx::pcre::{encode_path, translate_path_regex};
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::{ImportNotice, NoticeList};
use crate::tools::import::offered;

/// Routes of a server. `hosts`: its names, or none for the default server.
pub(super) fn plan_server(
    site: &NginxSite<'_>,
    server: &NginxServer<'_>,
    hosts: &[String],
    largest_body: u64,
    book: &mut PoolBook,
) -> RouteGroup {
    let place = &server.directive.place;
    let title = match server.hosts.is_empty() {
        true => format!("server, {place}"),
        false => format!("server {}, {place}", server.hosts.join(" ")),
    };
    let mut group = RouteGroup {
        title,
        ..RouteGroup::default()
    };
    group.notices.extend(server.notices.iter().cloned());
    let level = server.directive.inner();
    group.notices.extend(level.iter().filter_map(super::judge));
    let mut planner = ServerPlanner {
        locations: LocationPlanner {
            site,
            server,
            largest_body,
        },
        book,
        routes: RouteOrder::new(hosts),
        said: Vec::new(),
        https_port: None,
    };
    planner.plan_whole();
    group.notices.append(&mut planner.said);
    let https_port = planner.https_port;
    group.routes = planner.routes.finish();
    if let Some(port) = https_port {
        super::redirect::send_to_https(&mut group, port);
    }
    group
}

/// Planner for a server.
pub(super) struct ServerPlanner<'p, 'a> {
    pub locations: LocationPlanner<'p, 'a>,
    pub book: &'p mut PoolBook,
    pub routes: RouteOrder,
    /// Notices about the server.
    pub said: Vec<ImportNotice>,
    /// Port of HTTPS, if an `if` redirects all requests without TLS there.
    pub https_port: Option<u16>,
}

impl<'a> ServerPlanner<'_, 'a> {
    fn plan_whole(&mut self) {
        let server = self.locations.server;
        let level = server.directive.inner();
        // In the order of the file, as nginx does before it searches a location.
        let mut early = level.len();
        for directive in level {
            early -= 1;
            match directive.name() {
                "if" => self.plan_early_if(directive, early),
                // Later directives are not executed.
                "break" => break,
                "return" => return self.plan_end(directive),
                "rewrite" => {
                    if super::redirect::whole_rewrite(std::slice::from_ref(directive)).is_some() {
                        return self.plan_end(directive);
                    }
                    self.plan_early_rewrite(directive, early);
                }
                _ => {}
            }
        }
        self.plan_locations();
    }

    /// Plans the response of a whole server.
    fn plan_end(&mut self, end: &'a NginxDirective) {
        let server = self.locations.server;
        let mut plan = LocationPlan::default();
        let is_rewrite = end.name() == "rewrite";
        let values = self.locations.values(&server.scope, is_rewrite);
        let pattern = match is_rewrite && end.arg(1).contains("$1") {
            true => translate_path_regex(end.arg(0), false).ok(),
            false => None,
        };
        match read_end(end, &values, &mut plan.notices) {
            Ok(keys) => {
                plan.keys = keys;
                self.locations.add_answer_changes(&values, false, &mut plan);
            }
            Err(why) if offered::has_route_key("redirect") => {
                plan = self.locations.closed(self.book, end.refusal(&why));
            }
            Err(_) => {
                let why = "lameduck has no redirects and fixed answers for one host";
                plan = self.locations.closed(self.book, end.refusal(why));
            }
        }
        let path = pattern
            .filter(|_| !plan.is_closed)
            .map_or_else(DraftPath::any, DraftPath::Regex);
        self.routes
            .push_plan(RouteTier::Of(PathTier::Plain), path, &plan, true);
    }

    fn plan_early_if(&mut self, directive: &'a NginxDirective, early: usize) {
        if self.routes.is_empty()
            && let Some(redirect) = super::redirect::read_test(directive, self.locations.server)
        {
            self.said.extend(super::rewrites::judge_trust(directive));
            self.said.extend(redirect.notices);
            self.https_port = Some(redirect.port);
            return;
        }
        let scope = &self.locations.server.scope;
        let values = self.locations.values(scope, false);
        match self.locations.read_if(directive, scope, &values) {
            Ok(variants) => {
                self.said
                    .extend(super::rewrites::judge_condition(directive));
                for variant in &variants {
                    self.routes.push_variant(
                        RouteTier::Early(early),
                        &DraftPath::any(),
                        variant,
                        &[],
                    );
                }
            }
            Err(why) => {
                let level = self.locations.server.directive.inner();
                self.said.extend(judge_if(level, directive, &why))
            }
        }
    }

    fn plan_early_rewrite(&mut self, directive: &'a NginxDirective, early: usize) {
        let server = self.locations.server;
        let is_redirect = ["permanent", "redirect"].contains(&directive.arg(2))
            || directive.arg(1).contains("://");
        let values = self.locations.values(&server.scope, true);
        let mut notices = Vec::new();
        let read = match is_redirect {
            false => {
                Err("lameduck passes paths as they are, and looks for a route once".to_owned())
            }
            true => translate_path_regex(directive.arg(0), false).and_then(|pattern| {
                let mut keys = vec![("path_regex", toml_text(&pattern))];
                let end = match offered::has_route_key("redirect") {
                    true => read_end(directive, &values, &mut notices)?,
                    false => return Err("lameduck passes paths as they are".into()),
                };
                keys.extend(end.iter().cloned());
                offered::check_route(&keys, &[])?;
                Ok((pattern, end))
            }),
        };
        match read {
            Ok((pattern, keys)) => {
                let mut plan = LocationPlan {
                    keys,
                    notices,
                    ..LocationPlan::default()
                };
                self.locations.add_answer_changes(&values, false, &mut plan);
                self.routes.push_plan(
                    RouteTier::Early(early),
                    DraftPath::Regex(pattern),
                    &plan,
                    true,
                );
            }
            Err(why) => self.said.push(directive.refusal(&why)),
        }
    }

    fn plan_locations(&mut self) {
        let server = self.locations.server;
        let root = NginxLocation {
            directive: server.directive,
            scope: server.scope.clone(),
            kind: LocationKind::Prefix,
            path: "/",
            root_path: "/",
        };
        let mut prefixes: Vec<PlannedPrefix<'_, '_>> = Vec::new();
        let (mut exact, mut regexes) = (Vec::new(), Vec::new());
        let mut unsayable = Vec::new();
        for location in &server.locations {
            match location.kind {
                LocationKind::Prefix | LocationKind::FirmPrefix => {
                    unsayable.extend(self.add_prefix(location, &mut prefixes))
                }
                LocationKind::Exact => exact.push(location),
                LocationKind::Regex => regexes.push(location),
                LocationKind::Named => {}
            }
        }
        // Files below `root`, for paths without a location.
        if !prefixes.iter().any(|prefix| prefix.location.path == "/") {
            let plan = self.locations.plan(&root, self.book);
            prefixes.push(PlannedPrefix {
                location: &root,
                bare: "/".to_owned(),
                plan,
            });
        }
        self.add_slashes(&prefixes, &exact);
        for route in prefix_routes(&prefixes) {
            let prefix = &prefixes[route.of];
            let is_first = !matches!(route.path, DraftPath::Regex(_));
            self.routes.push_plan(
                RouteTier::Of(route.tier),
                route.path,
                &prefix.plan,
                is_first,
            );
            self.raise_hidden(&prefixes, route.of);
            self.raise_variants(&prefixes, route.of);
        }
        for location in &exact {
            self.plan_exact(location, &prefixes, &exact);
        }
        // Locations within a prefix come first.
        let is_nested = |location: &&NginxLocation<'_>| {
            !server
                .directive
                .inner()
                .iter()
                .any(|d| std::ptr::eq(d, location.directive))
        };
        regexes.sort_by_key(|location| !is_nested(location));
        let count = regexes.len();
        for (n, location) in regexes.into_iter().enumerate() {
            self.plan_regex(location, &prefixes, 2 * (count - n));
        }
        for location in unsayable {
            let plan = self.locations.plan(location, self.book);
            self.close_around(location, &prefixes, plan.keeps_out());
        }
    }

    fn add_prefix<'l>(
        &mut self,
        location: &'l NginxLocation<'a>,
        prefixes: &mut Vec<PlannedPrefix<'l, 'a>>,
    ) -> Option<&'l NginxLocation<'a>> {
        let place = &location.directive.place;
        let say = |why: &str| {
            ImportNotice::left_out(place, format!("`{}`: {why}", location.directive.line()))
        };
        let Some(bare) = plain_prefix(location.path) else {
            let why =
                "a `path_prefix` can't have this path; its requests go where the shorter one leads";
            self.said.push(say(why));
            return Some(location);
        };
        if self.is_shadowed(location) {
            self.said.push(say(
                "it stands in a location that a longer one hides; nginx never gets there",
            ));
            return None;
        }
        let plan = self.locations.plan(location, self.book);
        match prefixes
            .iter_mut()
            .find(|other| other.location.path == location.path)
        {
            None => prefixes.push(PlannedPrefix {
                location,
                bare,
                plan,
            }),
            Some(known) => {
                self.said.push(say("another location has the same path"));
                if plan.is_closed {
                    known.plan = plan;
                }
            }
        }
        None
    }

    /// Adds variants with paths of their own before their prefix, and after longer ones.
    fn raise_variants(&mut self, prefixes: &[PlannedPrefix<'_, '_>], of: usize) {
        let prefix = &prefixes[of];
        let variants = || {
            prefix
                .plan
                .variants
                .iter()
                .filter(|v| v.test.path.is_some())
        };
        if prefix.bare == "/" || variants().next().is_none() {
            return;
        }
        let base = match prefix.is_firm() {
            true => PathTier::Firm,
            false => PathTier::Plain,
        };
        let length = |prefix: &PlannedPrefix<'_, '_>| 2 * prefix.location.path.len();
        for variant in variants() {
            let tier = RouteTier::Raised(base, length(prefix) + 1);
            self.routes
                .push_variant(tier, &DraftPath::any(), variant, &[]);
        }
        for longer in prefixes {
            let is_below = longer.location.path.len() > prefix.location.path.len()
                && longer.location.path.starts_with(prefix.location.path);
            if is_below && longer.is_firm() == prefix.is_firm() {
                let tier = RouteTier::Raised(base, length(longer));
                let path = DraftPath::Prefix(longer.bare.clone());
                self.routes.push_plan(tier, path, &longer.plan, false);
            }
        }
    }

    /// Adds a longer prefix below a `^~` one, which has to come before it, and thus also before regular expressions.
    fn raise_hidden(&mut self, prefixes: &[PlannedPrefix<'_, '_>], firm: usize) {
        let outer = &prefixes[firm];
        if !outer.is_firm() {
            return;
        }
        let server = self.locations.server;
        let has_regexes = server
            .locations
            .iter()
            .any(|l| l.kind == LocationKind::Regex);
        for inner in prefixes {
            let is_below = inner.location.path.len() > outer.location.path.len()
                && inner.location.path.starts_with(outer.location.path);
            let path = DraftPath::Prefix(inner.bare.clone());
            if inner.is_firm() || !is_below || self.routes.has_firm(&path) {
                continue;
            }
            self.routes.push_plan(
                RouteTier::Of(PathTier::Firm),
                path.clone(),
                &inner.plan,
                false,
            );
            let raised = RouteTier::Raised(PathTier::Firm, 2 * inner.location.path.len());
            // nginx compares character by character, so paths that continue with another character belong to this
            // location, too.
            if !inner.has_slash() {
                let edge = DraftPath::Regex(beyond_edge(inner.location.path));
                self.routes.push_plan(raised, edge, &inner.plan, false);
            }
            if prefixes
                .iter()
                .any(|shorter| inner.is_beyond_edge_of(shorter))
            {
                self.routes.push_plan(raised, path, &inner.plan, false);
            }
            if has_regexes {
                let text = format!(
                    "`{}`: it comes before regular expressions, since it is below `^~ {}`",
                    inner.location.directive.line(),
                    outer.location.path
                );
                self.said
                    .tell_difference(&inner.location.directive.place, text);
            }
        }
    }

    /// Whether a nested location is never used, because of a longer one outside of its parent.
    fn is_shadowed(&self, location: &NginxLocation<'_>) -> bool {
        let server = self.locations.server;
        let level = server.directive.inner();
        if level
            .iter()
            .any(|outer| std::ptr::eq(outer, location.directive))
        {
            return false;
        }
        let is_prefix = |other: &&NginxLocation<'_>| {
            matches!(other.kind, LocationKind::Prefix | LocationKind::FirmPrefix)
        };
        let parents: Vec<_> = server
            .locations
            .iter()
            .filter(is_prefix)
            .filter(|parent| contains(parent.directive, location.directive))
            .collect();
        parents.iter().any(|parent| {
            server.locations.iter().filter(is_prefix).any(|other| {
                other.path.len() > parent.path.len()
                    && location.path.starts_with(other.path)
                    && !std::ptr::eq(other.directive, location.directive)
                    && !contains(parent.directive, other.directive)
                    && !contains(other.directive, location.directive)
            })
        })
    }

    fn plan_exact(
        &mut self,
        location: &NginxLocation<'a>,
        prefixes: &[PlannedPrefix<'_, '_>],
        exact: &[&NginxLocation<'_>],
    ) {
        let plan = self.locations.plan(location, self.book);
        self.add_slash_of_exact(location, &plan, prefixes, exact);
        let path = DraftPath::Exact(encode_path(location.path));
        let keys: DraftKeys = path
            .key()
            .into_iter()
            .chain(plan.keys.iter().cloned())
            .collect();
        match offered::check_route(&keys, &plan.pools) {
            Ok(()) => self
                .routes
                .push_plan(RouteTier::Of(PathTier::Firm), path, &plan, true),
            Err(why) => {
                let text = format!("`{}`: {why}", location.directive.line());
                self.said.leave_out(&location.directive.place, text);
                self.close_around(location, prefixes, plan.is_closed);
            }
        }
    }
}

pub(super) fn contains(outer: &NginxDirective, inner: &NginxDirective) -> bool {
    outer
        .inner()
        .iter()
        .any(|d| std::ptr::eq(d, inner) || contains(d, inner))
}

/// Path in the form of `path_prefix`: encoded, without the final slash.
fn plain_prefix(path: &str) -> Option<String> {
    // A location with a percent sign matches a path that is encoded twice.
    let encoded = (!path.contains('%')).then(|| encode_path(path))?;
    let path = &*encoded;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()+,;=:@%".contains(&b);
    let sound = path.starts_with('/')
        && path.len() <= 500
        && path.bytes().all(plain)
        && !path.contains("//")
        && !path.contains("://")
        && !path
            .split('/')
            .any(|segment| segment == "." || segment == "..");
    let bare = path.trim_end_matches('/');
    sound.then(|| {
        if bare.is_empty() {
            "/".to_owned()
        } else {
            bare.to_owned()
        }
    })
}
