//! Peers that say nothing for too long.

use std::time::Duration;

use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::{Ended, PATIENCE};

async fn rig(server: &'static str, pool: &'static str) -> Rig {
    Rig::new(Setup {
        server,
        pool,
        ..Setup::default()
    })
    .await
}

/// RFC 9110 §15.5.9: a head that isn't finished in time is a 408, and the end.
#[lameduck_rig::test]
async fn a_head_that_takes_too_long_is_a_408() {
    let rig = rig("header_timeout = \"200ms\"", "").await;
    let mut client = rig.ask("GET / HTTP/1.1\r\nHos").await;
    let response = client.response().await;
    assert_eq!(response.status(), 408);
    assert!(response.has("Connection: close"));
    client.closed().await;
}

/// Bytes that trickle in don't move that deadline.
#[lameduck_rig::test]
async fn a_trickling_head_is_a_408_too() {
    let rig = rig("header_timeout = \"200ms\"", "").await;
    let mut client = rig.ask("GET / HTTP/1.1\r\nHost: a\r\nX: ").await;
    for _ in 0..200 {
        let waiting = tokio::time::timeout(Duration::from_millis(20), client.head_or_end());
        if let Ok(head) = waiting.await {
            assert!(head.unwrap().starts_with("HTTP/1.1 408 "));
            let line = rig.was_limited("header_timeout", 1, 408).await;
            assert_eq!(line["target"], "/");
            return;
        }
        // It may be closed by now: the answer, read next, says why.
        let _ = client.try_send("x").await;
    }
    panic!("nobody minds");
}

/// `idle_timeout`: a connection without a request is closed in good order, before its first one and after one.
#[lameduck_rig::test]
async fn an_idle_connection_is_closed() {
    let rig = rig("idle_timeout = \"300ms\"", "").await;
    let mut fresh = rig.client().await;
    let (mut client, mut backend) = rig.get().await;
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
    fresh.closed().await;
    client.closed().await;
    rig.counts_limited("idle_timeout", 2).await;
}

/// The head's time begins with its first byte, not with the end of the request before.
#[lameduck_rig::test]
async fn idling_does_not_eat_the_heads_time() {
    let rig = rig("header_timeout = \"1s\"", "").await;
    let mut fresh = rig.client().await;
    let (mut client, mut backend) = rig.get().await;
    backend.answer("x").await;
    client.response().await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    for idled in [&mut client, &mut fresh] {
        idled.send(&GET[..10]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        idled.send(&GET[10..]).await;
        backend.head().await;
        backend.answer("x").await;
        assert_eq!(idled.response().await.text(), "x");
    }
}

/// `body_timeout`: an upload that stops is a 408.
#[lameduck_rig::test]
async fn an_upload_that_stops_is_a_408() {
    let rig = rig("body_timeout = \"200ms\"", "").await;
    let mut client = rig
        .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf")
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.expect("half").await;
    assert_eq!(client.response().await.status(), 408);
    client.closed().await;
    backend.gone().await;
    rig.was_limited("body_timeout", 1, 408).await;
}

/// A client that waits for its 100 isn't slow: it is the backend that has to say something.
#[lameduck_rig::test]
async fn waiting_for_a_100_is_the_backends_time() {
    let rig = rig(
        "body_timeout = \"600ms\"",
        "[pool.upstream]\nread_timeout = \"2s\"",
    )
    .await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let mut client = rig.ask(head).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    backend.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.head().await;
    client.send("body").await;
    backend.expect("body").await;
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
    client.send(head).await;
    backend.head().await;
    assert_eq!(client.response().await.status(), 504);
}

/// A backend that doesn't take the body is late itself.
#[lameduck_rig::test]
async fn a_backend_that_takes_no_body_is_a_504() {
    let rig = rig(
        "body_timeout = \"10s\"",
        "[pool.upstream]\nread_timeout = \"300ms\"",
    )
    .await;
    let mut client = rig
        .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\n\r\n")
        .await;
    let _backend = rig.backends[0].accept().await;
    let sending = client.try_send(vec![b'x'; 29_000_000]);
    let _ = tokio::time::timeout(Duration::from_millis(800), sending).await;
    assert_eq!(client.response().await.status(), 504);
}

/// `read_timeout`: no byte of an answer in time is a 504, not a retry.
#[lameduck_rig::test]
async fn no_answer_in_time_is_a_504() {
    let rig = rig("", "[pool.upstream]\nread_timeout = \"200ms\"").await;
    let (mut client, mut backend) = rig.get().await;
    assert_eq!(client.response().await.status(), 504);
    backend.gone().await;
    client.send(GET).await;
    rig.backends[0].accept().await.head().await;
}

/// `read_timeout` within a response cuts it off.
#[lameduck_rig::test]
async fn a_response_that_stops_is_cut_off() {
    let rig = rig("", "[pool.upstream]\nread_timeout = \"200ms\"").await;
    let (mut client, mut backend) = rig.get().await;
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    client.head().await;
    assert_eq!(client.rest().await, (b"half".to_vec(), Ended::Reset));
    backend.gone().await;
}

/// A response that makes progress may take as long as it likes.
#[lameduck_rig::test]
async fn a_slow_response_is_not_cut_off() {
    let rig = rig("", "[pool.upstream]\nread_timeout = \"1s\"").await;
    let (mut client, mut backend) = rig.get().await;
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        .await;
    client.head().await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        backend.send("x").await;
        client.expect("x").await;
    }
}

