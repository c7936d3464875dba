//! Real gRPC apps behind the proxy, restarted under the calls of real clients.

use std::path::Path;

use lameduck::registry::view::PoolView;
use lameduck::tools::demo::admin;
use serde_json::json;

use super::programs::{App, Language, PATIENCE, POOL, Program, ended, load, none_failed, python};
use lameduck_rig::proxy::Rig;
use lameduck_rig::wait::until_within;

/// A proxy in front of so many apps, probed by the standard health check.
async fn world(python: &Path, count: usize) -> (Rig, Vec<App>) {
    let apps: Vec<App> = (0..count).map(|index| App::new(python, index)).collect();
    let mut pool = String::new();
    for App { name, port, .. } in &apps {
        pool += &format!("[[pool.backend]]\nname = {name:?}\naddress = \"127.0.0.1:{port}\"\n");
    }
    pool += POOL;
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir, "", "http2 = true", &pool, Vec::new()).await;
    rig.until("all ready", |pool| {
        pool.backends.iter().all(|view| view.state == "ready")
    })
    .await;
    (rig, apps)
}

/// Each app is restarted once, under the calls of this client. `coordinated`: drained first; else it is just signalled.
async fn restarts(language: Language, coordinated: bool) {
    let Some(python) = python() else { return };
    if !language.is_there() {
        return;
    }
    let (rig, mut apps) = world(&python, 3).await;
    let client = load(rig.address, language, &python, &[]);
    let begun = |pool: &PoolView| pool.backends.iter().all(|view| view.requests > 20);
    until_within("calls", PATIENCE, async || begun(&rig.pool().await)).await;
    for app in &mut apps {
        let name = app.name.clone();
        let path = format!("/v1/pools/app/backends/{name}/drain");
        if coordinated {
            let body = json!({ "timeout": "10s", "until": "restarted" });
            let drained = admin::call(&rig.socket, "POST", &path, Some(&body))
                .await
                .unwrap();
            assert_eq!(drained["outcome"], "drained", "{drained}");
        }
        let before = rig.pool().await;
        let of = |pool: &PoolView| {
            pool.backends
                .iter()
                .find(|view| view.name == name)
                .cloned()
                .unwrap()
        };
        let had = app.stop().await;
        if coordinated {
            assert_eq!(had["late"], 0, "{had}");
        }
        app.start();
        let incarnation = of(&before).incarnation;
        rig.until("a new process", |pool| {
            let view = of(pool);
            view.state == "ready" && view.incarnation > incarnation
        })
        .await;
    }
    let calls = none_failed(client, 11, || rig.log()).await;
    println!("{language:?}, coordinated: {coordinated}: {calls} calls");
}

#[lameduck_rig::test]
async fn drained_apps_lose_no_call_of_grpcio() {
    restarts(Language::Python, true).await;
}

#[lameduck_rig::test]
async fn drained_apps_lose_no_call_of_grpc_js() {
    restarts(Language::Node, true).await;
}

/// Nobody tells the proxy: NOT_SERVING, GOAWAY and refused connections have to do.
#[lameduck_rig::test]
async fn apps_that_stop_by_themselves_lose_no_call() {
    restarts(Language::Python, false).await;
}

#[lameduck_rig::test]
async fn grpcio_calls_pass_all_checks_and_leave_nothing_in_flight() {
    let Some(python) = python() else { return };
    let (rig, _apps) = world(&python, 1).await;
    let address = rig.address.to_string();
    let checks = Program::start(&python, "grpc_checks.py", &[&address]);
    assert_eq!(ended(checks).await.matches("ok ").count(), 6);
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
}
