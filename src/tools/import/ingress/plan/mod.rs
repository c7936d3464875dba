//! Converts Ingresses to lameduck's sections. All decisions are made here.

mod affinity;
mod cors;
mod guards;
mod listeners;
mod paths;
mod pools;
mod routes;
mod settings;

use std::collections::BTreeMap;

use super::annotations::{AnnotationFate, PREFIX, row_of};
use super::model::{Annotation, IngressBackend, IngressObject, IngressPath, KubeObjects, PathKind};
use crate::tools::import::draft::{ConfigDraft, DraftPath, RouteDraft, RouteGroup, toml_text};
use crate::tools::import::notice::{ImportNotice, NoticeList, SourcePlace};
use paths::{PlannedPath, is_loose, plan_path};
use pools::IngressPools;
use routes::RoutePlanner;
use settings::{IngressSettings, read_settings};

/// An Ingress with its settings.
struct PlannedIngress<'o> {
    pub ingress: &'o IngressObject,
    pub objects: &'o KubeObjects,
    pub settings: IngressSettings,
}

impl PlannedIngress<'_> {
    /// Place of an annotation.
    fn settings_place(&self, name: &str) -> Option<&SourcePlace> {
        self.ingress.get(name).map(|annotation| &annotation.place)
    }
}

/// A path of a host with its Service and canaries.
struct Location<'o> {
    /// Index of its Ingress.
    pub of: usize,
    pub host: String,
    pub kind: PathKind,
    pub path: String,
    pub backend: &'o IngressBackend,
    pub place: SourcePlace,
    pub canary: Option<(&'o IngressObject, &'o IngressBackend)>,
    /// Whether another location with the same path restricts access.
    pub is_closed: bool,
    /// Whether another location, which is the same for lameduck, comes first.
    pub is_hidden: bool,
    pub planned: PlannedPath,
    pub priority: i32,
}

/// Everything that is known of a host.
#[derive(Debug, Default)]
struct HostPlan {
    /// Names, including aliases.
    pub names: Vec<String>,
    /// Whether its paths are regular expressions.
    pub regexes: bool,
    /// Whether each route has a priority.
    pub ordered: bool,
    /// Whether the whole host answers 503.
    pub is_closed: bool,
    /// Whether clients have to send a certificate; in ingress-nginx, that concerns a whole host.
    pub wants_certificate: bool,
    /// Highest priority.
    pub top: i32,
}

/// Plans the whole configuration.
pub(super) fn plan_config(objects: &KubeObjects) -> ConfigDraft {
    let mut draft = ConfigDraft::default();
    draft.server.push(("max_body", toml_text("1MiB")));
    let is_canary = |ingress: &&IngressObject| ingress.is_on("canary");
    let mut planned: Vec<PlannedIngress<'_>> = objects
        .ingresses
        .iter()
        .filter(|ingress| !is_canary(ingress))
        .map(|ingress| PlannedIngress {
            ingress,
            objects,
            settings: read_settings(ingress, objects),
        })
        .collect();
    let mut groups: Vec<RouteGroup> = planned
        .iter()
        .map(|one| RouteGroup {
            title: format!("Ingress {}, {}", one.ingress.title(), one.ingress.place),
            ..RouteGroup::default()
        })
        .collect();
    if planned.is_empty() {
        draft.notices.leave_out(
            &objects.place.clone().unwrap_or_else(|| SourcePlace::new("", 0)),
            "there is no Ingress in it; name a file such as `kubectl get ingress -A -o yaml` writes",
        );
    }
    listeners::plan_listeners(&mut planned, &mut draft);
    let mut locations = read_locations(&planned, &mut groups);
    // A canary's server snippet concerns its host, too.
    let mut closing: Vec<String> = Vec::new();
    for ingress in objects.ingresses.iter().filter(is_canary) {
        add_canary(ingress, &mut locations, &mut draft.notices);
        name_rest_of_canary(ingress, &mut draft.notices);
        let settings = read_settings(ingress, objects);
        if settings.closes_host {
            draft.notices.extend(settings.notices);
            closing.extend(ingress.rules.iter().map(|rule| rule.host.clone()));
        }
    }
    let mut hosts = read_hosts(&planned, &locations);
    plan_order(&planned, &mut locations, &mut hosts, &mut groups);
    for host in &closing {
        if let Some(plan) = hosts.get_mut(host) {
            plan.is_closed = true;
        }
    }
    add_aliases(&planned, &mut hosts, &mut groups);
    let mut book = IngressPools::default();
    for (n, one) in planned.iter_mut().enumerate() {
        let notices = std::mem::take(&mut one.settings.notices);
        groups[n].notices.splice(0..0, notices);
        let mut planner = RoutePlanner {
            one,
            objects,
            hosts: &hosts,
            book: &mut book,
            group: &mut groups[n],
        };
        for location in locations.iter().filter(|location| location.of == n) {
            planner.plan(location);
        }
        planner.plan_extras(&locations);
    }
    groups.extend(rest_of_hosts(&locations, &hosts, &mut book));
    let used: Vec<String> = groups
        .iter()
        .flat_map(|group| &group.routes)
        .flat_map(|route| route.pools.clone())
        .collect();
    draft.routes = groups;
    draft.pools = book.finish(&used);
    draft
}

