//! Routes of one path, with those for canaries and preflight requests.

use std::collections::BTreeMap;

use super::paths::{PlannedPath, rewrite_value};
use super::pools::IngressPools;
use super::settings::plain_text;
use super::{HostPlan, Location, PlannedIngress};
use crate::tools::import::draft::{
    DraftKeys, DraftPath, RouteDraft, RouteGroup, toml_list, toml_table, toml_text,
};
use crate::tools::import::ingress::model::{IngressBackend, IngressObject, KubeObjects, PathKind};
use crate::tools::import::notice::NoticeList;
use crate::tools::import::offered;

/// Planner for the routes of one Ingress.
pub(super) struct RoutePlanner<'p, 'o> {
    pub one: &'p PlannedIngress<'o>,
    pub objects: &'o KubeObjects,
    pub hosts: &'p BTreeMap<String, HostPlan>,
    pub book: &'p mut IngressPools,
    pub group: &'p mut RouteGroup,
}

/// One of the routes of a path: its further conditions, and its destination.
#[derive(Debug, Clone, Default)]
struct RouteCase {
    headers: Vec<(String, String)>,
    cookies: Vec<(String, String)>,
    action: DraftKeys,
    pools: Vec<String>,
}

impl RoutePlanner<'_, '_> {
    /// Plans the routes of one path.
    pub(super) fn plan(&mut self, location: &Location<'_>) {
        let host = &self.hosts[&location.host];
        if host.is_closed || location.is_hidden {
            return;
        }
        let path = match &location.planned {
            PlannedPath::Said(path) => path.clone(),
            PlannedPath::Wider(path, _) => {
                let path = path.clone();
                return self.close(location, path);
            }
            PlannedPath::Unsaid(_) => return,
        };
        let is_app_root = self.one.settings.app_root.is_some()
            && location.kind == PathKind::Exact
            && location.path == "/";
        if is_app_root {
            return;
        }
        if location.is_closed || self.one.settings.is_closed {
            return self.close(location, path);
        }
        let settings = &self.one.settings;
        if let Some(keys) = settings.redirect.clone() {
            self.push(location, &path, keys, Vec::new());
            return;
        }
        let mut cases = match self.cases(location) {
            Ok(cases) => cases,
            Err(why) => {
                self.say(location, &why);
                return self.close(location, path);
            }
        };
        let tail = match self.tail(location, &mut cases) {
            Ok(tail) => tail,
            Err(why) => {
                self.say(location, &why);
                return self.close(location, path);
            }
        };
        let mut drafts = Vec::new();
        for case in cases {
            drafts.extend(self.routes_of(case, &tail));
        }
        for (keys, pools) in &drafts {
            // The configuration reader would refuse this route, because it does not know the listener's `client_ca`.
            let asked: DraftKeys = keys
                .iter()
                .filter(|(key, _)| *key != "client_certificate")
                .cloned()
                .collect();
            if let Err(why) = offered::check_route(&asked, pools) {
                self.say(location, &why);
                return self.close(location, path);
            }
        }
        for (keys, pools) in drafts {
            self.push(location, &path, keys, pools);
        }
    }

    fn say(&mut self, location: &Location<'_>, why: &str) {
        self.group.notices.leave_out(
            &location.place,
            format!("{}: {why}; it answers 503", location.path),
        );
    }

    fn close(&mut self, location: &Location<'_>, path: DraftPath) {
        let pool = self.book.left_out();
        self.push(
            location,
            &path,
            vec![("pool", toml_text(&pool))],
            vec![pool],
        );
    }

    fn push(
        &mut self,
        location: &Location<'_>,
        path: &DraftPath,
        mut keys: DraftKeys,
        pools: Vec<String>,
    ) {
        if self.one.settings.https_hosts.contains(&location.host) {
            keys.push(("redirect_https", "true".into()));
        }
        let hosts = self.hosts[&location.host].names.clone();
        self.group.routes.push(RouteDraft {
            hosts,
            path: path.clone(),
            priority: location.priority,
            keys,
            pools,
            ..RouteDraft::default()
        });
    }

    fn pool(
        &mut self,
        ingress: &IngressObject,
        backend: &IngressBackend,
    ) -> Result<String, String> {
        let style = &self.one.settings.style;
        self.book
            .of_service(self.objects, &ingress.namespace, backend, style)
            .ok_or_else(|| match backend.service.is_empty() {
                true => "its backend is no Service".to_owned(),
                false => format!(
                    "`{}` port `{}` is no address that lameduck can take",
                    backend.service, backend.port
                ),
            })
    }

