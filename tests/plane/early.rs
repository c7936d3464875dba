//! Uploads: answers that come before their end, and clients that don't send it.

use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::{Ended, pattern};

const UPLOAD: usize = 10 << 20;

/// RFC 9112 §9.6: an answer that overtakes a large upload reaches the client, who may read it only afterwards.
#[lameduck_rig::test]
async fn an_answer_during_an_upload_is_not_lost() {
    let rig = Rig::one().await;
    let mut client = rig
        .ask(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {UPLOAD}\r\n\r\n"
        ))
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend
        .send(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge",
        )
        .await;
    client.send(vec![b'x'; UPLOAD]).await;
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (413, "large"));
    assert!(response.has("Connection: close"));
    client.closed().await;
}

/// The same, when the backend closes at once and resets what still comes.
#[lameduck_rig::test]
async fn an_answer_of_a_backend_that_closes_is_not_lost() {
    let rig = Rig::one().await;
    let mut client = rig
        .ask(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {UPLOAD}\r\n\r\n"
        ))
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend
        .send(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge",
        )
        .await;
    drop(backend);
    client.send(vec![b'x'; UPLOAD]).await;
    assert_eq!(client.response().await.status(), 413);
    client.closed().await;
}

/// Our own 413, by the announced length: before any backend is asked, and not lost either.
#[lameduck_rig::test]
async fn a_body_that_announces_too_much_is_a_413() {
    let rig = Rig::new(Setup {
        server: "max_body = \"1MiB\"",
        ..Setup::default()
    })
    .await;
    let mut client = rig
        .ask(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {UPLOAD}\r\n\r\n"
        ))
        .await;
    client.send(vec![b'x'; UPLOAD]).await;
    let response = client.response().await;
    assert_eq!(response.status(), 413);
    assert!(response.has("Connection: close"));
    client.closed().await;
    rig.canary().await;
}

/// `max_body` counts content, not chunk framing.
#[lameduck_rig::test]
async fn a_chunked_body_is_measured_by_its_content() {
    let rig = Rig::new(Setup {
        server: "max_body = \"1KiB\"",
        ..Setup::default()
    })
    .await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = rig
        .ask(format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(1024)))
        .await;
    let mut backend = rig.backends[0].accept().await;
    assert_eq!(backend.request().await.body.len(), 1024);
    backend.answer("fits").await;
    assert_eq!(client.response().await.text(), "fits");

    client.send(head).await;
    backend.head().await;
    client.send("400\r\n").await;
    client.send(vec![b'x'; 1024]).await;
    client.send("\r\n1\r\nx\r\n").await;
    assert_eq!(client.response().await.status(), 413);
    client.closed().await;
    // What the backend got is not a whole request.
    let (got, _) = backend.rest().await;
    assert!(!got.ends_with(b"0\r\n\r\n"));
}

/// RFC 9112 §7.1: malformed chunks are refused, and the backend does not get a whole request out of them.
#[lameduck_rig::test]
async fn malformed_chunks_are_a_400() {
    let rig = Rig::one().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut at_once = rig.ask(format!("{head}xyz\r\n")).await;
    assert_eq!(at_once.response().await.status(), 400);
    at_once.closed().await;

    let mut client = rig.ask(format!("{head}3\r\nabc\r\n")).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.expect("3\r\nabc\r\n").await;
    client.send("-1\r\n").await;
    assert_eq!(client.response().await.status(), 400);
    backend.gone().await;
    rig.canary().await;
}

/// Once a response has begun, nothing else may be written into it: a bad body cuts it off.
#[lameduck_rig::test]
async fn a_bad_body_behind_a_begun_response_cuts_it_off() {
    let rig = Rig::new(Setup {
        server: "max_body = \"1KiB\"",
        ..Setup::default()
    })
    .await;
    for bad in ["-1\r\n", "800\r\n"] {
        let mut client = rig
            .ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            .await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backend.expect("3\r\nabc\r\n").await;
        backend
            .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            .await;
        client.head().await;
        client.expect("half").await;
        // In one piece: a chunk's size alone is nothing bad, and would be passed on.
        let _ = client
            .try_send([bad.as_bytes(), &[b'x'; 2048]].concat())
            .await;
        let (rest, ended) = client.rest().await;
        assert_eq!(
            (String::from_utf8_lossy(&rest).as_ref(), ended),
            ("", Ended::Reset)
        );
        backend.gone().await;
    }
}

/// A client that leaves in mid-upload takes the backend's connection with it.
#[lameduck_rig::test]
async fn a_client_that_leaves_in_mid_upload_is_noticed() {
    let rig = Rig::one().await;
    for reset in [false, true] {
        let mut client = rig
            .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf")
            .await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backend.expect("half").await;
        if reset {
            client.reset();
        } else {
            client.finish().await;
            drop(client);
        }
        backend.gone().await;
        rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
            .await;
    }
}

/// A body makes its way while the response does: neither waits for the other.
#[lameduck_rig::test]
async fn both_directions_are_live_at_once() {
    let rig = Rig::one().await;
    let mut client = rig
        .ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.head().await;
    for _ in 0..50 {
        client.send("4\r\nping\r\n").await;
        backend.expect("4\r\nping\r\n").await;
        backend.send("4\r\npong\r\n").await;
        client.expect("4\r\npong\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    backend.expect("0\r\n\r\n").await;
    backend.send("0\r\n\r\n").await;
    client.expect("0\r\n\r\n").await;
    client.closed().await;
}

/// A backend that answers when the body is whole, and a client that sends it slowly.
#[lameduck_rig::test]
async fn a_slow_upload_arrives_whole() {
    let rig = Rig::one().await;
    let body = pattern(300);
    let mut client = rig
        .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\n\r\n")
        .await;
    client.send_in_pieces(&body, 7).await;
    let mut backend = rig.backends[0].accept().await;
    assert_eq!(backend.request().await.body, body);
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}
