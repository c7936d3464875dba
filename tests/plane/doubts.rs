//! Two races that other proxies have lost, run over and over: a switch of protocols that comes at once, and the end of a
//! chunked body that comes by itself.

use super::upgrade::{SWITCHING, WEBSOCKET, bare, masked};
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::Wire;

/// A 101 with the first frames in the same segment: behind the request, or before a byte of it was read.
#[lameduck_rig::test]
async fn a_switch_that_comes_at_once_is_taken() {
    let rig = Rig::one().await;
    let hello = bare(1, b"hello");
    let answer = [SWITCHING.as_bytes(), &hello].concat();
    for round in 0..1000 {
        let question = masked(1, b"question");
        let mut client = match round % 2 {
            0 => rig.ask(WEBSOCKET).await,
            // The client is as hasty, which no browser is.
            _ => rig.ask([WEBSOCKET.as_bytes(), &question].concat()).await,
        };
        let mut backend = rig.backends[0].accept().await;
        if round % 4 < 2 {
            backend.send(&answer).await;
            backend.head().await;
        } else {
            backend.head().await;
            backend.send(&answer).await;
        }
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "round {round}: {head}");
        client.expect(&hello).await;
        if round % 2 == 0 {
            client.send(&question).await;
        }
        backend.expect(&question).await;
        // Both directions, once more.
        backend.send(&hello).await;
        client.expect(&hello).await;
        client.finish().await;
        backend.closed().await;
        drop(backend);
        client.closed().await;
    }
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
}

/// The canary that follows on the same upstream connection is the next thing the backend reads.
async fn canary(client: &mut Wire, backend: &mut Wire) {
    client.send("GET /canary HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = backend.head().await;
    assert!(head.starts_with("GET /canary HTTP/1.1\r\n"), "{head}");
    backend.answer("alive").await;
    assert_eq!(client.response().await.text(), "alive");
}

/// The last chunk by itself, in every division of it, is passed on once: the backend's connection stays in step.
#[lameduck_rig::test]
async fn the_end_of_a_chunked_body_that_comes_by_itself_is_passed_on_once() {
    let rig = Rig::one().await;
    let mut client = rig.client().await;
    let mut backend: Option<Wire> = None;
    let end = "0\r\n\r\n";
    for round in 0..300 {
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        let backend = match &mut backend {
            Some(kept) => kept,
            none => none.insert(rig.backends[0].accept().await),
        };
        backend.head().await;
        if round % 3 > 0 {
            client.send("5\r\nhello\r\n").await;
            backend.expect("5\r\nhello\r\n").await;
        }
        let (first, second) = end.split_at(round % (end.len() + 1));
        client.send(first).await;
        if round % 2 == 0 {
            backend.expect(first).await;
            client.send(second).await;
            backend.expect(second).await;
        } else {
            client.send(second).await;
            backend.expect(end).await;
        }
        backend.answer("ok").await;
        assert_eq!(client.response().await.text(), "ok");
        canary(&mut client, backend).await;
    }
}