/// All paths of all Ingresses, each once.
fn read_locations<'o>(
    planned: &[PlannedIngress<'o>],
    groups: &mut [RouteGroup],
) -> Vec<Location<'o>> {
    let mut locations: Vec<Location<'o>> = Vec::new();
    for (n, one) in planned.iter().enumerate() {
        let ingress: &'o IngressObject = one.ingress;
        let mut add = |host: &str,
                       kind: PathKind,
                       path: &str,
                       backend: &'o IngressBackend,
                       place: &SourcePlace| {
            let known = locations.iter_mut().find(|known| {
                let same_kind = (known.kind == PathKind::Exact) == (kind == PathKind::Exact);
                known.host == host && known.path == path && same_kind
            });
            if let Some(known) = known {
                let what = format!(
                    "{path} of {}: another Ingress has it already",
                    if host.is_empty() { "any host" } else { host }
                );
                if one.settings.is_guarded && !planned[known.of].settings.is_guarded {
                    known.is_closed = true;
                    groups[n].notices.leave_out(
                        place,
                        format!("{what}, without keeping anybody out; it answers 503"),
                    );
                } else {
                    groups[n].notices.leave_out(place, what);
                }
                return;
            }
            locations.push(Location {
                of: n,
                host: host.to_owned(),
                kind,
                path: path.to_owned(),
                backend,
                place: place.clone(),
                canary: None,
                is_closed: false,
                is_hidden: false,
                planned: PlannedPath::Said(DraftPath::any()),
                priority: 0,
            });
        };
        for rule in &ingress.rules {
            for path in &rule.paths {
                let IngressPath {
                    path,
                    kind,
                    backend,
                    place,
                } = path;
                add(&rule.host, *kind, path, backend, place);
            }
        }
        let Some(default) = &ingress.default else {
            continue;
        };
        if ingress.rules.is_empty() {
            add("", PathKind::Prefix, "/", default, &default.place);
        }
        for rule in &ingress.rules {
            let is_root = |path: &IngressPath| path.path == "/" && path.kind != PathKind::Exact;
            if !rule.paths.iter().any(is_root) {
                add(&rule.host, PathKind::Prefix, "/", default, &rule.place);
            }
        }
    }
    locations
}

/// Adds a canary to the path that it belongs to.
fn add_canary<'o>(
    ingress: &'o IngressObject,
    locations: &mut [Location<'o>],
    notices: &mut Vec<ImportNotice>,
) {
    for rule in &ingress.rules {
        for path in &rule.paths {
            let found = locations
                .iter_mut()
                .find(|known| known.host == rule.host && known.path == path.path);
            match found {
                Some(known) if known.canary.is_none() => known.canary = Some((ingress, &path.backend)),
                Some(_) => notices.leave_out(&path.place, format!("a second canary of {}", path.path)),
                None => notices.leave_out(&path.place, format!("canary: no Ingress has {} of its host, and ingress-nginx does not serve it either", path.path)),
            }
        }
    }
}

