//! What people are told while the API server can't be asked, and that requests don't notice.

use lameduck_rig::kubernetes::{ApiServer, Pod, WatchEnd, slice};
use lameduck_rig::wire::Wire;
use tokio::net::TcpListener;

use super::real_apps::proxy;

/// A pod that answers 200 to everything, once for each connection.
async fn pod() -> (Pod, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut wire = Wire::new(stream);
                wire.head().await;
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                    .await;
            });
        }
    });
    (Pod::ready("pod-1", address.ip()), address.port())
}

const HEALTH: &str = "interval = \"200ms\"\n";

#[lameduck_rig::test]
async fn an_api_server_that_goes_away_is_said_and_changes_nothing() {
    let server = ApiServer::start().await;
    let (pod, port) = pod().await;
    server.put(slice("app-0", "app", port, &[pod]));
    let rig = proxy(&server, HEALTH).await;
    rig.until("its pod", |pool| {
        pool.eligible == 1 && pool.discovery[0].state == "ok"
    })
    .await;
    server.fail(|faults| faults.away = true);
    server.cut_watches(WatchEnd::Reset);
    rig.until("the failure", |pool| pool.discovery[0].state == "failing")
        .await;
    let pool = rig.pool().await;
    let failure = pool.discovery[0].failure.clone().unwrap();
    assert!(
        failure.contains("the API server can't be asked"),
        "{failure}"
    );
    assert_eq!((pool.eligible, pool.discovery[0].backends), (1, 1));
    rig.logs("the source can't be asked, what is known stays")
        .await;
    let mut client = rig.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.status(), 200);
    server.fail(|faults| faults.away = false);
    rig.until("the end of it", |pool| pool.discovery[0].state == "ok")
        .await;
    rig.logs("the source answers again").await;
    // kube's own lines, one for each failure, are not in the log.
    assert!(!rig.log().contains("kube_client"), "{}", rig.log());
}

/// Nothing but lists can be had, and those are forbidden: the words at the pool say what gives the right.
#[lameduck_rig::test]
async fn missing_rights_are_said_at_the_pool_and_the_proxy_runs() {
    let server = ApiServer::start().await;
    let (pod, port) = pod().await;
    server.put(slice("app-0", "app", port, &[pod]));
    let forbidden = lameduck_rig::kubernetes::ApiRefusal {
        code: 403,
        retry_after: 0,
    };
    server.fail(|faults| faults.refuse_lists = Some(forbidden));
    let rig = proxy(&server, HEALTH).await;
    rig.until("the failure", |pool| pool.discovery[0].state == "failing")
        .await;
    let failure = rig.pool().await.discovery[0].failure.clone().unwrap();
    assert!(
        failure.contains("needs `list` and `watch` on `endpointslices`"),
        "{failure}"
    );
    server.fail(|faults| faults.refuse_lists = None);
    rig.until("its pod", |pool| pool.eligible == 1).await;
}

/// A pod whose own readiness fails gets nothing new until that passes, though it answers lameduck's health checks.
#[lameduck_rig::test]
async fn a_pod_that_is_not_ready_drains_until_it_is() {
    let server = ApiServer::start().await;
    let (pod, port) = pod().await;
    server.put(slice("app-0", "app", port, std::slice::from_ref(&pod)));
    let rig = proxy(&server, HEALTH).await;
    rig.until("its pod", |pool| pool.eligible == 1).await;
    server.put(slice("app-0", "app", port, &[pod.clone().not_ready()]));
    rig.until("a drain", |pool| {
        pool.eligible == 0 && !pool.backends[0].drains.is_empty()
    })
    .await;
    let drains = rig.pool().await.backends[0].drains.clone();
    assert_eq!(drains.len(), 1, "{drains:?}");
    assert_eq!(drains[0].actor, "supervisor");
    assert_eq!(drains[0].reason, "its source says that it is not ready");
    server.put(slice("app-0", "app", port, std::slice::from_ref(&pod)));
    rig.until("it is back", |pool| pool.eligible == 1).await;
    server.put(slice("app-0", "app", port, &[pod.clone().not_ready()]));
    rig.until("a drain", |pool| pool.eligible == 0).await;
    server.put(slice("app-0", "app", port, &[pod.terminating()]));
    rig.until("another reason", |pool| {
        let drains = &pool.backends[0].drains;
        drains.len() == 1 && drains[0].reason == "its source says that it is terminating"
    })
    .await;
}
