//! Converts nginx's configuration to lameduck's sections. All decisions are made here.

mod balance;
mod compression;
mod conditions;
mod fallback;
mod files;
mod globals;
mod guards;
mod headers;
mod listeners;
mod location;
mod mixed_doors;
mod ordering;
mod pages;
mod pass_url;
mod passing_if;
mod paths;
mod pools;
mod redirect;
mod regexes;
mod rewrites;
mod routes;
mod serving;
mod slashes;
mod spread;
mod sticky;
mod targets;
mod values;

use self::listeners::ServedServers;
use super::directives::{DirectiveFate, row_of};
use super::model::NginxSite;
use super::scope::NginxScope;
use super::tree::NginxDirective;
use crate::tools::import::draft::{ConfigDraft, RouteGroup, toml_text};
use crate::tools::import::notice::{ImportNotice, NoticeList};

/// Blocks that are read together with others, or that declare a name which is used elsewhere.
const READ_ELSEWHERE: [&str; 28] = [
    "http",
    "server",
    "upstream",
    "location",
    "if",
    "events",
    "map",
    "types",
    // Read by the planner of locations, which reports what it could not import.
    "add_header",
    "proxy_set_header",
    "grpc_set_header",
    "proxy_hide_header",
    "grpc_hide_header",
    "more_set_headers",
    "more_clear_headers",
    "more_set_input_headers",
    "more_clear_input_headers",
    "expires",
    "error_page",
    "rewrite",
    "return",
    "limit_req",
    "limit_conn",
    "mirror",
    "mirror_request_body",
    "gzip",
    "brotli",
    "zstd",
];

/// Plans the whole configuration.
pub fn plan_config(tree: &[NginxDirective]) -> ConfigDraft {
    let site = NginxSite::read(tree);
    let mut draft = ConfigDraft::default();
    let is_main = tree.iter().any(|directive| directive.name() == "http");
    if is_main {
        draft.notices.extend(tree.iter().filter_map(judge));
    }
    draft.notices.extend(site.level.iter().filter_map(judge));
    if let Some(second) = tree
        .iter()
        .filter(|directive| directive.name() == "http")
        .nth(1)
    {
        draft.notices.leave_out(&second.place, "a second `http`");
    }
    let all: Vec<NginxScope<'_>> = site
        .servers
        .iter()
        .map(|server| server.scope.clone())
        .collect();
    let trusted = globals::trusted_networks(&site, &all, &mut draft.notices);
    let served = listeners::plan(&site, !trusted.is_empty(), &mut draft);
    let mut book = pools::PoolBook::default();
    let mut scopes = Vec::new();
    let served_servers = (served.iter())
        .flat_map(|group| &group.servers)
        .map(|index| &site.servers[*index]);
    let largest_body = served_servers
        .flat_map(|server| {
            let locations = server.locations.iter().map(|location| &location.scope);
            locations.chain(std::iter::once(&server.scope))
        })
        .map(globals::body_limit)
        .max()
        .unwrap_or(u64::MAX);
    for group in &served {
        plan_group(&site, group, largest_body, &mut book, &mut draft);
        for server in group.servers.iter().map(|index| &site.servers[*index]) {
            scopes.push(server.scope.clone());
            let locations = server.locations.iter();
            scopes.extend(locations.map(|location| location.scope.clone()));
        }
    }
    globals::plan(&site, &scopes, &trusted, &mut draft);
    compression::plan_compression(&scopes, &mut draft);
    draft.pools = book.finish();
    // Pools that only left-out locations use are not written: a single pool without a route would get every request.
    let routes: Vec<_> = draft
        .routes
        .iter()
        .flat_map(|group| &group.routes)
        .collect();
    let is_used = |name: &String| routes.iter().any(|route| route.pools.contains(name));
    let unused: Vec<_> = draft
        .pools
        .iter()
        .filter(|pool| !is_used(&pool.name))
        .collect();
    let unused: Vec<String> = unused.iter().map(|pool| pool.name.clone()).collect();
    draft.pools.retain(|pool| !unused.contains(&pool.name));
    if draft.pools.is_empty() {
        let mut book = pools::PoolBook::default();
        book.left_out(&site);
        draft.pools = book.finish();
        if draft.notices.is_empty() && site.servers.is_empty() {
            let place = tree.first().map(|directive| directive.place.clone());
            draft.notices.extend(
                place.map(|place| ImportNotice::left_out(&place, "there is no `server` in it")),
            );
        }
    }
    draft
}

