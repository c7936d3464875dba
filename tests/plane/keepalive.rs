//! Connections that carry several requests, on both sides.

use std::time::Duration;

use lameduck_rig::process::has_read_all;
use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wait::until;
use lameduck_rig::wire::{Ended, Wire};

/// RFC 9112 §9.3.2: pipelined requests are answered in their order.
#[lameduck_rig::test]
async fn pipelined_requests_are_answered_in_order() {
    let rig = Rig::one().await;
    let mut client = rig
        .ask("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\ntwoGET /3 HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    for (line, body) in [("GET /1 ", ""), ("POST /2 ", "two"), ("GET /3 ", "")] {
        let request = backend.request().await;
        assert!(request.head.starts_with(line), "{}", request.head);
        assert_eq!(request.text(), body);
        backend.answer(line).await;
    }
    for line in ["GET /1 ", "POST /2 ", "GET /3 "] {
        assert_eq!(client.response().await.text(), line);
    }
}

/// RFC 9112 §9.3: one connection, many requests, and the same one upwards.
#[lameduck_rig::test]
async fn both_connections_are_kept() {
    let rig = Rig::one().await;
    let (mut client, mut backend) = rig.get().await;
    backend.answer("first").await;
    assert_eq!(client.response().await.text(), "first");
    for _ in 0..3 {
        client.send(GET).await;
        backend.head().await;
        backend.answer("again").await;
        let response = client.response().await;
        assert_eq!(response.text(), "again");
        assert_eq!(response.field("connection"), None);
    }
}

