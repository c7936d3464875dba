//! The socket for apps: own instances, and nothing else.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use lameduck::registry::unattended::{NoObserver, NoProbes};
use lameduck::registry::view::{DrainRequest, LeaseRequest, RegisterRequest, ResumeRequest};
use lameduck::registry::{RegistryError, RegistryHandle};
use lameduck::registry::{bounds, persist};
use lameduck::{config, registry};
use serde_json::{Value, json};

use crate::http::{Answer, Http};
use crate::server::{CONFIG, Doors, Server};

/// Somebody else, as far as these tests go.
const STRANGER: u32 = 424_242;

async fn server() -> Server {
    let doors = Doors {
        apps: true,
        ..Doors::default()
    };
    Server::with(doors).await
}

async fn ask(server: &Server, method: &str, path: &str, body: Option<Value>) -> Answer {
    let request = Http::new(method, path);
    let request = match body {
        Some(body) => request.json(&body.to_string()),
        None => request,
    };
    request
        .over_unix(&server.socket.with_file_name("apps"))
        .await
}

fn at(address: &str) -> RegisterRequest {
    RegisterRequest {
        address: address.to_owned(),
        ..RegisterRequest::default()
    }
}

#[lameduck_rig::test]
async fn apps_socket_has_its_own_file_and_mode() {
    let server = server().await;
    let file = std::fs::metadata(server.socket.with_file_name("apps")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o660);
    server.stop().await;
}

#[lameduck_rig::test]
async fn apps_socket_answers_nothing_that_is_not_an_app_s_own() {
    let server = server().await;
    let before = server.world().await;
    for (method, path) in [
        ("GET", "/v1/pools"),
        ("GET", "/v1/config"),
        ("POST", "/v1/config/reload"),
        ("GET", "/v1/events"),
        ("GET", "/v1/listeners"),
        ("GET", "/metrics"),
        ("POST", "/v1/pools/app/roll"),
    ] {
        let answer = ask(&server, method, path, None).await;
        answer.problem(404, "no-such-path");
    }
    let one = "/v1/pools/app/backends/app-1";
    for (method, path) in [
        ("GET", one.to_owned()),
        ("DELETE", one.to_owned()),
        ("POST", format!("{one}/drain")),
        ("POST", format!("{one}/resume")),
        ("GET", "/v1/pools/other".to_owned()),
        ("GET", "/v1/pools/oth%65r".to_owned()),
        ("PUT", "/v1/pools/other/backends/x".to_owned()),
        ("POST", "/v1/pools/other/backends/x/lease".to_owned()),
        ("GET", "/-/ready?pool=other".to_owned()),
    ] {
        let body = json!({ "address": "127.0.0.1:4000" });
        let body = matches!(method, "PUT").then_some(body);
        let answer = ask(&server, method, &path, body).await;
        let problem = answer.problem(403, "not-yours");
        assert!(!problem.to_string().contains("3001"), "{problem}");
    }
    let lame = ask(&server, "POST", "/v1/lame-duck", Some(json!({}))).await;
    lame.problem(403, "not-yours");
    let lame = ask(
        &server,
        "POST",
        "/v1/lame-duck",
        Some(json!({ "lease": "x" })),
    )
    .await;
    lame.problem(403, "not-yours");
    let lift = ask(&server, "DELETE", "/v1/lame-duck", None).await;
    lift.problem(405, "method-not-allowed");
    assert_eq!(server.world().await, before);
    assert_eq!(
        ask(&server, "GET", "/-/ready?pool=app", None).await.status,
        200
    );
    server.stop().await;
}

