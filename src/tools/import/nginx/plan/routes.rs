//! A server's locations become routes, or are left out by name.

use super::files::FilesEnd;
use super::location::{LocationPlan, LocationPlanner};
use super::ordering::{RouteOrder, RouteTier};
use super::paths::{PathTier, PlannedPrefix, longest_before, prefix_routes};
use super::pools::PoolBook;
use super::rewrites::judge_if;
use super::targets::read_end;
use crate::tools::import::draft::{DraftKeys, DraftPath, RouteGroup, toml_text};
use crate::tools::import::nginx::model::{LocationKind, NginxLocation, NginxServer, NginxSite};
use crate::tools::import::nginx::pcre::translate_regex;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::{ImportNotice, NoticeList};
use crate::tools::import::offered;

/// The routes of a server. `hosts`: its names, or none where it is the default one.
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
        hosts,
        book,
        routes: RouteOrder::new(hosts),
        said: Vec::new(),
    };
    planner.plan_whole();
    group.notices.append(&mut planner.said);
    group.routes = planner.routes.finish();
    group
}

/// What plans a server.
pub(super) struct ServerPlanner<'p, 'a> {
    pub locations: LocationPlanner<'p, 'a>,
    pub hosts: &'p [String],
    pub book: &'p mut PoolBook,
    pub routes: RouteOrder,
    /// About the server.
    pub said: Vec<ImportNotice>,
}