/// Routes for the servers of some addresses.
fn plan_group(
    site: &NginxSite<'_>,
    served: &ServedServers,
    largest_body: u64,
    book: &mut pools::PoolBook,
    draft: &mut ConfigDraft,
) {
    let mut taken: Vec<String> = Vec::new();
    let has_wildcards = served.servers.iter().any(|index| {
        let hosts = &site.servers[*index].hosts;
        served.default != Some(*index) && hosts.iter().any(|host| host.starts_with('*'))
    });
    for index in &served.servers {
        let server = &site.servers[*index];
        let is_default = served.default == Some(*index);
        let mut hosts: Vec<String> = server
            .hosts
            .iter()
            .filter(|host| !taken.contains(host))
            .cloned()
            .collect();
        hosts.dedup();
        taken.extend(hosts.iter().cloned());
        // A wildcard of another server would come before the names of the default one.
        let sent = served.redirected.iter().find(|(sent, _)| sent == index);
        let mut plan = |hosts: &[String]| {
            let mut group = routes::plan_server(site, server, hosts, largest_body, book);
            if let Some((_, port)) = sent {
                redirect::send_to_https(&mut group, *port);
            }
            hold_at(&served.listeners, &mut group);
            draft.routes.push(group);
        };
        if !hosts.is_empty() && (!is_default || has_wildcards) {
            plan(&hosts);
        }
        if is_default {
            plan(&[]);
        } else if hosts.is_empty() {
            draft.notices.extend(server.notices.iter().cloned());
            draft.notices.leave_out(
                &server.directive.place,
                "server: it has no name that lameduck can take, or another server has it: nothing goes to it",
            );
        }
    }
}

/// Binds the routes to these listeners; empty: they apply to all.
fn hold_at(listeners: &[String], group: &mut RouteGroup) {
    if listeners.is_empty() {
        return;
    }
    let all: Vec<_> = listeners.iter().map(|address| toml_text(address)).collect();
    for route in group.routes.iter_mut().filter(|route| route.is_route()) {
        let key = ("listeners", format!("[{}]", all.join(", ")));
        route.keys.insert(0, key);
    }
}

/// Notice for a directive, wherever it is; `None`: there is none, or the code that reads the directive adds it.
fn judge(directive: &NginxDirective) -> Option<ImportNotice> {
    let name = directive.name();
    if READ_ELSEWHERE.contains(&name) {
        return None;
    }
    let left_out = |why: &str| {
        Some(ImportNotice::left_out(
            &directive.place,
            format!("`{}`: {why}", directive.line()),
        ))
    };
    let Some(row) = row_of(name) else {
        return left_out("lameduck does not know it");
    };
    match (row.fate, name) {
        (DirectiveFate::Harmless, _) => None,
        (DirectiveFate::LeftOut, "merge_slashes") => match directive.arg(0) {
            "on" => None,
            _ => left_out(row.note),
        },
        // A directive that is switched off or has its default value counts as missing.
        (DirectiveFate::LeftOut, _) if ["off", "none"].contains(&directive.arg(0)) => None,
        (DirectiveFate::LeftOut, "ignore_invalid_headers") if directive.arg(0) == "on" => None,
        (DirectiveFate::LeftOut, "proxy_redirect") if directive.arg(0) == "default" => None,
        (DirectiveFate::LeftOut, "limit_rate") if directive.arg(0) == "0" => None,
        (DirectiveFate::LeftOut, _) => left_out(row.note),
        (DirectiveFate::Carried, "proxy_next_upstream") => {
            let known = ["error", "timeout", "invalid_header", "off"];
            let other = directive
                .args()
                .iter()
                .find(|word| !known.contains(&word.as_str()))?;
            left_out(&format!("lameduck does not try again after `{other}`"))
        }
        (DirectiveFate::Carried, _) => None,
    }
}
