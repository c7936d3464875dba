//! Requests that wait because nothing is eligible.

use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;

use lameduck_rig::backend::backends;
use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::Wire;

async fn rig(pool: &'static str) -> Rig {
    Rig::new(Setup {
        pool,
        ..Setup::default()
    })
    .await
}

async fn held(rig: &Rig, count: usize) {
    rig.until("held requests", |pool| pool.held == count).await;
}

/// A request waits, and goes on as soon as a backend is back.
#[lameduck_rig::test]
async fn a_request_waits_for_a_backend() {
    let rig = Rig::one().await;
    rig.begin_drain(0, "5s", "resumed").await;
    let mut get = rig.ask(GET).await;
    let mut post = rig
        .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo")
        .await;
    held(&rig, 2).await;
    post.send("dy").await;
    rig.resume(0).await;
    let mut methods = Vec::new();
    for _ in 0..2 {
        let mut backend = rig.backends[0].accept().await;
        let request = backend.request().await;
        methods.push((request.head[..4].to_owned(), request.text().to_owned()));
        backend.answer_and_close("x").await;
    }
    methods.sort();
    assert_eq!(
        methods,
        [
            ("GET ".into(), String::new()),
            ("POST".into(), "body".into())
        ]
    );
    assert_eq!(get.response().await.text(), "x");
    assert_eq!(post.response().await.text(), "x");
    held(&rig, 0).await;
}

/// `hold.timeout`: a 503 that says when to come again; the connection is kept.
#[lameduck_rig::test]
async fn a_wait_that_is_too_long_is_a_503() {
    let rig = rig("[pool.hold]\ntimeout = \"200ms\"").await;
    rig.begin_drain(0, "5s", "resumed").await;
    let mut client = rig.ask(GET).await;
    for _ in 0..2 {
        let response = client.response().await;
        assert_eq!(response.status(), 503);
        assert!(response.field("retry-after").is_some());
        assert_eq!(response.field("connection"), None);
        client.send(GET).await;
    }
}

/// `on_empty = "fail"`: at once.
#[lameduck_rig::test]
async fn on_empty_may_fail_at_once() {
    let rig = rig("[pool.hold]\non_empty = \"fail\"").await;
    rig.begin_drain(0, "5s", "resumed").await;
    let mut client = rig.ask(GET).await;
    let response = client.response().await;
    assert_eq!(
        (response.status(), response.field("retry-after")),
        (503, Some("2"))
    );
    // Plain words for the client; the key is for whoever reads the log.
    assert_eq!(response.text(), "no backend is ready\n");
    let log = &rig.access_log(1).await[0];
    let cause = log["cause"].as_str().unwrap();
    assert!(
        cause.starts_with("no backend is ready: last probe of "),
        "{cause}"
    );
    assert_eq!(log["end"], "hold.on_empty");
}

/// `on_empty = "fail_open"`: what is drained by the app itself, or down, is tried; what an operator drained is not.
#[lameduck_rig::test]
async fn fail_open_tries_what_the_app_has_closed() {
    let rig = rig("[pool.hold]\non_empty = \"fail_open\"\ntimeout = \"300ms\"").await;
    rig.backends[0].set_health(503);
    rig.until_state(0, "drained").await;
    let (mut client, mut backend) = rig.get().await;
    backend.answer("open").await;
    assert_eq!(client.response().await.text(), "open");
    // Nothing is kept on a backend that should be quiet.
    backend.gone().await;
    rig.until_state(0, "drained").await;
    rig.begin_drain(0, "5s", "resumed").await;
    rig.until("both drains", |pool| pool.backends[0].drains.len() == 2)
        .await;
    client.send(GET).await;
    assert_eq!(client.response().await.status(), 503);
}

/// `hold.max_requests`: one more is refused, and a place is free again when one leaves.
#[lameduck_rig::test]
async fn places_are_bounded_and_given_back() {
    let rig = rig("[pool.hold]\nmax_requests = 2").await;
    rig.begin_drain(0, "5s", "resumed").await;
    let first = rig.ask(GET).await;
    let mut second = rig.ask(GET).await;
    held(&rig, 2).await;
    assert_eq!(rig.ask(GET).await.response().await.status(), 503);
    first.reset();
    held(&rig, 1).await;
    let left = rig.ask(GET).await;
    held(&rig, 2).await;
    drop(left);
    held(&rig, 1).await;
    rig.resume(0).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("x").await;
    assert_eq!(second.response().await.text(), "x");
    held(&rig, 0).await;
}

