//! Short bodies are received whole before a backend is chosen. Those of clients that ask first are not: see `interim`.

use std::time::Duration;

use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::Wire;

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf";

/// Long enough for a connect, if one were made.
const A_MOMENT: Duration = Duration::from_millis(100);

async fn rig(server: &'static str) -> Rig {
    Rig::new(Setup {
        server,
        ..Setup::default()
    })
    .await
}

/// A POST of which a half has come, and which no backend knows of.
async fn begun(rig: &Rig) -> Wire {
    let client = rig.ask(POST).await;
    assert!(!rig.backends[0].is_called(A_MOMENT).await);
    client
}

/// A backend hears of a request when there is nothing left to wait for.
#[lameduck_rig::test]
async fn a_backend_is_not_troubled_before_the_body_is_here() {
    let rig = rig("").await;
    let mut client = begun(&rig).await;
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
    client.send("more").await;
    let mut backend = rig.backends[0].accept().await;
    assert_eq!(backend.request().await.text(), "halfmore");
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// A drain doesn't wait for a client that sends slowly, and its request goes where it can when it has come.
#[lameduck_rig::test]
async fn a_drain_does_not_wait_for_a_slow_body() {
    let rig = Rig::of(2).await;
    let mut client = rig.ask(POST).await;
    tokio::time::sleep(A_MOMENT).await;
    for index in [0, 1] {
        rig.begin_drain(index, "5s", "resumed").await;
        rig.until_state(index, "drained").await;
    }
    rig.resume(1).await;
    client.send("more").await;
    let mut backend = rig.backends[1].accept().await;
    assert_eq!(backend.request().await.text(), "halfmore");
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// Up to what can be sent again from memory; what is longer is passed on as it comes.
#[lameduck_rig::test]
async fn a_body_of_64_kib_with_its_head_is_received_first() {
    let rig = rig("").await;
    let post = async |length: usize| {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let mut client = rig.ask(head).await;
        client.send(vec![b'x'; length - 1]).await;
        client
    };
    let mut client = post(65_000).await;
    assert!(!rig.backends[0].is_called(A_MOMENT).await);
    client.send("x").await;
    let mut backend = rig.backends[0].accept().await;
    assert_eq!(backend.request().await.body.len(), 65_000);
    backend.answer_and_close("x").await;
    assert_eq!(client.response().await.text(), "x");

    let mut client = post(65_536).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.exactly(65_535).await;
    client.send("x").await;
    backend.exactly(1).await;
    backend.answer_and_close("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// `request_buffering = false`: as it comes.
#[lameduck_rig::test]
async fn off_a_body_is_passed_on_as_it_comes() {
    let rig = Rig::new(Setup {
        pool: "[pool.upstream]\nrequest_buffering = false",
        ..Setup::default()
    })
    .await;
    let mut client = rig.ask(POST).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.expect("half").await;
    client.send("more").await;
    backend.expect("more").await;
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// A client that leaves in the middle is forgotten, and so is its request.
#[lameduck_rig::test]
async fn a_client_that_leaves_costs_no_backend_anything() {
    let rig = rig("").await;
    for reset in [false, true] {
        let mut client = begun(&rig).await;
        if reset {
            client.reset();
        } else {
            client.finish().await;
        }
    }
    let log = rig.access_log(2).await;
    for line in &log {
        assert_eq!(line["end"], "client_closed", "{line}");
        assert_eq!(line["attempts"], 0, "{line}");
    }
    rig.canary().await;
}

/// Each limit on slow bodies holds here too, with its own reason.
#[lameduck_rig::test]
async fn slow_bodies_are_a_408() {
    for (limit, server) in [
        ("body_timeout", "body_timeout = \"200ms\""),
        (
            "min_body_rate",
            "min_body_rate = \"1KiB\"\nrate_grace = \"200ms\"",
        ),
        ("total_timeout", "total_timeout = \"200ms\""),
    ] {
        let rig = rig(server).await;
        let mut client = begun(&rig).await;
        if limit != "body_timeout" {
            client.send("m").await;
        }
        assert_eq!(client.response().await.status(), 408, "{limit}");
        client.closed().await;
        rig.was_limited(limit, 1, 408).await;
        rig.canary().await;
    }
}

/// A byte now and then keeps no request in the proxy: its whole body has `body_timeout`, and a second more for each KiB.
#[lameduck_rig::test]
async fn body_that_drips_is_a_408_after_body_timeout() {
    let rig = rig("body_timeout = \"400ms\"").await;
    let began = std::time::Instant::now();
    let mut client = rig
        .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        .await;
    for n in 0..100 {
        let head = tokio::time::timeout(Duration::from_millis(100), client.head_or_end()).await;
        if let Ok(head) = head {
            assert!(head.unwrap().starts_with("HTTP/1.1 408 "));
            let took = began.elapsed();
            assert!(took >= Duration::from_millis(400), "{took:?}");
            assert!(n < 50, "{n} bytes");
            break;
        }
        assert!(n < 99, "nobody minds");
        let _ = client.try_send("x").await;
    }
    rig.was_limited("min_body_rate", 1, 408).await;
    rig.canary().await;
}

/// `max_memory`: whoever has been incomplete for longest makes room; newer and small requests are served.
#[lameduck_rig::test]
async fn full_memory_evicts_the_oldest_incomplete_request() {
    let rig = rig("max_memory = \"256KiB\"").await;
    let mut bodies = Vec::new();
    for n in 0..8 {
        let mut client = rig
            .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n")
            .await;
        client.send(vec![b'x'; 40_000]).await;
        bodies.push(client);
        rig.canary().await;
        if n > 4 {
            // Each new one takes an older one's place.
            let mut oldest = bodies.remove(0);
            assert_eq!(oldest.response().await.status(), 408);
        }
    }
    assert!(rig.limited("max_memory").await >= 3);
    let mut newest = bodies.pop().unwrap();
    newest.send(vec![b'x'; 20_000]).await;
    let mut backend = rig.backends[0].accept().await;
    assert_eq!(backend.request().await.body.len(), 60_000);
    backend.answer_and_close("x").await;
    assert_eq!(newest.response().await.text(), "x");
    // Heads, too.
    let mut heads = Vec::new();
    for _ in 0..8 {
        let mut client = rig.ask("GET / HTTP/1.1\r\nHost: a\r\nX: ").await;
        client.send(vec![b'x'; 40_000]).await;
        heads.push(client);
        rig.canary().await;
    }
    assert_eq!(heads.remove(0).response().await.status(), 408);
    let log = rig.access_log(1).await;
    assert!(
        log.iter().any(|line| line["end"] == "max_memory"),
        "{log:?}"
    );
}

/// A thousand heads of 60 kB that never end would keep 60 MB.
#[lameduck_rig::test]
async fn large_heads_that_do_not_end_take_each_others_places() {
    let rig = rig("").await;
    let mut heads = Vec::new();
    for _ in 0..70 {
        let mut client = rig.ask("GET / HTTP/1.1\r\nHost: a\r\nX: ").await;
        client.send(vec![b'x'; 40_000]).await;
        heads.push(client);
        rig.canary().await;
    }
    for oldest in &mut heads[..6] {
        assert_eq!(oldest.response().await.status(), 408);
    }
    rig.counts_limited("max_memory", 6).await;
    // Whoever ends his head is served meanwhile.
    let newest = heads.last_mut().unwrap();
    newest.send("\r\n\r\n").await;
    let mut backend = rig.backends[0].accept().await;
    backend.request().await;
    backend.answer("x").await;
    assert_eq!(newest.response().await.text(), "x");
}

/// A body that comes slowly, and in time, is waited for.
#[lameduck_rig::test]
async fn a_body_at_the_rate_is_waited_for() {
    let rig = rig("min_body_rate = \"100B\"\nrate_grace = \"2s\"\nbody_timeout = \"2s\"").await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n";
    let mut client = rig.ask(head).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        client.send([b'x'; 1000]).await;
    }
    let mut backend = rig.backends[0].accept().await;
    assert_eq!(backend.request().await.body.len(), 10_000);
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// While nothing is eligible it is held at once, in memory that `[pool.hold]` bounds.
#[lameduck_rig::test]
async fn with_no_backend_it_is_held() {
    let rig = rig("").await;
    rig.begin_drain(0, "5s", "resumed").await;
    let mut client = rig.ask(POST).await;
    rig.until("held requests", |pool| pool.held == 1).await;
    client.send("more").await;
    rig.resume(0).await;
    let mut backend = rig.backends[0].accept().await;
    assert_eq!(backend.request().await.text(), "halfmore");
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// Let go before its body is there, it is waited for like any other: after an outage, slow clients occupy no backend.
#[lameduck_rig::test]
async fn held_request_that_is_let_go_without_its_body_troubles_no_backend() {
    let rig = rig("").await;
    rig.begin_drain(0, "5s", "resumed").await;
    let mut client = rig.ask(POST).await;
    rig.until("held requests", |pool| pool.held == 1).await;
    rig.resume(0).await;
    rig.until("nothing held", |pool| pool.held == 0).await;
    assert!(!rig.backends[0].is_called(A_MOMENT).await);
    client.send("more").await;
    let mut backend = rig.backends[0].accept().await;
    assert_eq!(backend.request().await.text(), "halfmore");
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// The same where backends are tried that are not ready.
#[lameduck_rig::test]
async fn pool_that_fails_open_waits_for_the_body_too() {
    let rig = Rig::new(Setup {
        pool: "[pool.hold]\non_empty = \"fail_open\"",
        ..Setup::default()
    })
    .await;
    rig.backends[0].set_health(503);
    rig.until_state(0, "drained").await;
    let mut client = begun(&rig).await;
    client.send("more").await;
    let mut backend = rig.backends[0].accept().await;
    assert_eq!(backend.request().await.text(), "halfmore");
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}
