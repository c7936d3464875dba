//! The router: every path of the API and its handler.

use axum::extract::State;
use axum::routing::{MethodRouter, get, post};
use axum::{Router, middleware};

use super::problem::{ProblemDocument, ProblemKind, complete};
use super::{
    AdminDoor, AdminState, access, apps, auth, backends, body, changes, config, dashboard, events,
    leases, lifecycle, metrics, openapi, peer, places, pools, restarts, roll, split_plans, splits,
    upgrade,
};

/// Paths, each with its handler.
type AdminPaths = Vec<(&'static str, MethodRouter<AdminState>)>;

/// Returns the paths that every listener serves.
fn life_signs() -> AdminPaths {
    vec![
        ("/-/live", get(lifecycle::live)),
        ("/-/started", get(lifecycle::started)),
        ("/-/ready", get(lifecycle::ready)),
    ]
}

/// Returns the paths of the listener for probes.
fn probes() -> AdminPaths {
    let mut paths = life_signs();
    paths.push(("/metrics", get(metrics::scrape)));
    paths
}

/// Returns the paths for managing instances: through the admin socket for every instance, through the socket for apps
/// for the caller's own (see [`apps`]).
fn instances() -> AdminPaths {
    vec![
        ("/v1/pools/{pool}", get(pools::one)),
        (
            "/v1/pools/{pool}/backends/{name}",
            get(pools::backend)
                .put(backends::register)
                .delete(backends::deregister),
        ),
        (
            "/v1/pools/{pool}/backends/{name}/drain",
            post(backends::drain),
        ),
        (
            "/v1/pools/{pool}/backends/{name}/resume",
            post(backends::resume),
        ),
        (
            "/v1/pools/{pool}/backends/{name}/lease",
            post(leases::lease),
        ),
        ("/v1/leases/{lease}/drain", post(leases::drain)),
        ("/v1/openapi.json", get(openapi::document)),
    ]
}

/// Returns the paths of the socket for apps. A lame-duck phase that an app has requested can't be ended here: others
/// may rely on it.
fn apps_door() -> AdminPaths {
    let mut paths = life_signs();
    paths.extend(instances());
    let lame_duck = get(lifecycle::lame_duck_now).post(lifecycle::lame_duck);
    paths.push(("/v1/lame-duck", lame_duck));
    paths
}

/// Returns the paths of the full API.
fn api() -> AdminPaths {
    let mut paths = instances();
    paths.extend(vec![
        ("/v1/pools", get(pools::list)),
        ("/v1/pools/{pool}/backends", get(pools::backends)),
        ("/v1/pools/{pool}/roll", post(roll::hold)),
        (
            "/v1/pools/{pool}/pause",
            post(pools::pause).delete(pools::end_pause),
        ),
        (
            "/v1/routes/{route}/split",
            get(splits::split)
                .put(splits::move_split)
                .delete(splits::reset_split),
        ),
        (
            "/v1/routes/{route}/split/plan",
            get(split_plans::show)
                .post(split_plans::begin)
                .delete(split_plans::end),
        ),
        ("/v1/splits", get(splits::list)),
        ("/v1/access", get(access::access)),
        ("/v1/events", get(events::stream)),
        ("/v1/changes", get(changes::list)),
        ("/v1/restarts", get(restarts::list)),
        ("/v1/restarts/{id}", get(restarts::one)),
        (
            "/v1/lame-duck",
            get(lifecycle::lame_duck_now)
                .post(lifecycle::lame_duck)
                .delete(lifecycle::end_lame_duck),
        ),
        ("/v1/listeners", get(lifecycle::listeners)),
        ("/v1/config", get(config::effective)),
        ("/v1/config/reload", post(config::reload)),
        ("/v1/upgrade", get(upgrade::show).post(upgrade::begin)),
    ]);
    paths
}

/// Returns the complete service for one listener.
pub(super) fn router(admin: AdminState) -> Router {
    let door = admin.door;
    let paths = match door {
        AdminDoor::Probes => probes(),
        AdminDoor::Apps => apps_door(),
        AdminDoor::Unix | AdminDoor::Http { .. } => {
            let api = probes().into_iter().chain(api());
            api.chain(dashboard::paths()).collect()
        }
    };
    let router = paths
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods)
        });
    let api = router
        .fallback(move |State(_): State<AdminState>| async move { no_such_path(door) })
        .layer(middleware::from_fn_with_state(admin.clone(), apps::guard))
        .layer(middleware::from_fn_with_state(door, peer::record))
        .layer(middleware::from_fn(places::admit))
        .layer(middleware::from_fn_with_state(admin.clone(), auth::guard))
        .layer(middleware::from_fn(body::intake))
        .with_state(admin);
    // Outside of the router: the router adds `Allow` to a 405 outside of its own layers.
    Router::new()
        .fallback_service(api)
        .layer(middleware::from_fn(complete))
}

fn no_such_path(door: AdminDoor) -> ProblemDocument {
    let detail = match door {
        AdminDoor::Probes => {
            "There is nothing here. This listener ([admin] probes) serves /-/live, /-/started, /-/ready and \
             /metrics only; the rest is on the unix socket and on [admin] http."
        }
        AdminDoor::Apps => {
            "There is nothing here. This socket ([admin] apps_socket) is for apps and their own instances; the rest is \
             on the admin socket."
        }
        AdminDoor::Unix | AdminDoor::Http { .. } => {
            "There is nothing here. GET /v1/openapi.json lists every path; the dashboard is at /."
        }
    };
    ProblemDocument::new(ProblemKind::NoSuchPath, detail)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::schema::SECTIONS;
    use crate::registry::event_kind::EventKind;

    #[test]
    fn openapi_lists_each_algorithm_that_a_pool_may_have() {
        let document: serde_json::Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        let listed = &document["components"]["schemas"]["Pool"]["properties"]["balance"]["enum"];
        let listed = listed.as_array().unwrap().iter();
        let listed: Vec<_> = listed.map(|word| word.as_str().unwrap()).collect();
        let mut sections = SECTIONS.iter();
        let pool = sections.find(|section| section.name == "pool").unwrap();
        let form = pool.key("balance").unwrap().form;
        let words: Vec<_> = form.split('"').skip(1).step_by(2).collect();
        assert_eq!(listed, words);
    }

    #[test]
    fn openapi_and_its_page_list_each_kind_of_event() {
        let document: serde_json::Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        let listed = &document["components"]["schemas"]["Event"]["properties"]["kind"]["enum"];
        let kinds = EventKind::ALL.map(EventKind::as_str);
        assert_eq!(*listed, serde_json::json!(kinds));
        let page = include_str!("../../docs/admin-api.md");
        let row = kinds.map(|kind| format!("`{kind}`")).join(", ");
        assert!(page.contains(&format!("is the kind ({row})")), "{row}");
    }

    #[test]
    fn openapi_and_router_have_the_same_paths() {
        let document: serde_json::Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        let described: BTreeSet<&str> = document["paths"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let routed: BTreeSet<&str> = probes()
            .into_iter()
            .chain(api())
            .map(|(path, _)| path)
            .collect();
        assert_eq!(described, routed);
        for (path, _) in apps_door() {
            assert!(
                routed.contains(path),
                "{path} is on the socket for apps alone"
            );
        }
    }
}
