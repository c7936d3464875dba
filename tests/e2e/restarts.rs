//! Restarts that nobody coordinates step by step: of the app under `--until restarted`, and of the proxy itself.

use std::time::Duration;

use lameduck::registry::view::{BackendView, PoolView};
use lameduck::tools::demo::client::LoadConnection;
use lameduck::tools::demo::proxy::{DemoProxy, ProxySettings};
use serde_json::json;

use crate::harness::apps::App;
use crate::harness::{Bench, exe, get, until};

const PATIENCE: Duration = Duration::from_secs(20);

fn backend<'a>(pool: &'a PoolView, name: &str) -> &'a BackendView {
    pool.backends
        .iter()
        .find(|backend| backend.name == name)
        .unwrap()
}

/// Drains without waiting; it ends by itself when a new process is ready.
async fn drain_until_restarted(proxy: &DemoProxy, name: &str) {
    let path = format!("/v1/pools/app/backends/{name}/drain");
    let body = json!({ "until": "restarted", "wait": false, "reason": "deploy" });
    lameduck::tools::demo::admin::call(proxy.socket(), "POST", &path, Some(&body))
        .await
        .unwrap();
}

/// The restart takes a few milliseconds, the probe interval is a second: it must be noticed all the same, and a
/// process that has not been replaced must stay closed.
#[lameduck_rig::test]
async fn a_drain_until_restarted_ends_with_the_new_process_and_not_before() {
    let mut bench = Bench::start("until-restarted", App::BuiltIn, 2)
        .await
        .unwrap();
    let dir = bench.scratch.path().to_owned();
    let proxy = DemoProxy::start(
        exe(),
        "proxy",
        &dir,
        &ProxySettings::default(),
        &bench.instances,
    )
    .await
    .unwrap();
    let name = bench.instances[0].name().to_owned();
    let before = backend(&proxy.pool().await.unwrap(), &name).incarnation;

    drain_until_restarted(&proxy, &name).await;
    until("drained", PATIENCE, async || {
        backend(&proxy.pool().await.unwrap(), &name).state == "drained"
    })
    .await;
    // Two whole probe intervals of a healthy old process: what would reopen a wrong implementation.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(
        backend(&proxy.pool().await.unwrap(), &name).state,
        "drained"
    );

    bench.instances[0].terminate().unwrap();
    bench.instances[0].exited(PATIENCE).await.unwrap();
    bench.instances[0].start_again().await.unwrap();
    until("ready by itself", PATIENCE, async || {
        backend(&proxy.pool().await.unwrap(), &name).state == "ready"
    })
    .await;
    let pool = proxy.pool().await.unwrap();
    let after = backend(&pool, &name);
    assert!(
        after.incarnation > before,
        "{before} -> {}",
        after.incarnation
    );
    assert!(after.drains.is_empty());
}

/// A drained backend stays drained, and a registered one registered, over a restart of the proxy.
#[lameduck_rig::test]
async fn drains_and_registrations_survive_a_restart_of_the_proxy() {
    let bench = Bench::start("state-dir", App::BuiltIn, 3).await.unwrap();
    let dir = bench.scratch.path().to_owned();
    let settings = ProxySettings {
        server: format!(
            "lame_duck = \"0s\"\nstate_dir = {:?}",
            dir.join("state").display().to_string()
        ),
        ..ProxySettings::default()
    };
    std::fs::create_dir_all(dir.join("state")).unwrap();
    let (configured, registered) = bench.instances.split_at(2);
    let mut old = DemoProxy::start(exe(), "old", &dir, &settings, configured)
        .await
        .unwrap();
    let guest = json!({ "address": registered[0].address().to_string(), "wait": "10s" });
    lameduck::tools::demo::admin::call(
        old.socket(),
        "PUT",
        "/v1/pools/app/backends/guest",
        Some(&guest),
    )
    .await
    .unwrap();
    let drained = configured[0].name();
    old.drain(drained, Duration::from_secs(5)).await.unwrap();
    old.drain("guest", Duration::from_secs(5)).await.unwrap();
    old.stop(PATIENCE).await.unwrap();

    let new = DemoProxy::start(exe(), "new", &dir, &settings, configured)
        .await
        .unwrap();
    until("the other backend", PATIENCE, async || {
        backend(&new.pool().await.unwrap(), configured[1].name()).state == "ready"
    })
    .await;
    let pool = new.pool().await.unwrap();
    for name in [drained, "guest"] {
        let view = backend(&pool, name);
        assert!(
            view.state == "drained" || view.state == "draining",
            "{name} is {}",
            view.state
        );
        assert_eq!(view.drains[0].actor, "operator", "{name}");
    }
    let expected = format!("hello from {}\n", configured[1].name());
    for _ in 0..10 {
        assert_eq!(
            get(new.address(), "/").await.unwrap(),
            (200, expected.clone())
        );
    }
    new.resume("guest", PATIENCE).await.unwrap();
}

