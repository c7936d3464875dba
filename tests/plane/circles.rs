//! Requests that come back to the proxy: to its own address they never go, and through others they don't go for long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lameduck::tools::demo::admin;
use tokio::net::{TcpListener, TcpStream};

use lameduck_rig::ports::free_address;
use lameduck_rig::proxy::{GET, Rig, Setup};

async fn register(rig: &Rig, name: &str, address: &str) -> (u16, String) {
    let body = serde_json::json!({ "address": address, "wait": "10s" });
    let path = format!("/v1/pools/app/backends/{name}");
    let (status, body) = admin::request(&rig.socket, "PUT", &path, Some(&body))
        .await
        .unwrap();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Once, one request to it took every descriptor that the proxy could have.
#[lameduck_rig::test]
async fn the_proxys_own_listener_is_refused_as_a_backend_however_it_is_written() {
    let rig = Rig::one().await;
    let port = rig.address.port();
    for address in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("app.localhost:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("0.0.0.0:{port}"),
    ] {
        let (status, problem) = register(&rig, "own", &address).await;
        assert_eq!(status, 422, "{address}: {problem}");
        assert!(problem.contains("own listener 127.0.0.1"), "{problem}");
    }
    let (status, problem) = register(&rig, "own", &format!("unix:{}", rig.socket.display())).await;
    assert_eq!(status, 422, "{problem}");
    assert!(problem.contains("own admin socket"), "{problem}");
    // A lease is a registration, too.
    let body = serde_json::json!({ "address": rig.address.to_string() });
    let path = "/v1/pools/app/backends/own/lease";
    let (status, _) = admin::request(&rig.socket, "POST", path, Some(&body))
        .await
        .unwrap();
    assert_eq!(status, 422);
    assert_eq!(rig.pool().await.backends.len(), 1);
}

/// What a reload adds may be where a registered backend is said to be.
#[lameduck_rig::test]
async fn a_listener_that_comes_later_is_not_connected_to() {
    let rig = Rig::new(Setup {
        tables: "# more",
        ..Setup::default()
    })
    .await;
    rig.begin_drain(0, "60s", "resumed").await;
    let address = free_address();
    let free = TcpListener::bind(address).await.unwrap();
    let (status, problem) = register(&rig, "later", &address.to_string()).await;
    assert_eq!(status, 200, "{problem}");
    drop(free);
    let more = format!("[[listener]]\naddress = \"{address}\"");
    let (status, why) = rig.reload("# more", &more).await;
    assert_eq!(status, 200, "{why}");
    let before = rig.metric("lameduck_connections{side=\"client\"}").await;
    let mut client = rig.ask(GET).await;
    rig.until("held", |pool| pool.held == 1).await;
    let after = rig.metric("lameduck_connections{side=\"client\"}").await;
    assert!(
        after <= before.map(|before| before + 1),
        "{before:?} {after:?}"
    );
    rig.until("nothing in flight", |pool| {
        pool.backends.iter().all(|backend| backend.in_flight == 0)
    })
    .await;
    rig.resume(0).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// Passes connections on, as a load balancer or a firewall's rule does; counts them.
async fn relay(to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::default());
    let counted: Arc<AtomicUsize> = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            if counted.fetch_add(1, Ordering::SeqCst) > 100 {
                return;
            }
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, count)
}

const MORE: &str =
    "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";

async fn goes_round(rig: &Rig, passes: &AtomicUsize) {
    for request in [GET, MORE] {
        let before = passes.load(Ordering::SeqCst);
        let mut client = rig.ask(request).await;
        let response = client.response().await;
        assert_eq!(response.status(), 508, "{}", response.head);
        let passes = passes.load(Ordering::SeqCst) - before;
        assert!(passes <= 10, "{passes} passes");
    }
    let series = "lameduck_local_responses_total{pool=\"app\",code=\"508\"}";
    let counted = rig.metric(series).await;
    assert!(counted >= Some(1), "{counted:?}: {}", rig.metrics().await);
}

#[lameduck_rig::test]
async fn a_request_that_goes_round_through_others_ends_after_a_few_passes() {
    for tables in ["", "[headers]\nvia = true", "[headers]\nrequest_id = false"] {
        let rig = Rig::new(Setup {
            tables,
            ..Setup::default()
        })
        .await;
        let (address, passes) = relay(rig.address).await;
        let (status, problem) = register(&rig, "relay", &address.to_string()).await;
        assert_eq!(status, 200, "{problem}");
        rig.begin_drain(0, "60s", "resumed").await;
        goes_round(&rig, &passes).await;
    }
}

/// Through another lameduck.
#[lameduck_rig::test]
async fn two_proxies_that_send_to_each_other_end_it_too() {
    let (one, other) = (Rig::one().await, Rig::one().await);
    let (address, passes) = relay(other.address).await;
    for (rig, to) in [(&one, address), (&other, one.address)] {
        let (status, problem) = register(rig, "next", &to.to_string()).await;
        assert_eq!(status, 200, "{problem}");
        rig.begin_drain(0, "60s", "resumed").await;
    }
    let mut client = one.ask(GET).await;
    assert_eq!(client.response().await.status(), 508);
    assert!(passes.load(Ordering::SeqCst) <= 10);
}

/// A chain is no circle, and apps see nothing of it.
#[lameduck_rig::test]
async fn a_request_from_a_client_is_not_marked() {
    let rig = Rig::one().await;
    let mut client = rig.ask(GET).await;
    let mut backend = rig.backends[0].accept().await;
    let head = backend.head().await;
    assert!(!head.contains("CDN-Loop"), "{head}");
    backend.answer("x").await;
    client.response().await;
    client.send(MORE).await;
    let head = backend.head().await;
    assert!(head.contains("CDN-Loop: lameduck\r\n"), "{head}");
    backend.answer("x").await;
    client.response().await;
}