    /// Cases of canaries: all requests, or those with a header field or cookie.
    fn cases(&mut self, location: &Location<'_>) -> Result<Vec<RouteCase>, String> {
        let main = self.pool(self.one.ingress, location.backend)?;
        let to = |pool: &str| RouteCase {
            action: vec![("pool", toml_text(pool))],
            pools: vec![pool.to_owned()],
            ..RouteCase::default()
        };
        let Some((ingress, backend)) = location.canary else {
            return Ok(vec![to(&main)]);
        };
        let canary = self.pool(ingress, backend)?;
        if canary == main {
            return Ok(vec![to(&main)]);
        }
        let number = |name: &str, usual: u32| match ingress.text(name) {
            "" => Ok(usual),
            text => text
                .parse::<u32>()
                .map_err(|_| format!("`{name}` of its canary is not a number")),
        };
        let total = number("canary-weight-total", 100)?.max(1);
        let weight = number("canary-weight", 0)?.min(total);
        let mut all = match weight {
            0 => to(&main),
            weight if weight == total => to(&canary),
            weight => {
                let weights = [
                    (main.clone(), (total - weight).to_string()),
                    (canary.clone(), weight.to_string()),
                ];
                RouteCase {
                    action: vec![("split", toml_table(&weights))],
                    pools: vec![main.clone(), canary.clone()],
                    ..RouteCase::default()
                }
            }
        };
        let mut cases = Vec::new();
        let header = ingress.text("canary-by-header");
        let (value, pattern) = (
            ingress.text("canary-by-header-value"),
            ingress.text("canary-by-header-pattern"),
        );
        let mut by_header = |pool: &str, value: String| {
            let mut case = to(pool);
            case.headers.push((header.to_owned(), value));
            cases.push(case);
        };
        match (header, value, pattern) {
            ("", _, _) => {}
            (_, "", "") => {
                by_header(&canary, toml_text("always"));
                by_header(&main, toml_text("never"));
            }
            (_, "", pattern) => {
                by_header(&canary, toml_table(&[("regex".into(), toml_text(pattern))]))
            }
            (_, value, _) => by_header(&canary, toml_text(value)),
        }
        let cookie = ingress.text("canary-by-cookie");
        if !cookie.is_empty() {
            for (pool, value) in [(&canary, "always"), (&main, "never")] {
                let mut case = to(pool);
                case.cookies.push((cookie.to_owned(), toml_text(value)));
                cases.push(case);
            }
        }
        all.headers.clear();
        cases.push(all);
        Ok(cases)
    }

    /// Keys after the action that all routes of a path have.
    fn tail(
        &mut self,
        location: &Location<'_>,
        cases: &mut [RouteCase],
    ) -> Result<DraftKeys, String> {
        let settings = &self.one.settings;
        let mut keys = DraftKeys::new();
        if let Some(target) = &settings.rewrite
            && target.value.trim() != location.path
        {
            let value = rewrite_value(&location.path, target.value.trim())
                .map_err(|why| format!("`{}`: {why}", target.line()))?;
            if target.value.contains('?') {
                self.group.notices.tell_difference(
                    &target.place,
                    format!(
                        "`{}`: the query of the request does not go with it",
                        target.line()
                    ),
                );
            }
            keys.push(("rewrite", value));
        }
        keys.extend(settings.keys.iter().cloned());
        let has_own = keys.iter().any(|(key, _)| *key == "client_certificate");
        if self.hosts[&location.host].wants_certificate && !has_own {
            keys.push(("client_certificate", toml_text("required")));
        }
        if let Some(mirror) = &settings.mirror {
            let pool = self
                .book
                .of_mirror(mirror)
                .ok_or("`mirror-target` is no address that lameduck can take")?;
            keys.push(("mirror", toml_table(&[("pool".into(), toml_text(&pool))])));
            for case in cases {
                case.pools.push(pool.clone());
            }
        }
        if !settings.request_set.is_empty() {
            keys.push(("request_headers", set_rule(&settings.request_set, false)));
        }
        Ok(keys)
    }