/// SIGKILL leaves the newest state behind, too.
#[lameduck_rig::test]
async fn a_drain_survives_a_crash_of_the_proxy() {
    let bench = Bench::start("crash", App::BuiltIn, 1).await.unwrap();
    let dir = bench.scratch.path().to_owned();
    std::fs::create_dir_all(dir.join("state")).unwrap();
    let settings = ProxySettings {
        server: format!("state_dir = {:?}", dir.join("state").display().to_string()),
        ..ProxySettings::default()
    };
    let name = bench.instances[0].name().to_owned();
    let mut old = DemoProxy::start(exe(), "old", &dir, &settings, &bench.instances)
        .await
        .unwrap();
    old.drain(&name, Duration::from_secs(5)).await.unwrap();
    until("the state file", PATIENCE, async || {
        std::fs::read_to_string(dir.join("state/state.json")).is_ok_and(|text| text.contains(&name))
    })
    .await;
    old.process().signal(libc::SIGKILL).unwrap();
    old.process().wait(PATIENCE).await.unwrap();
    let new = DemoProxy::start(exe(), "new", &dir, &settings, &bench.instances)
        .await
        .unwrap();
    let view = new.pool().await.unwrap();
    assert_eq!(backend(&view, &name).drains[0].actor, "operator");
}

/// The first signal finishes what is in flight; a second one, over a second later, does not wait for it.
#[lameduck_rig::test]
async fn a_second_signal_exits_at_once() {
    let bench = Bench::start("second-signal", App::BuiltIn, 1)
        .await
        .unwrap();
    let dir = bench.scratch.path().to_owned();
    let mut proxy = DemoProxy::start(
        exe(),
        "proxy",
        &dir,
        &ProxySettings::default(),
        &bench.instances,
    )
    .await
    .unwrap();
    let mut connection = LoadConnection::open(proxy.address()).await.unwrap();
    let slow = tokio::spawn(async move {
        let request = b"GET /slow?ms=15000 HTTP/1.1\r\nHost: app\r\nx-demo-id: 1\r\n\r\n";
        connection
            .exchange(request)
            .await
            .map(|response| response.status)
    });
    let instance = &bench.instances[0];
    until("the slow request", PATIENCE, async || {
        !instance.lives().unwrap()[0].arrivals.is_empty()
    })
    .await;

    proxy.process().signal(libc::SIGTERM).unwrap();
    // The same signal sent twice within a second is one signal.
    proxy.process().signal(libc::SIGTERM).unwrap();
    let log = dir.join("proxy.log");
    until("the first one to be heeded", PATIENCE, async || {
        std::fs::read_to_string(&log)
            .unwrap()
            .contains("lame duck: still accepting")
    })
    .await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    proxy
        .process()
        .check()
        .expect("it must still be finishing the slow request");
    proxy.process().signal(libc::SIGTERM).unwrap();
    let (status, _) = proxy.process().wait(PATIENCE).await.unwrap();
    // It would end well if it finished the request.
    assert!(!status.success(), "{status}");
    assert!(slow.await.unwrap().is_err(), "the slow request was not cut");
}
