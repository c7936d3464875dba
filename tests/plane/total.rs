//! `total_timeout`, for those who want one.

use std::time::Duration;

use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::{Ended, PATIENCE};

async fn rig(pool: &'static str) -> Rig {
    rig_with("total_timeout = \"400ms\"", pool).await
}

async fn rig_with(server: &'static str, pool: &'static str) -> Rig {
    Rig::new(Setup {
        server,
        pool,
        ..Setup::default()
    })
    .await
}

/// The backend is late: 504, and the client's connection goes on.
#[lameduck_rig::test]
async fn a_backend_that_takes_too_long_is_a_504() {
    let rig = rig("").await;
    let (mut client, mut backend) = rig.get().await;
    assert_eq!(client.response().await.status(), 504);
    backend.gone().await;
    rig.was_limited("total_timeout", 1, 504).await;
    client.send(GET).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// The client is late, though its body never stops: 408.
#[lameduck_rig::test]
async fn a_body_that_takes_too_long_is_a_408() {
    let rig = rig("").await;
    let mut client = rig
        .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    let mut head = None;
    for _ in 0..200 {
        let waiting = tokio::time::timeout(Duration::from_millis(20), client.head_or_end());
        if let Ok(answer) = waiting.await {
            head = answer;
            break;
        }
        let _ = client.try_send("x").await;
    }
    assert!(head.unwrap().starts_with("HTTP/1.1 408 "));
    rig.was_limited("total_timeout", 1, 408).await;
}

/// A response that has begun is cut, so that nobody takes it for the whole, though it makes progress.
#[lameduck_rig::test]
async fn a_response_that_takes_too_long_is_cut() {
    let rig = rig("").await;
    let (mut client, mut backend) = rig.get().await;
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        .await;
    client.head().await;
    let trickling = tokio::spawn(async move {
        for _ in 0..200 {
            if backend.try_send("x").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody minds");
    });
    assert_eq!(client.rest().await.1, Ended::Reset);
    tokio::time::timeout(PATIENCE, trickling)
        .await
        .unwrap()
        .unwrap();
    rig.was_limited("total_timeout", 1, 200).await;
}

/// Time on hold counts: 503 with `Retry-After`.
#[lameduck_rig::test]
async fn a_hold_that_takes_too_long_is_a_503() {
    let rig = rig("").await;
    let _drain = rig.begin_drain(0, "5s", "resumed").await;
    let mut client = rig.ask(GET).await;
    let response = client.response().await;
    assert_eq!(
        (response.status(), response.field("retry-after")),
        (503, Some("2"))
    );
    rig.was_limited("total_timeout", 1, 503).await;
}

/// Each request of a connection has its own time, and idling costs none.
#[lameduck_rig::test]
async fn each_request_has_its_own_time() {
    let rig = rig_with("total_timeout = \"1200ms\"", "").await;
    let (mut client, mut backend) = rig.get().await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(350)).await;
        backend.answer("x").await;
        assert_eq!(client.response().await.text(), "x");
        client.send(GET).await;
        backend.head().await;
    }
}

/// Event streams and upgrades are meant to last.
#[lameduck_rig::test]
async fn streams_and_upgrades_have_no_end() {
    let rig = rig("").await;
    let (mut client, mut backend) = rig.get().await;
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.head().await;
    let mut tunnel = rig
        .ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    let mut other = rig.backends[0].accept().await;
    other.head().await;
    other
        .send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .await;
    tunnel.head().await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    backend.send("9\r\ndata: x\n\n\r\n").await;
    client.expect("9\r\ndata: x\n\n\r\n").await;
    other.send("\u{1}\u{1}x").await;
    tunnel.expect("\u{1}\u{1}x").await;
    assert_eq!(rig.limited("total_timeout").await, 0);
}