    /// Routes of a case: one for each origin, with routes for preflight requests.
    fn routes_of(&self, case: RouteCase, tail: &DraftKeys) -> Vec<(DraftKeys, Vec<String>)> {
        let settings = &self.one.settings;
        let answers = &settings.response_set;
        let route = |case: &RouteCase, fields: &[(String, String)], varies: bool| {
            let mut keys = conditions(case);
            keys.extend(case.action.iter().cloned());
            keys.extend(tail.iter().cloned());
            if !fields.is_empty() {
                keys.push(("response_headers", set_rule(fields, varies)));
            }
            (keys, case.pools.clone())
        };
        let Some(cors) = &settings.cors else {
            return vec![route(&case, answers, false)];
        };
        let mut allowed = case.clone();
        if let Some(origins) = &cors.origins {
            allowed.headers.push((
                "Origin".into(),
                toml_table(&[("regex".into(), toml_text(origins))]),
            ));
        }
        let varies = cors.origins.is_some();
        let mut preflight = conditions(&allowed);
        preflight.insert(0, ("methods", toml_list(&["OPTIONS".into()])));
        preflight.push(("respond", "{ status = 204 }".into()));
        let mut fields = answers.clone();
        fields.extend(cors.preflight.iter().cloned());
        preflight.push(("response_headers", set_rule(&fields, varies)));
        let mut routes = vec![(preflight, Vec::new())];
        let mut fields = answers.clone();
        fields.extend(cors.answer.iter().cloned());
        routes.push(route(&allowed, &fields, varies));
        if varies {
            routes.push(route(&case, answers, false));
        }
        routes
    }

    /// Plans settings of hosts: `app-root` and `from-to-www-redirect`.
    pub(super) fn plan_extras(&mut self, locations: &[Location<'_>]) {
        let settings = &self.one.settings;
        let mut seen = Vec::new();
        for rule in &self.one.ingress.rules {
            let Some(host) = self.hosts.get(&rule.host).filter(|host| !host.is_closed) else {
                continue;
            };
            if seen.contains(&&rule.host) {
                continue;
            }
            seen.push(&rule.host);
            if let Some(root) = &settings.app_root {
                let value = root.value.trim();
                let fields = [
                    ("status".into(), "302".into()),
                    ("path".into(), toml_text(&plain_text(value))),
                ];
                let keys = vec![("redirect", toml_table(&fields))];
                let is_taken = locations.iter().any(|other| {
                    other.of
                        != locations
                            .iter()
                            .find(|own| own.host == rule.host)
                            .map_or(usize::MAX, |own| own.of)
                        && other.host == rule.host
                        && other.path == "/"
                        && other.kind == PathKind::Exact
                });
                match offered::check_route(&keys, &[]) {
                    Ok(()) if value.starts_with('/') && value != "/" && !is_taken => {
                        self.group.routes.push(RouteDraft {
                            hosts: host.names.clone(),
                            path: DraftPath::Exact("/".into()),
                            priority: if host.ordered { host.top } else { 0 },
                            keys,
                            ..RouteDraft::default()
                        })
                    }
                    _ => self.group.notices.leave_out(
                        &root.place,
                        format!("`{}`: lameduck can't redirect `/` to it", root.line()),
                    ),
                }
            }
            if self.one.ingress.is_on("from-to-www-redirect")
                && !rule.host.is_empty()
                && !rule.host.starts_with('*')
            {
                let other = match rule.host.strip_prefix("www.") {
                    Some(bare) => bare.to_owned(),
                    None => format!("www.{}", rule.host),
                };
                let is_served = self
                    .hosts
                    .iter()
                    .any(|(host, plan)| *host == other || plan.names.contains(&other));
                if !is_served
                    && !self
                        .group
                        .routes
                        .iter()
                        .any(|route| route.hosts == [other.clone()])
                {
                    let fields = [
                        ("status".into(), "308".into()),
                        ("host".into(), toml_text(&rule.host)),
                    ];
                    self.group.routes.push(RouteDraft {
                        hosts: vec![other],
                        keys: vec![("redirect", toml_table(&fields))],
                        ..RouteDraft::default()
                    });
                }
            }
        }
    }
}

fn conditions(case: &RouteCase) -> DraftKeys {
    let mut keys = DraftKeys::new();
    if !case.headers.is_empty() {
        keys.push(("headers", toml_table(&case.headers)));
    }
    if !case.cookies.is_empty() {
        keys.push(("cookies", toml_table(&case.cookies)));
    }
    keys
}

fn set_rule(fields: &[(String, String)], varies: bool) -> String {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.clone(), toml_text(value)))
        .collect();
    let mut parts = vec![("set".to_owned(), toml_table(&fields))];
    if varies {
        parts.push((
            "add".to_owned(),
            toml_table(&[("Vary".into(), toml_text("Origin"))]),
        ));
    }
    toml_table(&parts)
}
