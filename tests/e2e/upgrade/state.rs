//! What the registry knows goes along: drains, pauses, health, leases.

use std::time::Duration;

use lameduck::tools::demo::admin;
use serde_json::{Value, json};

use super::{EndOnDrop, PATIENCE, begin, upgraded};
use crate::harness::{turn, until};
use lameduck_rig::proxy::{Rig, Setup};

/// A request that the old process has in flight is waited for when the new one drains its backend.
#[lameduck_rig::test]
async fn drain_after_an_upgrade_waits_for_what_the_old_process_has_in_flight() {
    let rig = Rig::new(Setup {
        backends: 2,
        server: "lame_duck = \"0s\"",
        ..Setup::default()
    })
    .await;
    let mut client = rig.ask("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (index, mut backend) = rig.first().await;
    backend.head().await;
    let report = upgraded(&rig.socket).await;
    let _ended = EndOnDrop::of(&report);
    assert_eq!(report["left"], 1, "{report}");
    let drain = rig.begin_drain(index, "20s", "resumed").await;
    rig.until_state(index, "draining").await;
    // Long enough for a drain that looks at its own requests only.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!drain.is_finished());
    assert_eq!(rig.view(index).await.state, "draining");
    backend.answer_and_close("done").await;
    assert_eq!(client.response().await.text(), "done");
    let response = tokio::time::timeout(PATIENCE, drain)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(response.outcome, "drained");
}

/// Drains, pauses, health and lame duck go along; a backend that is known to be up is used before its next probe.
#[lameduck_rig::test]
async fn state_goes_along_and_no_backend_is_probed_before_it_is_used_again() {
    let rig = Rig::new(Setup {
        backends: 2,
        server: "lame_duck = \"0s\"",
        ..Setup::default()
    })
    .await;
    rig.begin_drain(1, "5s", "resumed").await;
    rig.until_state(1, "drained").await;
    let duck = json!({ "reason": "moving house" });
    admin::call(&rig.socket, "POST", "/v1/lame-duck", Some(&duck))
        .await
        .unwrap();
    let incarnation = rig.view(0).await.incarnation;
    let _ended = EndOnDrop::of(&upgraded(&rig.socket).await);
    let pool = rig.pool().await;
    assert_eq!((pool.eligible, pool.backends.len()), (1, 2));
    let first = rig.view(0).await;
    assert_eq!(
        (first.state.as_str(), first.incarnation),
        ("ready", incarnation)
    );
    let second = rig.view(1).await;
    assert_eq!(second.state, "drained");
    assert_eq!(second.drains[0].actor, "operator");
    let (status, why) = admin::request(&rig.socket, "GET", "/-/ready", None)
        .await
        .unwrap();
    assert_eq!(status, 503, "{why:?}");
    admin::call(&rig.socket, "DELETE", "/v1/lame-duck", None)
        .await
        .unwrap();
    rig.canary().await;
    rig.resume(1).await;
}

/// The launcher of an instance stays registered under its lease, and its app is not without traffic for a moment.
#[lameduck_rig::test]
async fn lease_goes_along_and_its_launcher_drains_by_it() {
    let _turn = turn().await;
    let (bench, proxy) = begin("upgrade-lease").await;
    let socket = proxy.socket().to_owned();
    let address = bench.instances[0].address().to_string();
    let request = json!({ "address": address, "nonce": "n-1", "weight": 7 });
    let path = "/v1/pools/app/backends/leased/lease";
    let lease = |request: Value| {
        let socket = socket.clone();
        async move {
            let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
            let body = request.to_string();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut lines = tokio::io::BufReader::new(stream).lines();
            loop {
                let line = lines.next_line().await.unwrap().expect("a lease");
                if line.starts_with('{') {
                    let event: Value = serde_json::from_str(&line).unwrap();
                    return (event, lines);
                }
            }
        }
    };
    let (registered, mut lines) = lease(request.clone()).await;
    let leased = async || {
        let pool = proxy.pool().await.unwrap();
        let mut all = pool.backends.into_iter();
        all.find(|backend| backend.name == "leased")
    };
    until("it to be ready", PATIENCE, async || {
        leased().await.is_some_and(|one| one.state == "ready")
    })
    .await;
    upgraded(&socket).await;
    let after = leased().await.unwrap();
    assert_eq!((after.state.as_str(), after.weight), ("ready", 7));
    // The old process ends the connection, and the launcher asks again: it is the same lease.
    while let Ok(Some(_)) = lines.next_line().await {}
    let (again, _lines) = lease(request).await;
    assert_eq!(again["lease"], registered["lease"], "{again}");
    assert_eq!(again["incarnation"], registered["incarnation"], "{again}");
    let pool = proxy.pool().await.unwrap();
    let named = pool
        .backends
        .iter()
        .filter(|one| one.name.starts_with("leased"));
    assert_eq!(named.count(), 1);
    let id = again["lease"].as_str().unwrap();
    let drained = admin::call(
        &socket,
        "POST",
        &format!("/v1/leases/{id}/drain"),
        Some(&json!({ "timeout": "5s" })),
    )
    .await
    .unwrap();
    assert_eq!(drained["outcome"], "drained");
}