/// `hold.max_bytes` bounds what waits, what arrives in the meantime included: no more is read than there is room for.
#[lameduck_rig::test]
async fn bytes_are_bounded() {
    let rig = rig("[pool.hold]\nmax_bytes = \"64KiB\"").await;
    rig.begin_drain(0, "5s", "resumed").await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n";
    let (mut first, mut second) = (rig.ask(head).await, rig.ask(head).await);
    held(&rig, 2).await;
    for client in [&mut first, &mut second] {
        client.send(vec![b'x'; 60_000]).await;
    }
    super::leaving::full(&rig).await;
    let mut third = rig.ask(GET).await;
    assert_eq!(third.response().await.status(), 503);
    rig.resume(0).await;
    for _ in 0..2 {
        let mut backend = rig.backends[0].accept().await;
        assert_eq!(backend.request().await.body.len(), 60_000);
        backend.answer_and_close("x").await;
    }
    assert_eq!(first.response().await.text(), "x");
    assert_eq!(second.response().await.text(), "x");
}

/// Many that wait are all let go.
#[lameduck_rig::test]
async fn all_held_requests_are_let_go_when_a_backend_is_ready() {
    let rig = Rig::one().await;
    rig.begin_drain(0, "5s", "resumed").await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(
            rig.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .await,
        );
    }
    held(&rig, 100).await;
    rig.resume(0).await;
    let began = std::time::Instant::now();
    let serving = async {
        loop {
            let mut backend = rig.backends[0].accept().await;
            tokio::spawn(async move {
                while backend.head_or_end().await.is_some() {
                    backend.answer("x").await;
                }
            });
        }
    };
    let reading = async {
        for client in &mut clients {
            assert_eq!(client.response().await.text(), "x");
        }
    };
    tokio::select! {
        () = reading => {}
        () = serving => {}
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
}

/// A backend that is new, and was in no snapshot when the wait began, takes those that wait.
#[lameduck_rig::test]
async fn a_new_backend_takes_those_that_wait() {
    let rig = Rig::of(2).await;
    let drain = rig.begin_drain(0, "10s", "resumed").await;
    let other = rig.begin_drain(1, "10s", "resumed").await;
    let mut client = rig.ask(GET).await;
    held(&rig, 1).await;
    // Its health is asked for at the pool's port, where the first backend's check answers for it, too.
    let (backends, _) = backends(1).await;
    let newcomer = &backends[0];
    let body = serde_json::json!({ "address": newcomer.address.to_string() });
    lameduck::tools::demo::admin::call(
        &rig.socket,
        "PUT",
        "/v1/pools/app/backends/new",
        Some(&body),
    )
    .await
    .unwrap();
    let mut backend = newcomer.accept().await;
    backend.head().await;
    backend.answer("new").await;
    assert_eq!(client.response().await.text(), "new");
    for drain in [drain, other] {
        assert_eq!(drain.await.unwrap().outcome, "drained");
    }
}

/// `max_in_flight`: what finds no room waits for it.
#[lameduck_rig::test]
async fn a_full_backend_makes_requests_wait() {
    let rig = rig("[pool.upstream]\nmax_in_flight = 1").await;
    let (mut first, mut backend) = rig.get().await;
    let mut second = rig.ask(GET).await;
    held(&rig, 1).await;
    backend.answer("one").await;
    assert_eq!(first.response().await.text(), "one");
    backend.head().await;
    backend.answer("two").await;
    assert_eq!(second.response().await.text(), "two");
}

/// A proxy in front of one backend on a unix socket, and the connections that carry traffic, each with its
/// first request's head read.
pub async fn unix() -> (Rig, mpsc::UnboundedReceiver<Wire>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app");
    let listener = UnixListener::bind(&path).unwrap();
    let (traffic, arrived) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut wire, traffic) = (Wire::unix(stream), traffic.clone());
            tokio::spawn(async move {
                while let Some(head) = wire.head_or_end().await {
                    if !head.starts_with("GET /health ") {
                        let _ = traffic.send(wire);
                        return;
                    }
                    wire.answer("").await;
                }
            });
        }
    });
    let pool = format!(
        "[[pool.backend]]\nname = \"u\"\naddress = \"unix:{}\"\n[pool.health]\nrise = 1",
        path.display()
    );
    (Rig::start(dir, "", "", &pool, Vec::new()).await, arrived)
}

/// A unix-socket backend serves like any other.
#[lameduck_rig::test]
async fn a_unix_socket_will_do() {
    let (rig, mut arrived) = unix().await;
    let mut client = rig.ask(GET).await;
    let mut backend = arrived.recv().await.unwrap();
    for last in [false, true] {
        backend.answer("x").await;
        assert_eq!(client.response().await.text(), "x");
        if !last {
            client.send(GET).await;
            backend.head().await;
        }
    }
}