#[lameduck_rig::test]
async fn app_registers_drains_resumes_and_removes_its_own_instance() {
    let server = server().await;
    let path = "/v1/pools/app/backends/own";
    let body = json!({ "address": "127.0.0.1:4000", "wait": "5s" });
    let registered = ask(&server, "PUT", path, Some(body)).await;
    assert_eq!(registered.status, 200, "{}", registered.body);
    let pool = ask(&server, "GET", "/v1/pools/app", None).await.json();
    let names: Vec<_> = pool["backends"]
        .as_array()
        .unwrap()
        .iter()
        .map(|backend| backend["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["own"], "others' are not shown");

    // Whatever it says, the drain is not the operator's.
    let body = json!({ "actor": "operator", "id": "deploy", "timeout": "1s" });
    let drained = ask(&server, "POST", &format!("{path}/drain"), Some(body)).await;
    assert_eq!(drained.json()["outcome"], "drained", "{}", drained.body);
    let view = ask(&server, "GET", path, None).await.json();
    assert_eq!(view["drains"][0]["actor"], "supervisor");
    let id = view["drains"][0]["id"].as_str().unwrap();
    assert!(id.starts_with("uid-") && id.ends_with("/deploy"), "{id}");

    // Others' drains stay, and are not asked for.
    let theirs = json!({ "timeout": "1s" });
    let main = server
        .ask("POST", &format!("{path}/drain"), Some(theirs))
        .await;
    assert_eq!(main.status, 200);
    let all = ask(
        &server,
        "POST",
        &format!("{path}/resume"),
        Some(json!({ "all": true })),
    )
    .await;
    all.problem(403, "not-yours");
    let own = json!({ "id": "deploy" });
    let view = ask(&server, "POST", &format!("{path}/resume"), Some(own))
        .await
        .json();
    assert_eq!(view["drains"].as_array().unwrap().len(), 1, "{view}");
    assert_eq!(view["drains"][0]["actor"], "operator");
    let gone = ask(&server, "DELETE", path, None).await;
    assert_eq!(gone.status, 200, "{}", gone.body);
    server
        .until(|pool| pool["backends"].as_array().unwrap().len() == 2)
        .await;
    server.stop().await;
}

fn is_refused<T: std::fmt::Debug>(outcome: Result<T, RegistryError>) -> bool {
    matches!(
        outcome,
        Err(RegistryError::NotYours(_) | RegistryError::UnknownLease(_))
    )
}

async fn try_everything(stranger: &RegistryHandle, name: &str, lease: &str) {
    let drain = DrainRequest {
        wait: Some(false),
        ..DrainRequest::default()
    };
    assert!(is_refused(stranger.drain("app", name, drain.clone()).await));
    assert!(is_refused(
        stranger.resume("app", name, ResumeRequest::default()).await
    ));
    assert!(is_refused(stranger.deregister("app", name, drain).await));
    assert!(is_refused(
        stranger.register("app", name, at("127.0.0.1:5000")).await
    ));
    assert!(is_refused(stranger.backends("app", name).await));
    let request = LeaseRequest {
        address: "127.0.0.1:5000".to_owned(),
        ..LeaseRequest::default()
    };
    assert!(is_refused(stranger.lease("app", name, request).await));
    let drained = stranger.drain_lease(lease, Default::default()).await;
    assert!(is_refused(drained));
    assert!(!stranger.owns_lease(lease).await.unwrap());
}

#[lameduck_rig::test]
async fn user_can_t_touch_what_another_user_or_the_admin_socket_has_registered() {
    let server = server().await;
    let own = server.registry.for_owner(1000);
    let stranger = server.registry.for_owner(STRANGER);
    let request = LeaseRequest {
        address: "127.0.0.1:4000".to_owned(),
        ..LeaseRequest::default()
    };
    let mut lease = own.lease("app", "leased", request).await.unwrap();
    let Some(lameduck::registry::view::LeaseEvent::Registered { lease: id, .. }) =
        lease.next().await
    else {
        panic!("it says its id first");
    };
    assert!(own.owns_lease(&id).await.unwrap());
    own.register("app", "plain", at("127.0.0.1:4001"))
        .await
        .unwrap();
    server
        .registry
        .register("app", "main", at("127.0.0.1:4002"))
        .await
        .unwrap();
    for name in ["leased", "plain"] {
        try_everything(&stranger, name, &id).await;
    }
    try_everything(&own, "main", "x").await;
    assert!(stranger.pool("app").await.unwrap().backends.is_empty());
    assert_eq!(own.pool("app").await.unwrap().backends.len(), 2);
    // A name that is free again may be taken.
    own.deregister("app", "plain", DrainRequest::default())
        .await
        .unwrap();
    stranger
        .register("app", "plain", at("127.0.0.1:4001"))
        .await
        .unwrap();
    server.stop().await;
}

#[lameduck_rig::test]
async fn reasons_ids_and_drains_have_bounds() {
    let server = Server::start().await;
    let path = "/v1/pools/app/backends/app-1/drain";
    let drain = |body: Value| server.ask("POST", path, Some(body));
    let long = "x".repeat(bounds::MAX_REASON);
    let fits = drain(json!({ "reason": long, "wait": false })).await;
    assert_eq!(fits.status, 200, "{}", fits.body);
    let problem = drain(json!({ "reason": format!("{long}x") })).await;
    problem.problem(422, "invalid-value");
    let id = "i".repeat(bounds::MAX_ID + 1);
    drain(json!({ "id": id }))
        .await
        .problem(422, "invalid-value");
    drain(json!({ "id": "a\nb" }))
        .await
        .problem(422, "invalid-value");
    let lame = json!({ "reason": format!("{long}x") });
    let lame = server.ask("POST", "/v1/lame-duck", Some(lame)).await;
    lame.problem(422, "invalid-value");
    let nonce = json!({ "address": "127.0.0.1:1", "nonce": id });
    let lease = "/v1/pools/app/backends/x/lease";
    let lease = server.ask("POST", lease, Some(nonce)).await;
    lease.problem(422, "invalid-value");
    let address = json!({ "address": format!("{}:1", "a".repeat(400)) });
    let far = server
        .ask("PUT", "/v1/pools/app/backends/x", Some(address))
        .await;
    far.problem(422, "invalid-value");
    for n in 1..bounds::MAX_DRAINS {
        let more = drain(json!({ "id": n.to_string(), "wait": false })).await;
        assert_eq!(more.status, 200, "{n}: {}", more.body);
    }
    drain(json!({ "id": "one more" }))
        .await
        .problem(429, "limit-reached");
    // The same again is none more.
    let again = drain(json!({ "id": "1", "wait": false })).await;
    assert_eq!(again.status, 200, "{}", again.body);
    server.stop().await;
}

#[lameduck_rig::test]
async fn registrations_of_one_user_have_a_bound() {
    let config = config::parse("test.toml", CONFIG).unwrap().config;
    let registry = registry::spawn(
        Arc::new(config),
        persist::KeptState::default(),
        persist::OwnKeySource::default(),
        |_| Box::new(NoProbes),
        Box::new(NoObserver),
    );
    let own = registry.for_owner(1000);
    // At once, so that they share snapshots.
    let names: Vec<_> = (0..=bounds::MAX_OWNED).map(|n| format!("a-{n}")).collect();
    let all = names
        .iter()
        .map(|name| own.register("app", name, at("127.0.0.1:4000")));
    let outcomes = futures_util::future::join_all(all).await;
    let refused: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(
        matches!(refused[..], [RegistryError::Full(_)]),
        "{refused:?}"
    );
    // Others have room.
    let other = registry.for_owner(STRANGER);
    other
        .register("app", "other", at("127.0.0.1:4000"))
        .await
        .unwrap();
    // Who goes makes room.
    own.deregister("app", "a-0", DrainRequest::default())
        .await
        .unwrap();
    own.register("app", "again", at("127.0.0.1:4000"))
        .await
        .unwrap();
}
