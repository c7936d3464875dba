//! A pool that is paused: what comes is held, or answered with a page, and nothing else changes.

use std::time::{Duration, Instant};

use lameduck::tools::demo::admin;
use serde_json::{Value, json};

use lameduck_rig::proxy::{GET, Rig, Setup};

async fn rig(pool: &'static str) -> Rig {
    Rig::new(Setup {
        pool,
        ..Setup::default()
    })
    .await
}

async fn pause(rig: &Rig, request: Value) -> Value {
    admin::call(&rig.socket, "POST", "/v1/pools/app/pause", Some(&request))
        .await
        .unwrap()
}

async fn end_pause(rig: &Rig) -> Value {
    admin::call(&rig.socket, "DELETE", "/v1/pools/app/pause", None)
        .await
        .unwrap()
}

async fn held(rig: &Rig, count: usize) {
    rig.until("held requests", |pool| pool.held == count).await;
}

/// What is in flight goes on; what comes waits, longer than `hold.timeout` and whatever `on_empty` says.
#[lameduck_rig::test]
async fn paused_pool_holds_what_comes_and_finishes_what_it_has() {
    let rig = rig("[pool.hold]\ntimeout = \"50ms\"\non_empty = \"fail\"").await;
    let (mut first, mut backend) = rig.get().await;
    let paused = pause(&rig, json!({"for": "1m", "reason": "migration"})).await;
    assert_eq!(paused["pause"]["mode"], "hold");
    let mut second = rig.ask(GET).await;
    let mut post = rig
        .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
        .await;
    held(&rig, 2).await;
    backend.answer_and_close("first").await;
    assert_eq!(first.response().await.text(), "first");
    let series = "lameduck_pool_paused{pool=\"app\"}";
    rig.counts(series, 1).await;
    assert_eq!(rig.pool().await.pause.unwrap().reason, "migration");
    tokio::time::sleep(Duration::from_millis(150)).await;
    held(&rig, 2).await;
    assert_eq!(end_pause(&rig).await["was_paused"], true);
    for _ in 0..2 {
        let mut backend = rig.backends[0].accept().await;
        backend.request().await;
        backend.answer_and_close("x").await;
    }
    assert_eq!(second.response().await.text(), "x");
    assert_eq!(post.response().await.text(), "x");
    assert_eq!(rig.metric(series).await, Some(0));
    rig.logs("the pool is paused").await;
    rig.logs("the pool's pause has ended").await;
}

/// Nobody has to end it, and `hold.timeout` counts from then on.
#[lameduck_rig::test]
async fn pause_ends_by_itself_and_only_then_the_wait_for_a_backend_begins() {
    let rig = rig("[pool.hold]\ntimeout = \"300ms\"").await;
    let began = Instant::now();
    pause(&rig, json!({"for": "400ms"})).await;
    let mut client = rig.ask(GET).await;
    let mut backend = rig.backends[0].accept().await;
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(400), "{took:?}");
    backend.request().await;
    backend.answer_and_close("x").await;
    assert_eq!(client.response().await.text(), "x");
    // With nothing ready behind it.
    let began = Instant::now();
    pause(&rig, json!({"for": "400ms"})).await;
    rig.begin_drain(0, "5s", "resumed").await;
    let mut client = rig.ask(GET).await;
    let answer = client.response().await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.text(), "no backend became ready in time\n");
    assert!(began.elapsed() >= Duration::from_millis(650));
}

/// The bounds of `[pool.hold]` hold, and who gives up leaves a place.
#[lameduck_rig::test]
async fn held_requests_of_a_paused_pool_are_bounded() {
    let rig = rig("[pool.hold]\nmax_requests = 1").await;
    pause(&rig, json!({})).await;
    let first = rig.ask(GET).await;
    held(&rig, 1).await;
    let answer = rig.ask(GET).await.response().await;
    assert_eq!(
        (answer.status(), answer.field("retry-after")),
        (503, Some("2"))
    );
    assert!(answer.text().contains("paused"), "{}", answer.text());
    first.reset();
    held(&rig, 0).await;
    let _second = rig.ask(GET).await;
    held(&rig, 1).await;
    assert_eq!(rig.access_log(2).await[0]["end"], "hold.max_requests");
}

/// A page for people, a problem document for programs, a head for HEAD; all with when to come again.
#[lameduck_rig::test]
async fn paused_pool_answers_with_its_page() {
    let rig = Rig::one().await;
    pause(&rig, json!({"page": "<h1>soon</h1>", "for": "90s"})).await;
    let mut client = rig.ask(GET).await;
    let answer = client.response().await;
    assert_eq!((answer.status(), answer.text()), (503, "<h1>soon</h1>"));
    assert_eq!(
        answer.field("content-type"),
        Some("text/html; charset=utf-8")
    );
    let wait: u32 = answer.field("retry-after").unwrap().parse().unwrap();
    assert!((80..=90).contains(&wait), "{wait}");
    // The connection is kept.
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
        .await;
    let answer = client.response().await;
    assert_eq!(
        answer.field("content-type"),
        Some("application/problem+json")
    );
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["status"], 503);
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html, application/json\r\n\r\n")
        .await;
    assert_eq!(client.response().await.text(), "<h1>soon</h1>");
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.contains("Content-Length: 13\r\n"), "{head}");
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
        .await;
    assert_eq!(client.response().await.status(), 503);
    let log = rig.access_log(5).await;
    assert!(log.iter().all(|line| line["end"] == "paused"), "{log:#?}");
    let local = "lameduck_local_responses_total{pool=\"app\",code=\"503\"}";
    rig.counts(local, 5).await;
    end_pause(&rig).await;
    rig.canary().await;
}

/// Those who wait are told as soon as there is a page; and a status of one's own needs no `Retry-After`.
#[lameduck_rig::test]
async fn held_requests_get_the_page_that_replaces_the_hold() {
    let rig = Rig::one().await;
    pause(&rig, json!({})).await;
    let mut client = rig.ask(GET).await;
    held(&rig, 1).await;
    let page = json!({"page": "read only", "status": 200, "type": "text/plain"});
    pause(&rig, page).await;
    let answer = client.response().await;
    assert_eq!((answer.status(), answer.text()), (200, "read only"));
    assert_eq!(answer.field("retry-after"), None);
    held(&rig, 0).await;
}

/// A reload keeps it, and neither health checks nor drains care.
#[lameduck_rig::test]
async fn pause_survives_a_reload_while_a_backend_is_drained_and_returns() {
    let rig = rig("[pool.hold]\nmax_requests = 77").await;
    pause(&rig, json!({})).await;
    let mut client = rig.ask(GET).await;
    held(&rig, 1).await;
    let (status, body) = rig.reload("max_requests = 77", "max_requests = 78").await;
    assert_eq!(status, 200, "{body}");
    rig.begin_drain(0, "5s", "resumed").await;
    rig.until_state(0, "drained").await;
    rig.resume(0).await;
    rig.until_state(0, "ready").await;
    held(&rig, 1).await;
    assert!(rig.pool().await.pause.is_some());
    end_pause(&rig).await;
    let mut backend = rig.backends[0].accept().await;
    backend.request().await;
    backend.answer_and_close("x").await;
    assert_eq!(client.response().await.text(), "x");
}