/// Another pool, which a reload may send the requests of the first one to.
const OTHER: &str = "[[pool]]\nname = \"other\"\n[pool.hold]\non_empty = \"fail\"\n[[route]]\nhost = \"a\"\npool = \"app\"";

async fn with_other() -> Rig {
    let rig = Rig::new(Setup {
        pool: OTHER,
        ..Setup::default()
    })
    .await;
    rig.begin_drain(0, "60s", "resumed").await;
    rig
}

/// Requests that wait in a pool that a reload takes away are for whoever has their route now, or for nobody.
#[lameduck_rig::test]
async fn who_waits_in_a_pool_that_is_taken_away_is_routed_anew() {
    for (to, status) in [
        // Another pool has the route: it answers by its own rules.
        ("host = \"a\"\npool = \"other\"", 503),
        // Nobody has it.
        ("host = \"b\"\npool = \"other\"", 404),
    ] {
        let rig = with_other().await;
        let mut get = rig.ask(GET).await;
        let mut post = rig
            .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
            .await;
        held(&rig, 2).await;
        let (changed, why) = rig.reload("host = \"a\"\npool = \"app\"", to).await;
        assert_eq!(changed, 200, "{why}");
        for client in [&mut get, &mut post] {
            let response = client.response().await;
            assert_eq!(response.status(), status, "{}", response.head);
            // And the connection goes on.
            client.send(GET).await;
            assert_eq!(client.response().await.status(), status);
        }
        // So is whoever comes later.
        let mut late = rig.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(late.response().await.status(), status);
        let log = rig.access_log(5).await;
        let pool = if status == 404 { "" } else { "other" };
        assert!(log.iter().all(|line| line["pool"] == pool), "{log:?}");
        let text = rig.metrics().await;
        assert!(
            text.lines()
                .any(|line| line.starts_with("lameduck_local_responses_total")
                    && line.contains(&format!("pool=\"{pool}\""))
                    && line.contains(&format!("code=\"{status}\""))
                    && line.ends_with(" 5")),
            "{text}"
        );
    }
}

/// The same where the pool is gone altogether, and for those who wait for room.
#[lameduck_rig::test]
async fn who_waits_when_its_pool_is_deleted_is_answered_at_once() {
    for limit in ["", "[pool.upstream]\nmax_in_flight = 1\n"] {
        let rig = Rig::new(Setup {
            pool: format!("{limit}# more").leak(),
            ..Setup::default()
        })
        .await;
        let busy = match limit {
            "" => {
                rig.begin_drain(0, "60s", "resumed").await;
                None
            }
            _ => Some(rig.get().await),
        };
        let mut client = rig.ask(GET).await;
        held(&rig, 1).await;
        let (changed, why) = rig.reload("name = \"app\"", "name = \"renamed\"").await;
        assert_eq!(changed, 200, "{why}");
        // Its backend, which is the new pool's now.
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backend.answer("x").await;
        assert_eq!(client.response().await.text(), "x");
        drop(busy);
    }
}

/// What a reload says of waiting holds for those who wait already.
#[lameduck_rig::test]
async fn a_reload_of_the_hold_is_heard_by_those_who_wait() {
    for to in ["on_empty = \"fail\"", "timeout = \"100ms\""] {
        let rig = rig("[pool.hold]\ntimeout = \"60s\"").await;
        rig.begin_drain(0, "60s", "resumed").await;
        let mut client = rig.ask(GET).await;
        held(&rig, 1).await;
        let (changed, why) = rig.reload("timeout = \"60s\"", to).await;
        assert_eq!(changed, 200, "{why}");
        assert_eq!(client.response().await.status(), 503);
        held(&rig, 0).await;
    }
}

/// A reload that changes nothing of theirs leaves them where they are.
#[lameduck_rig::test]
async fn who_waits_goes_on_waiting_through_a_reload() {
    let rig = rig("[pool.hold]\ntimeout = \"60s\"").await;
    rig.begin_drain(0, "60s", "resumed").await;
    let mut client = rig.ask(GET).await;
    held(&rig, 1).await;
    let (changed, _) = rig.reload("timeout = \"60s\"", "timeout = \"59s\"").await;
    assert_eq!(changed, 200);
    client.quiet(Duration::from_millis(100)).await;
    held(&rig, 1).await;
    rig.resume(0).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}