/// RFC 9112 §9.3: an HTTP/1.0 client that says nothing gets `close`, and the close.
#[lameduck_rig::test]
async fn http_1_0_without_keep_alive_is_closed() {
    let rig = Rig::one().await;
    let mut client = rig.ask("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let mut backend = rig.backends[0].accept().await;
    assert!(backend.head().await.starts_with("GET / HTTP/1.1\r\n"));
    backend.answer("x").await;
    let response = client.response().await;
    assert!(response.has("Connection: close"));
    client.closed().await;
}

/// RFC 9112 §9.3, appendix C.2.2: with `keep-alive` it is told so, and kept.
#[lameduck_rig::test]
async fn http_1_0_with_keep_alive_is_kept() {
    let rig = Rig::one().await;
    let mut client = rig.client().await;
    client
        .send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    for last in [false, true] {
        backend.head().await;
        backend.answer("x").await;
        let response = client.response().await;
        assert!(response.has("Connection: keep-alive"), "{}", response.head);
        if !last {
            client
                .send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
                .await;
        }
    }
}

/// RFC 9112 §9.6: `close` from the client ends it after the answer; the backend's connection is kept.
#[lameduck_rig::test]
async fn a_client_that_says_close_is_closed() {
    let rig = Rig::one().await;
    let mut client = rig
        .ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("x").await;
    assert!(client.response().await.has("Connection: close"));
    client.closed().await;
    let _other = rig.ask(GET).await;
    backend.head().await;
}

/// RFC 9112 §9.6: a backend that says `close` gets no second request; its client is kept.
#[lameduck_rig::test]
async fn a_backend_that_says_close_is_not_used_again() {
    let rig = Rig::one().await;
    let (mut client, mut backend) = rig.get().await;
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(client.response().await.field("connection"), None);
    backend.closed().await;
    client.send(GET).await;
    let mut second = rig.backends[0].accept().await;
    second.head().await;
    second.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// The app's `Keep-Alive: timeout=` bounds how long its connection is kept.
#[lameduck_rig::test]
async fn a_connection_is_not_used_beyond_the_backends_own_timeout() {
    let rig = Rig::one().await;
    let (mut client, mut backend) = rig.get().await;
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=1\r\n\r\n")
        .await;
    client.response().await;
    client.send(GET).await;
    let mut second = rig.backends[0].accept().await;
    second.head().await;
    backend.closed().await;
}

/// An app that doesn't say how long it keeps a connection may be about to close it: what can't be sent twice takes a new
/// one then, and what can, the kept one.
#[lameduck_rig::test]
async fn a_post_takes_no_connection_that_may_be_about_to_close() {
    let rig = Rig::new(Setup {
        // Kept for the whole test, however long that takes on a busy machine.
        pool: "[pool.upstream]\nidle_timeout = \"60s\"",
        ..Setup::default()
    })
    .await;
    let (mut client, mut silent) = rig.get().await;
    silent.answer("x").await;
    client.response().await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    client.send(post).await;
    let mut fresh = rig.backends[0].accept().await;
    assert_eq!(fresh.request().await.text(), "body");
    fresh
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await;
    client.response().await;
    client.send(GET).await;
    silent.head().await;
    silent
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=60\r\n\r\n")
        .await;
    client.response().await;
    // This one has said that it is kept.
    tokio::time::sleep(Duration::from_millis(800)).await;
    client.send(post).await;
    assert_eq!(silent.request().await.text(), "body");
}

/// RFC 9112 §9.6, RFC 9110 §9.2.2: bytes that nobody asked for spoil a connection.
#[lameduck_rig::test]
async fn a_backend_that_sends_too_much_is_not_used_again() {
    let rig = Rig::one().await;
    let (mut client, mut backend) = rig.get().await;
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        .await;
    assert_eq!(client.response().await.text(), "ok");
    client.send(GET).await;
    let mut second = rig.backends[0].accept().await;
    second.head().await;
    second.answer("good").await;
    assert_eq!(client.response().await.text(), "good");
    backend.gone().await;
}

/// The same, when the surplus comes while the connection is idle.
#[lameduck_rig::test]
async fn an_idle_backend_that_talks_is_not_used_again() {
    let rig = Rig::one().await;
    let (mut client, mut backend) = rig.get().await;
    backend.answer("ok").await;
    assert_eq!(client.response().await.text(), "ok");
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        .await;
    // The reaper may have found it first; either way it is closed.
    backend.gone().await;
    client.send(GET).await;
    let mut second = rig.backends[0].accept().await;
    second.head().await;
    second.answer("good").await;
    assert_eq!(client.response().await.text(), "good");
}

/// RFC 9112 §9.6: a client that ends its direction behind its request still gets the answer.
#[lameduck_rig::test]
async fn a_half_closed_client_gets_its_answer() {
    let rig = Rig::one().await;
    let stream = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let own = stream.local_addr().unwrap();
    let mut client = Wire::new(stream);
    client.send(GET).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    client.finish().await;
    // The proxy must have seen it before the answer is there.
    until("the client's end to be read", async || {
        has_read_all(rig.address, own)
    })
    .await;
    backend.answer("still").await;
    let response = client.response().await;
    assert_eq!(response.text(), "still");
    assert!(response.has("Connection: close"));
    client.closed().await;
}

/// Waiting for an answer costs no CPU, whatever the client did.
#[lameduck_rig::test]
async fn waiting_does_not_spin() {
    let rig = Rig::one().await;
    let (mut half_closed, _backend) = rig.get().await;
    half_closed.finish().await;
    let (_pipelining, _other) = rig.get().await;
    let _idle = rig.client().await;
    let before = rig.cpu_ms();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let used = rig.cpu_ms() - before;
    assert!(used < 150, "{used} ms of CPU in half a second of waiting");
}

/// A client that resets its connection while it waits takes the backend's with it.
#[lameduck_rig::test]
async fn a_client_that_leaves_is_noticed_by_the_backend() {
    let rig = Rig::one().await;
    let (client, mut backend) = rig.get().await;
    client.reset();
    backend.gone().await;
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
    rig.canary().await;
}

/// An idle client is closed without a word (RFC 9112 §9.5).
#[lameduck_rig::test]
async fn an_idle_client_is_closed_silently() {
    let rig = Rig::new(Setup {
        server: "idle_timeout = \"200ms\"",
        ..Setup::default()
    })
    .await;
    let mut fresh = rig.client().await;
    let (mut client, mut backend) = rig.get().await;
    backend.answer("x").await;
    client.response().await;
    client.closed().await;
    fresh.closed().await;
}

/// RFC 9112 §9.3: what is in the pipeline behind a `close` is not served, and the answer is not lost by it.
#[lameduck_rig::test]
async fn what_follows_a_close_is_ignored() {
    let rig = Rig::one().await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /no HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    // More than fits the proxy's buffer, so that it is unread when the answer comes.
    let sending = client.try_send(vec![b'x'; 200 * 1024]);
    let answering = async {
        backend.quiet(Duration::from_millis(50)).await;
        backend.answer("whole").await;
    };
    let (_, ()) = tokio::join!(sending, answering);
    assert_eq!(client.response().await.text(), "whole");
    assert_eq!(client.rest().await.1, Ended::Closed);
}
