//! The map: every path of the API and who answers it.

use axum::extract::State;
use axum::routing::{MethodRouter, get, post};
use axum::{Router, middleware};

use super::problem::{ProblemDocument, ProblemKind, complete};
use super::{
    AdminDoor, AdminState, access, apps, auth, backends, body, changes, config, dashboard, events,
    leases, lifecycle, metrics, openapi, peer, places, pools, restarts, roll, split_plans, splits,
    upgrade,
};

/// What each listener serves, the one for probes too.
fn probes() -> Vec<(&'static str, MethodRouter<AdminState>)> {
    vec![
        ("/-/live", get(lifecycle::live)),
        ("/-/started", get(lifecycle::started)),
        ("/-/ready", get(lifecycle::ready)),
        ("/metrics", get(metrics::scrape)),
    ]
}

/// The API proper.
fn api() -> Vec<(&'static str, MethodRouter<AdminState>)> {
    vec![
        ("/v1/pools", get(pools::list)),
        ("/v1/pools/{pool}", get(pools::one)),
        ("/v1/pools/{pool}/backends", get(pools::backends)),
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
        ("/v1/pools/{pool}/roll", post(roll::hold)),
        (
            "/v1/pools/{pool}/pause",
            post(pools::pause).delete(pools::end_pause),
        ),
        (
            "/v1/pools/{pool}/backends/{name}/lease",
            post(leases::lease),
        ),
        ("/v1/leases/{lease}/drain", post(leases::drain)),
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
        ("/v1/openapi.json", get(openapi::document)),
    ]
}

/// The whole service behind one door.
pub(super) fn router(admin: AdminState) -> Router {
    let door = admin.door;
    let paths = match door {
        AdminDoor::Probes => probes(),
        AdminDoor::Apps => apps::paths(),
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
    // Around the router, not in it: the router adds `Allow` to a 405 outside of its own layers.
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
        for (path, _) in apps::paths() {
            assert!(
                routed.contains(path),
                "{path} is on the socket for apps alone"
            );
        }
    }
}
