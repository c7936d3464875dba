//! Locations become routes, or are left out by name.

use super::guards::{contentless, guard};
use super::pools::{PassTarget, PoolBook};
use crate::tools::import::nginx::draft::{RouteDraft, RouteGroup};
use crate::tools::import::nginx::model::{LocationKind, NginxLocation, NginxServer, NginxSite};
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;

/// What a location does with a request. When lameduck learns to redirect, to answer and to serve files, this is the
/// place where their directives become actions; [`plan_server`] writes them.
#[derive(Debug)]
enum LocationAction {
    /// It goes to this pool.
    Pool(String),
    /// lameduck can't do it: where that is said, and why.
    Refused(ImportNotice),
}

/// The routes of a server. `hosts`: its names, or none where it is the default one.
pub(super) fn plan_server(
    site: &NginxSite<'_>,
    server: &NginxServer<'_>,
    hosts: &[String],
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
        site,
        server,
        hosts,
        book,
        routes: Vec::new(),
    };
    match server
        .scope
        .own("return")
        .or_else(|| super::redirect::whole_rewrite(level))
    {
        Some(end) => planner.refuse_whole(end),
        None => planner.plan_locations(),
    }
    group.routes = planner.routes;
    group
}

struct ServerPlanner<'p, 'a> {
    site: &'p NginxSite<'a>,
    server: &'p NginxServer<'a>,
    hosts: &'p [String],
    book: &'p mut PoolBook,
    routes: Vec<RouteDraft>,
}

impl ServerPlanner<'_, '_> {
    /// A route, or with `pool: None` only what is said.
    fn push(&mut self, prefix: &str, pool: Option<String>, notices: Vec<ImportNotice>) {
        self.routes.push(RouteDraft {
            notices,
            hosts: self.hosts.to_vec(),
            prefix: prefix.to_owned(),
            pool,
        });
    }

    /// Puts the pool that answers 503 there. For any host and path that is not needed: without a route it's 404.
    fn push_left_out(&mut self, prefix: &str, notice: ImportNotice) {
        let falls = !self.hosts.is_empty() || prefix != "/";
        let pool = falls.then(|| self.book.left_out(self.site));
        self.push(prefix, pool, vec![notice]);
    }

    fn refuse_whole(&mut self, end: &NginxDirective) {
        let text = format!(
            "`{}`: lameduck has no redirects and fixed answers for one host",
            end.line()
        );
        self.push_left_out("/", ImportNotice::left_out(&end.place, text));
    }

    fn plan_locations(&mut self) {
        let (mut exact, mut regexes) = (Vec::new(), Vec::new());
        let server = self.server;
        for location in &server.locations {
            match location.kind {
                LocationKind::Prefix | LocationKind::FirmPrefix => self.plan_prefix(location),
                LocationKind::Exact => exact.push(location),
                LocationKind::Regex => regexes.push(location),
                LocationKind::Named => {}
            }
        }
        if !self.routes.iter().any(|route| route.prefix == "/") {
            let text = "there is no `location /`: nginx serves files for what no location matches";
            self.push_left_out("/", ImportNotice::left_out(&server.directive.place, text));
        }
        let edges: Vec<_> = server
            .locations
            .iter()
            .filter_map(|location| self.edge_notice(location))
            .collect();
        if let Some(first) = self.routes.first_mut() {
            first.notices.extend(edges);
        }
        for location in exact {
            self.plan_exact(location);
        }
        for location in regexes {
            self.plan_regex(location);
        }
        self.routes.sort_by_key(|route| route.prefix != "/");
    }

