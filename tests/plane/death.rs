//! Backends that die, refuse, or have closed a kept connection.

use std::time::Duration;

use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::PATIENCE;

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

/// RFC 9110 §9.2.2: an idempotent request that got no answer is tried elsewhere.
#[lameduck_rig::test]
async fn a_get_without_an_answer_is_tried_elsewhere() {
    let rig = Rig::of(2).await;
    for reset in [false, true] {
        let mut client = rig.ask(GET).await;
        let (index, mut backend) = rig.first().await;
        backend.head().await;
        if reset {
            backend.reset()
        } else {
            drop(backend)
        }
        let mut other = rig.backends[1 - index].accept().await;
        other.head().await;
        other.answer_and_close("x").await;
        assert_eq!(client.response().await.text(), "x");
    }
}

/// The same with a body: it is sent again from its start.
#[lameduck_rig::test]
async fn a_put_is_sent_again_with_its_body() {
    let rig = Rig::of(2).await;
    let mut client = rig
        .ask("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 8\r\n\r\nhalf")
        .await;
    let (index, mut backend) = rig.first().await;
    backend.head().await;
    backend.expect("half").await;
    drop(backend);
    let mut other = rig.backends[1 - index].accept().await;
    other.head().await;
    other.expect("half").await;
    client.send("more").await;
    other.expect("more").await;
    other.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// A body that has outgrown the buffer can't be sent again.
#[lameduck_rig::test]
async fn a_body_that_is_gone_is_not_sent_again() {
    let rig = Rig::of(2).await;
    let mut client = rig
        .ask("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        .await;
    let (_, mut backend) = rig.first().await;
    backend.head().await;
    let ((), _) = tokio::join!(client.send(vec![b'x'; 999_999]), backend.exactly(999_999));
    drop(backend);
    assert_eq!(client.response().await.status(), 502);
}

/// RFC 9110 §9.2.2: a POST that may have been applied is not repeated.
#[lameduck_rig::test]
async fn a_post_without_an_answer_is_a_502() {
    let rig = Rig::of(2).await;
    let mut client = rig.ask(POST).await;
    let (_, mut backend) = rig.first().await;
    backend.request().await;
    drop(backend);
    assert_eq!(client.response().await.status(), 502);
    // The client's connection is as good as before.
    client.send(GET).await;
    let (_, mut backend) = rig.first().await;
    backend.head().await;
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// Nothing was sent where a connect is refused: any method goes elsewhere.
#[lameduck_rig::test]
async fn a_post_that_was_refused_goes_elsewhere() {
    let mut rig = Rig::of(2).await;
    rig.backends[0].refuse();
    // Which of two idle backends is tried first is left to chance.
    for _ in 0..20 {
        let mut client = rig.ask(POST).await;
        let mut backend = rig.backends[1].accept().await;
        assert_eq!(backend.request().await.text(), "body");
        backend.answer_and_close("x").await;
        assert_eq!(client.response().await.text(), "x");
    }
    let log = rig.access_log(20).await;
    let retried = log
        .iter()
        .filter(|line| line["retry_reason"] == "connect_failed");
    assert!(retried.count() > 0, "{log:?}");
}

/// A connect that is refused everywhere is held and tried again until a backend listens.
#[lameduck_rig::test]
async fn a_refused_request_waits_for_the_listener() {
    let mut rig = Rig::one().await;
    let address = rig.backends[0].address;
    rig.backends[0].refuse();
    let mut client = rig.ask(POST).await;
    client.quiet(Duration::from_millis(200)).await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let (stream, _) = tokio::time::timeout(PATIENCE, listener.accept())
        .await
        .unwrap()
        .unwrap();
    let mut backend = lameduck_rig::wire::Wire::new(stream);
    assert_eq!(backend.request().await.text(), "body");
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// A kept connection that the backend has closed is invisible to the client, be the close seen before or not.
#[lameduck_rig::test]
async fn a_stale_connection_is_invisible() {
    let rig = Rig::one().await;
    let (mut client, mut backend) = rig.get().await;
    for pause in [0, 0, 0, 20, 20] {
        backend.answer("x").await;
        drop(backend);
        assert_eq!(client.response().await.text(), "x");
        tokio::time::sleep(Duration::from_millis(pause)).await;
        client.send(GET).await;
        backend = rig.backends[0].accept().await;
        backend.head().await;
    }
    backend.answer("last").await;
    assert_eq!(client.response().await.text(), "last");
}

/// A POST that met a connection already closed never reached the app: it goes out again. The window is small (the
/// close must come after the proxy has looked, and before the request is there), so it is tried until it was hit.
#[lameduck_rig::test(threads = 2)]
async fn a_post_on_a_stale_connection_goes_out_again() {
    let rig = Rig::one().await;
    let mut client = rig.client().await;
    for round in 1..=5000 {
        client.send(POST).await;
        let mut backend = rig.backends[0].accept().await;
        backend.request().await;
        backend.answer("x").await;
        assert_eq!(client.response().await.status(), 200);
        let closing = tokio::spawn(async move {
            for _ in 0..round % 50 * 100 {
                std::hint::spin_loop();
            }
            drop(backend);
        });
        client.send(POST).await;
        let serving = async {
            let mut backend = rig.backends[0].accept().await;
            backend.request().await;
            backend
                .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            // Whatever was in the backend's queue when it closed can't be told from what it has read: a 502.
            response = client.response() => assert!(matches!(response.status(), 200 | 502)),
            () = serving => unreachable!(),
        }
        closing.await.unwrap();
        if round % 100 == 0 {
            let log = rig.access_log(round * 2).await;
            let hit = |line: &serde_json::Value| {
                line["retry_reason"] == "stale_connection" && line["status"] == 200
            };
            if log.iter().any(hit) {
                return;
            }
        }
    }
    panic!("never hit");
}

/// A POST that did reach it is not repeated, though its connection had carried others.
#[lameduck_rig::test]
async fn a_post_that_was_delivered_is_not_repeated() {
    let rig = Rig::one().await;
    let mut client = rig.ask(POST).await;
    let mut backend = rig.backends[0].accept().await;
    backend.request().await;
    backend.answer("x").await;
    client.response().await;
    client.send(POST).await;
    backend.request().await;
    drop(backend);
    assert_eq!(client.response().await.status(), 502);
}

/// A kept connection that takes the request and then closes: a fresh one, to the same backend, at once.
#[lameduck_rig::test]
async fn a_connection_that_dies_with_its_second_request_is_replaced_at_once() {
    let rig = Rig::one().await;
    let (mut client, mut backend) = rig.get().await;
    backend.answer("x").await;
    client.response().await;
    client.send(GET).await;
    backend.head().await;
    drop(backend);
    let mut fresh = rig.backends[0].accept().await;
    fresh.head().await;
    fresh.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
    let line = &rig.access_log(2).await[1];
    assert_eq!(line["retry_reason"], "connection_died", "{line}");
    let held = line["held_ms"].as_f64().unwrap_or(0.0);
    assert!(held == 0.0, "held instead of tried again: {line}");
}

/// The only backend may be tried again even where nothing may be held.
#[lameduck_rig::test]
async fn a_retry_on_the_only_backend_is_no_hold() {
    let rig = Rig::new(Setup {
        pool: "[pool.hold]\non_empty = \"fail\"",
        ..Setup::default()
    })
    .await;
    let (mut client, mut backend) = rig.get().await;
    backend.answer("x").await;
    client.response().await;
    client.send(GET).await;
    backend.head().await;
    drop(backend);
    let mut fresh = rig.backends[0].accept().await;
    fresh.head().await;
    fresh.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// A restart leaves many stale connections behind: a retry doesn't take the next of them.
#[lameduck_rig::test]
async fn a_retry_takes_a_fresh_connection() {
    let rig = Rig::one().await;
    let mut pairs = Vec::new();
    for _ in 0..5 {
        pairs.push(rig.get().await);
    }
    let mut kept = Vec::new();
    for (mut client, mut backend) in pairs {
        backend.answer("x").await;
        client.response().await;
        kept.push(backend);
    }
    let mut client = rig.ask(GET).await;
    // Whichever of them gets it dies with it.
    let serving = kept
        .iter_mut()
        .map(|backend| Box::pin(backend.head_or_end()));
    let (_, index, _) = futures_util::future::select_all(serving).await;
    drop(kept.swap_remove(index));
    let mut fresh = rig.backends[0].accept().await;
    fresh.head().await;
    fresh.answer("fresh").await;
    assert_eq!(client.response().await.text(), "fresh");
}

/// Attempts are bounded: the third death is the answer.
#[lameduck_rig::test]
async fn attempts_are_bounded() {
    let rig = Rig::one().await;
    let mut client = rig.ask(GET).await;
    for _ in 0..3 {
        rig.backends[0].accept().await.head().await;
    }
    assert_eq!(client.response().await.status(), 502);
    assert!(!rig.backends[0].is_called(Duration::from_millis(50)).await);
}

/// A backend's whole kept pool is closed when it is found closed: nothing is leaked.
#[lameduck_rig::test]
async fn connections_are_counted_out() {
    let rig = Rig::one().await;
    for _ in 0..3 {
        let (mut client, mut backend) = rig.get().await;
        backend.answer_and_close("x").await;
        client.response().await;
        backend.closed().await;
    }
    let (client, mut backend) = rig.get().await;
    client.reset();
    backend.gone().await;
    // The probe's own may stay.
    rig.until("no connection left", |pool| {
        pool.backends[0].in_flight == 0 && pool.backends[0].connections <= 1
    })
    .await;
}