impl<'a> ServerPlanner<'_, 'a> {
    fn plan_whole(&mut self) {
        let server = self.locations.server;
        let level = server.directive.inner();
        // In the order of the file, as nginx does it before it looks for a location.
        let mut early = level.len();
        for directive in level {
            early -= 1;
            match directive.name() {
                "if" => self.plan_early_if(directive, early),
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

    /// What a whole server answers.
    fn plan_end(&mut self, end: &'a NginxDirective) {
        let server = self.locations.server;
        let mut plan = LocationPlan::default();
        let is_rewrite = end.name() == "rewrite";
        let values = self.locations.values(&server.scope, is_rewrite);
        let pattern = match is_rewrite && end.arg(1).contains("$1") {
            true => translate_regex(end.arg(0), false).ok(),
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
        let scope = &self.locations.server.scope;
        let values = self.locations.values(scope, false);
        match self.locations.read_if(directive, scope, &values) {
            Ok(variants) => {
                self.said.extend(super::rewrites::judge_trust(directive));
                for variant in &variants {
                    self.routes.push_variant(
                        RouteTier::Early(early),
                        &DraftPath::any(),
                        variant,
                        &[],
                    );
                }
            }
            Err(why) => self.said.extend(judge_if(directive, &why)),
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
            true => translate_regex(directive.arg(0), false).and_then(|pattern| {
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
        let mut prefixes: Vec<PlannedPrefix<'_, '_>> = Vec::new();
        let (mut exact, mut regexes) = (Vec::new(), Vec::new());
        for location in &server.locations {
            match location.kind {
                LocationKind::Prefix | LocationKind::FirmPrefix => {
                    self.add_prefix(location, &mut prefixes)
                }
                LocationKind::Exact => exact.push(location),
                LocationKind::Regex => regexes.push(location),
                LocationKind::Named => {}
            }
        }
        self.add_root(&mut prefixes);
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
        }
        for location in exact {
            self.plan_exact(location, &prefixes);
        }
        // Those inside a prefix come first.
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
    }

    fn add_prefix<'l>(
        &mut self,
        location: &'l NginxLocation<'a>,
        prefixes: &mut Vec<PlannedPrefix<'l, 'a>>,
    ) {
        let place = &location.directive.place;
        let say = |why: &str| {
            ImportNotice::left_out(place, format!("`{}`: {why}", location.directive.line()))
        };
        let Some(bare) = plain_prefix(location.path) else {
            let why =
                "a `path_prefix` can't have this path; its requests go where the shorter one leads";
            self.said.push(say(why));
            return;
        };
        if self.is_shadowed(location) {
            self.said.push(say(
                "it stands in a location that a longer one hides; nginx never gets there",
            ));
            return;
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
    }

    /// What no location is for: files below `root`.
    fn add_root(&mut self, prefixes: &mut Vec<PlannedPrefix<'_, 'a>>) {
        let server = self.locations.server;
        if prefixes.iter().any(|prefix| prefix.location.path == "/") {
            return;
        }
        let place = &server.directive.place;
        let mut plan = LocationPlan::default();
        let location = NginxLocation {
            directive: server.directive,
            scope: server.scope.clone(),
            kind: LocationKind::Prefix,
            path: "/",
        };
        let values = self.locations.values(&server.scope, false);
        let files = super::files::read_files(&location, &values, FilesEnd::Here);
        let guards =
            super::guards::read_guards(self.locations.site, server, &server.scope, "server");
        match (files, guards) {
            (Ok(files), Ok(guards)) => {
                plan.keys = files.keys;
                plan.notices.extend(files.notices);
                plan.notices.extend(guards.notices);
                plan.keys.extend(guards.keys);
                self.locations.add_answer_changes(&values, false, &mut plan);
            }
            (_, Err(notice)) => plan = self.locations.closed(self.book, notice),
            (Err(_), _) => {
                let text =
                    "there is no `location /`: nginx serves files for what no location matches";
                // For any host that is not needed: without a route it's 404.
                if self.hosts.is_empty() {
                    self.said.leave_out(place, text);
                    return;
                }
                plan = self
                    .locations
                    .closed(self.book, ImportNotice::left_out(place, text));
            }
        }
        self.routes.push_plan(
            RouteTier::Of(PathTier::Plain),
            DraftPath::any(),
            &plan,
            true,
        );
    }

    /// nginx sends who leaves out the last slash of a location that passes requests on to the same with the slash.
    fn add_slashes(&mut self, prefixes: &[PlannedPrefix<'_, '_>], exact: &[&NginxLocation<'_>]) {
        for (n, prefix) in prefixes.iter().enumerate() {
            let is_taken = exact.iter().any(|other| other.path == prefix.bare)
                || prefixes
                    .iter()
                    .any(|other| other.location.path == prefix.bare);
            if !prefix.location.path.ends_with('/') || prefix.bare == "/" || is_taken {
                continue;
            }
            if !prefix.plan.adds_slash || prefix.plan.is_closed {
                // Without the slash it is not this location's.
                let outer = longest_before(prefixes, &prefix.bare, n);
                if let Some(outer) = outer.filter(|outer| {
                    !prefixes[*outer].plan.does_the_same(&prefix.plan) && !prefix.plan.is_closed
                }) {
                    let path = DraftPath::Exact(prefix.bare.clone());
                    let plan = prefixes[outer].plan.clone();
                    // The prefix takes the path without the slash, too: this has to come before it.
                    let tier = match prefix.is_firm() {
                        true => PathTier::Firm,
                        false => PathTier::Plain,
                    };
                    self.routes
                        .push_plan(RouteTier::Of(tier), path, &plan, false);
                }
                continue;
            }
            let to = format!("{}/", prefix.bare);
            let keys = vec![(
                "redirect",
                format!("{{ status = 301, path = {} }}", toml_text(&to)),
            )];
            match offered::check_route(&keys, &[]) {
                Ok(()) => {
                    let mut plan = LocationPlan {
                        keys,
                        ..LocationPlan::default()
                    };
                    let values = self.locations.values(&prefix.location.scope, false);
                    self.locations.add_answer_changes(&values, false, &mut plan);
                    self.routes.push_plan(
                        RouteTier::Of(PathTier::Firm),
                        DraftPath::Exact(prefix.bare.clone()),
                        &plan,
                        false,
                    );
                }
                Err(_) => self.said.tell_difference(
                    &prefix.location.directive.place,
                    format!(
                        "{} without the slash goes to the app: nginx redirects it to {to}",
                        prefix.bare
                    ),
                ),
            }
        }
    }

    /// A longer prefix below a `^~` one: it has to come before it, and then comes before regular expressions, too.
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
                DraftPath::Prefix(inner.bare.clone()),
                &inner.plan,
                false,
            );
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

    /// A nested location that another one outside, longer than its parent, hides.
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

    fn plan_exact(&mut self, location: &NginxLocation<'a>, prefixes: &[PlannedPrefix<'_, '_>]) {
        let plan = self.locations.plan(location, self.book);
        let path = DraftPath::Exact(location.path.to_owned());
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

/// The path as `path_prefix` takes it, without the last slash.
fn plain_prefix(path: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()+,;=:@".contains(&b);
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