    fn plan_prefix(&mut self, location: &NginxLocation<'_>) {
        let place = &location.directive.place;
        let refuse = |why: &str| {
            ImportNotice::left_out(place, format!("`{}`: {why}", location.directive.line()))
        };
        let Some(prefix) = plain_prefix(location.path) else {
            self.push("/", None, vec![refuse("a `path_prefix` can't have this path; its requests go where the shorter one leads")]);
            return;
        };
        if self.is_shadowed(location) {
            self.push(
                &prefix,
                None,
                vec![refuse(
                    "it stands in a location that a longer one hides; nginx never gets there",
                )],
            );
            return;
        }
        let (action, mut notices) = self.action_of(location);
        let before = self
            .routes
            .iter()
            .find(|route| route.prefix == prefix && route.pool.is_some());
        match (action, before.and_then(|route| route.pool.clone())) {
            (LocationAction::Pool(pool), None) => self.push(&prefix, Some(pool), notices),
            (LocationAction::Pool(pool), Some(other)) if pool == other => {
                self.push(&prefix, None, notices)
            }
            (LocationAction::Refused(notice), None) => {
                notices.insert(0, notice);
                let last = notices.remove(0);
                self.push_left_out(&prefix, last);
                self.push(&prefix, None, notices);
            }
            (LocationAction::Pool(_), Some(_)) => {
                let text = format!(
                    "`{}`: lameduck takes it for the same as the one with or without the last slash, which comes first",
                    location.directive.line()
                );
                self.push(&prefix, None, vec![ImportNotice::left_out(place, text)]);
            }
            (LocationAction::Refused(notice), Some(_)) => {
                // Whichever is guarded decides for both.
                let left_out = self.book.left_out(self.site);
                for route in self
                    .routes
                    .iter_mut()
                    .filter(|route| route.prefix == prefix && route.pool.is_some())
                {
                    route.pool = Some(left_out.clone());
                }
                self.push(&prefix, None, vec![notice]);
            }
        }
    }