/// So may an event stream that says nothing at all.
#[lameduck_rig::test]
async fn a_silent_event_stream_is_not_cut_off() {
    let rig = rig(
        "body_timeout = \"100ms\"",
        "[pool.upstream]\nread_timeout = \"100ms\"",
    )
    .await;
    let (mut client, mut backend) = rig.get().await;
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.head().await;
    client.quiet(Duration::from_millis(400)).await;
    backend.send("9\r\ndata: x\n\n\r\n").await;
    client.expect("9\r\ndata: x\n\n\r\n").await;
}

/// A client that stops reading is given up; one that reads slowly is not.
#[lameduck_rig::test]
async fn a_client_that_stops_reading_is_given_up() {
    let rig = rig("body_timeout = \"300ms\"", "").await;
    let (mut client, mut backend) = rig.get().await;
    let size = 30_000_000;
    backend
        .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"))
        .await;
    let sending = tokio::spawn(async move {
        let sent = backend.try_send(vec![b'x'; size]).await;
        sent.is_err()
    });
    client.head().await;
    assert!(
        tokio::time::timeout(PATIENCE, sending)
            .await
            .unwrap()
            .unwrap(),
        "it was never given up"
    );
    assert_eq!(client.rest().await.1, Ended::Reset);
    rig.was_limited("body_timeout", 1, 200).await;
}

/// Slow is not stopped: each piece that a client takes counts as progress.
#[lameduck_rig::test]
async fn a_client_that_reads_slowly_is_not_given_up() {
    let rig = rig(
        "body_timeout = \"1500ms\"",
        "[pool.upstream]\nread_timeout = \"1500ms\"",
    )
    .await;
    let (mut client, mut backend) = rig.get().await;
    let size = 12_000_000;
    backend
        .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"))
        .await;
    let sending = tokio::spawn(async move {
        backend.send(vec![b'x'; size]).await;
        backend
    });
    client.head().await;
    for _ in 0..12 {
        client.exactly(size / 12).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    sending.await.unwrap();
}

/// The log counts from the request's first byte; what the backend took is counted from the complete head.
#[lameduck_rig::test]
async fn request_is_measured_from_its_first_byte() {
    let rig = Rig::one().await;
    let mut client = rig.ask("GET / HTTP/1.1\r\nHos").await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    client.send("t: a\r\n\r\n").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("ok").await;
    assert_eq!(client.response().await.text(), "ok");
    let line = &rig.access_log(1).await[0];
    let (whole, upstream) = (&line["duration_ms"], &line["upstream_ms"]);
    let before = whole.as_f64().unwrap() - upstream.as_f64().unwrap();
    assert!(before >= 300.0, "{line}");
}

/// `total_timeout` begins with the complete head: a slow head is `header_timeout`'s business.
#[lameduck_rig::test]
async fn slow_head_takes_nothing_of_total_timeout() {
    let rig = rig("total_timeout = \"1s\"", "").await;
    let mut client = rig.ask("GET / HTTP/1.1\r\nHos").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    client.send("t: a\r\n\r\n").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("ok").await;
    assert_eq!(client.response().await.text(), "ok");
}