/// Reports annotations of a canary that have no effect: as in ingress-nginx, only its canary annotations and Services
/// count.
fn name_rest_of_canary(ingress: &IngressObject, notices: &mut Vec<ImportNotice>) {
    for annotation in &ingress.annotations {
        let is_own =
            !annotation.name.starts_with(PREFIX) || annotation.short().starts_with("canary");
        let row = row_of(annotation.short());
        if !is_own && row.is_none_or(|row| row.fate != AnnotationFate::Harmless) {
            let text = format!(
                "`{}`: a canary has what the Ingress beside it has, as in ingress-nginx",
                annotation.line()
            );
            notices.tell_difference(&annotation.place, text);
        }
    }
}

fn read_hosts(
    planned: &[PlannedIngress<'_>],
    locations: &[Location<'_>],
) -> BTreeMap<String, HostPlan> {
    let mut hosts: BTreeMap<String, HostPlan> = BTreeMap::new();
    for location in locations {
        let plan = hosts.entry(location.host.clone()).or_default();
        if plan.names.is_empty() && !location.host.is_empty() {
            plan.names.push(location.host.clone());
        }
        let settings = &planned[location.of].settings;
        let rewrites = settings
            .rewrite
            .as_ref()
            .is_some_and(|target| target.value.trim() != location.path);
        plan.regexes |= settings.use_regex || rewrites;
        plan.ordered |= is_loose(&location.path, location.kind);
        plan.is_closed |= settings.closes_host;
        let mut keys = settings.keys.iter();
        plan.wants_certificate |= keys.any(|(key, _)| *key == "client_certificate");
    }
    for plan in hosts.values_mut() {
        plan.ordered |= plan.regexes;
    }
    hosts
}

/// Plans the paths of routes, and their order.
fn plan_order(
    planned: &[PlannedIngress<'_>],
    locations: &mut [Location<'_>],
    hosts: &mut BTreeMap<String, HostPlan>,
    groups: &mut [RouteGroup],
) {
    for (host, plan) in hosts.iter_mut() {
        let mut own: Vec<&mut Location<'_>> = locations
            .iter_mut()
            .filter(|location| location.host == *host)
            .collect();
        let regexes = plan.regexes;
        own.sort_by_key(|location| {
            let is_exact = !regexes && location.kind == PathKind::Exact;
            (!is_exact, std::cmp::Reverse(location.path.len()))
        });
        let count = i32::try_from(own.len()).unwrap_or(i32::MAX);
        let mut seen: Vec<(DraftPath, bool)> = Vec::new();
        let mut to_close: Vec<DraftPath> = Vec::new();
        for (n, location) in (0..).zip(own) {
            location.planned = plan_path(&location.path, location.kind, regexes);
            if plan.ordered {
                location.priority = count - n;
            }
            let say = &mut groups[location.of].notices;
            let is_guarded = planned[location.of].settings.is_guarded || location.is_closed;
            if let PlannedPath::Said(path) | PlannedPath::Wider(path, _) = &location.planned {
                match seen.iter().find(|(known, _)| known == path) {
                    Some((_, known_guard)) => {
                        location.is_hidden = true;
                        let what = format!("{}: another path is the same", location.path);
                        match is_guarded && !known_guard {
                            true => {
                                to_close.push(path.clone());
                                let why = "does not keep the same out: it answers 503";
                                say.leave_out(&location.place, format!("{what}, and {why}"));
                            }
                            false => say.leave_out(&location.place, what),
                        }
                        continue;
                    }
                    None => seen.push((path.clone(), is_guarded)),
                }
            }
            match &location.planned {
                PlannedPath::Said(_) => {}
                PlannedPath::Wider(_, why) => {
                    let text = format!("{}: {why}; what is like it answers 503", location.path);
                    say.leave_out(&location.place, text);
                }
                PlannedPath::Unsaid(why) => {
                    let text = format!("{}: {why}; the whole host answers 503", location.path);
                    say.leave_out(&location.place, text);
                    plan.is_closed = true;
                }
            }
        }
        plan.top = count + 1;
        let own = locations
            .iter_mut()
            .filter(|location| location.host == *host);
        for location in own.filter(|location| !location.is_hidden) {
            if let PlannedPath::Said(path) | PlannedPath::Wider(path, _) = &location.planned {
                location.is_closed |= to_close.contains(path);
            }
        }
    }
    // A server snippet concerns all Ingresses of its host.
    for one in planned.iter().filter(|one| one.settings.closes_host) {
        for rule in &one.ingress.rules {
            if let Some(plan) = hosts.get_mut(&rule.host) {
                plan.is_closed = true;
            }
        }
    }
}

/// Adds the names of `server-alias`.
fn add_aliases(
    planned: &[PlannedIngress<'_>],
    hosts: &mut BTreeMap<String, HostPlan>,
    groups: &mut [RouteGroup],
) {
    let mut taken: Vec<String> = hosts.keys().cloned().collect();
    for (one, group) in planned.iter().zip(groups) {
        let Some(annotation) = one.ingress.get("server-alias") else {
            continue;
        };
        let Some(rule) = one
            .ingress
            .rules
            .first()
            .filter(|rule| !rule.host.is_empty())
        else {
            refuse(
                annotation,
                "it has no host to be another name of",
                &mut group.notices,
            );
            continue;
        };
        for alias in annotation
            .value
            .split(',')
            .map(|alias| alias.trim().to_ascii_lowercase())
        {
            let is_host = !alias.is_empty() && !alias.starts_with('~') && !alias.ends_with('*');
            if !is_host || taken.contains(&alias) {
                let why = if is_host {
                    "is another host's name already"
                } else {
                    "is no name that lameduck can take"
                };
                refuse(annotation, &format!("`{alias}` {why}"), &mut group.notices);
                continue;
            }
            taken.push(alias.clone());
            if let Some(plan) = hosts.get_mut(&rule.host) {
                plan.names.push(alias);
            }
        }
    }
}

fn refuse(annotation: &Annotation, why: &str, notices: &mut Vec<ImportNotice>) {
    notices.leave_out(&annotation.place, format!("`{}`: {why}", annotation.line()));
}

/// Adds routes for other paths of a host: they get 404 instead of the routes for any host, and closed hosts get 503.
fn rest_of_hosts(
    locations: &[Location<'_>],
    hosts: &BTreeMap<String, HostPlan>,
    book: &mut IngressPools,
) -> Option<RouteGroup> {
    let mut group = RouteGroup {
        title: "What hosts answer that is no Ingress's.".into(),
        ..RouteGroup::default()
    };
    let is_wider = |other: &String, host: &String| {
        other != host
            && (other.is_empty()
                || other
                    .strip_prefix('*')
                    .is_some_and(|domain| host.ends_with(domain)))
    };
    for (host, plan) in hosts {
        let mut route = RouteDraft {
            hosts: plan.names.clone(),
            ..RouteDraft::default()
        };
        if plan.is_closed {
            let pool = book.left_out();
            route.keys = vec![("pool", toml_text(&pool))];
            route.pools = vec![pool];
            group.routes.push(route);
            continue;
        }
        let has_root = locations.iter().any(|location| {
            location.host == *host && location.path == "/" && location.kind != PathKind::Exact
        });
        if !has_root && hosts.keys().any(|other| is_wider(other, host)) {
            route.keys = vec![(
                "respond",
                "{ status = 404, body = \"not found\\n\" }".into(),
            )];
            group.routes.push(route);
        }
    }
    (!group.routes.is_empty()).then_some(group)
}