    /// A nested location that another one outside, longer than its parent, hides.
    fn is_shadowed(&self, location: &NginxLocation<'_>) -> bool {
        let level = self.server.directive.inner();
        if level
            .iter()
            .any(|outer| std::ptr::eq(outer, location.directive))
        {
            return false;
        }
        let is_prefix = |other: &&NginxLocation<'_>| {
            matches!(other.kind, LocationKind::Prefix | LocationKind::FirmPrefix)
        };
        let parents: Vec<_> = self
            .server
            .locations
            .iter()
            .filter(is_prefix)
            .filter(|parent| contains(parent.directive, location.directive))
            .collect();
        parents.iter().any(|parent| {
            self.server.locations.iter().filter(is_prefix).any(|other| {
                other.path.len() > parent.path.len()
                    && location.path.starts_with(other.path)
                    && !std::ptr::eq(other.directive, location.directive)
                    && !contains(parent.directive, other.directive)
                    && !contains(other.directive, location.directive)
            })
        })
    }

    fn plan_exact(&mut self, location: &NginxLocation<'_>) {
        let (action, mut notices) = self.action_of(location);
        let below = self.pool_below(location.path);
        let notice = match action {
            LocationAction::Pool(pool) if Some(&pool) == below.as_ref() => {
                self.push("/", None, notices);
                return;
            }
            LocationAction::Pool(_) => ImportNotice::left_out(
                &location.directive.place,
                format!(
                    "`{}`: lameduck has no routes for one exact path",
                    location.directive.line()
                ),
            ),
            LocationAction::Refused(notice) => notice,
        };
        // Closed rather than open: the path itself, and what lies below it, unless a route stands there.
        let free = plain_prefix(location.path).filter(|prefix| {
            prefix != "/"
                && !self
                    .routes
                    .iter()
                    .any(|route| route.prefix.starts_with(&**prefix))
        });
        match free {
            Some(prefix) => {
                let text = format!(
                    "{}; what lies below this path is closed with it",
                    notice.text
                );
                self.push_left_out(&prefix, ImportNotice { text, ..notice });
            }
            None => {
                let text = format!("{}; its requests go where `path_prefix` leads", notice.text);
                notices.insert(0, ImportNotice { text, ..notice });
                self.push("/", None, notices);
            }
        }
    }

    fn plan_regex(&mut self, location: &NginxLocation<'_>) {
        let (action, notices) = self.action_of(location);
        let same = |pool: &String| {
            self.routes
                .iter()
                .filter_map(|route| route.pool.as_ref())
                .all(|other| other == pool)
        };
        let notice = match action {
            LocationAction::Pool(pool) if same(&pool) => {
                self.push("/", None, notices);
                return;
            }
            LocationAction::Pool(_) => ImportNotice::left_out(
                &location.directive.place,
                format!(
                    "`{}`: lameduck has no routes by regular expression",
                    location.directive.line()
                ),
            ),
            LocationAction::Refused(notice) => notice,
        };
        let text = format!(
            "{}; requests that match it go where `path_prefix` leads",
            notice.text
        );
        self.push("/", None, vec![ImportNotice { text, ..notice }]);
    }

    /// Where a path goes without its own exact location.
    fn pool_below(&self, path: &str) -> Option<String> {
        let fits = |prefix: &str| {
            prefix == "/"
                || path == prefix
                || path
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        let routes = self
            .routes
            .iter()
            .filter(|route| route.pool.is_some() && fits(&route.prefix));
        routes.max_by_key(|route| route.prefix.len())?.pool.clone()
    }

    /// What whole segments change: nginx compares prefixes letter by letter.
    fn edge_notice(&self, location: &NginxLocation<'_>) -> Option<ImportNotice> {
        let is_prefix = matches!(
            location.kind,
            LocationKind::Prefix | LocationKind::FirmPrefix
        );
        let prefix = plain_prefix(location.path).filter(|prefix| is_prefix && prefix != "/")?;
        let route = |wanted: &str| {
            self.routes
                .iter()
                .find(|route| route.prefix == wanted && route.pool.is_some())
        };
        let pool = route(&prefix)?.pool.as_ref()?;
        let place = &location.directive.place;
        if location.path.ends_with('/') {
            let has_exact = self
                .server
                .locations
                .iter()
                .any(|other| other.kind == LocationKind::Exact && other.path == prefix);
            let text = format!(
                "{prefix} without the slash goes to the app: nginx redirects it to {prefix}/"
            );
            let is_closed = *pool == self.book.left_out_name(self.site);
            return (!has_exact && !is_closed).then(|| ImportNotice::differs(place, text));
        }
        let outer = prefix.rfind('/').map_or("/", |at| &prefix[..at.max(1)]);
        let beside = self.pool_below(outer);
        (beside.as_ref() != Some(pool)).then(|| {
            let text = format!(
                "{prefix}x does not match `path_prefix = \"{prefix}\"`: nginx takes it for {prefix}"
            );
            ImportNotice::differs(place, text)
        })
    }

    fn action_of(&mut self, location: &NginxLocation<'_>) -> (LocationAction, Vec<ImportNotice>) {
        let scope = &location.scope;
        let path = match location.kind {
            LocationKind::Regex => "",
            _ => location.path,
        };
        let head = format!("location {}", location.directive.args().join(" "));
        if let Some(notice) = guard(scope, &head) {
            return (LocationAction::Refused(notice), Vec::new());
        }
        let mut notices: Vec<_> = location
            .directive
            .inner()
            .iter()
            .filter_map(super::judge)
            .collect();
        let mut content = scope.own("proxy_pass").or_else(|| scope.own("grpc_pass"));
        let mut content_scope = scope.clone();
        if content.is_none()
            && let Some(files) = scope.last("try_files")
            && let Some(name) = files.args().last().filter(|name| name.starts_with('@'))
            && let Some(named) = self
                .server
                .locations
                .iter()
                .find(|other| other.path == name.as_str())
        {
            content_scope = named.scope.clone();
            content = named
                .scope
                .own("proxy_pass")
                .or_else(|| named.scope.own("grpc_pass"));
            if let Some(notice) = guard(&content_scope, &head) {
                return (LocationAction::Refused(notice), Vec::new());
            }
            if content.is_some() {
                notices.extend(named.directive.inner().iter().filter_map(super::judge));
                notices.push(ImportNotice::left_out(
                    &files.place,
                    format!(
                        "`{}`: lameduck serves no files: every request goes to {name}",
                        files.line()
                    ),
                ));
            }
        }
        let Some(pass) = content else {
            return (
                LocationAction::Refused(contentless(location, &head)),
                Vec::new(),
            );
        };
        let refuse = |why: String| {
            let text = format!("{head}: `{}`: {why}", pass.line());
            (
                LocationAction::Refused(ImportNotice::left_out(&pass.place, text)),
                Vec::new(),
            )
        };
        match PassTarget::read(pass) {
            Ok(PassTarget { path: Some(to), .. }) if to != path => {
                return refuse(format!(
                    "it puts {to} in the place of {path}, and lameduck passes paths as they are"
                ));
            }
            Ok(_) => {}
            Err(why) => return refuse(why),
        }
        match self.book.book(self.site, pass, &content_scope) {
            Ok((pool, more)) => {
                notices.extend(more);
                (LocationAction::Pool(pool), notices)
            }
            Err(why) => refuse(why),
        }
    }
}

fn contains(outer: &NginxDirective, inner: &NginxDirective) -> bool {
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
