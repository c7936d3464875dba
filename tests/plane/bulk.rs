//! Large bodies, and peers who are slow with them.

use std::time::Duration;

use lameduck_rig::proxy::{GET, Rig};
use lameduck_rig::wire::{Wire, pattern};

const SIZE: usize = 20 << 20;

async fn send_chunked(wire: &mut Wire, body: &[u8]) {
    // Sizes that have nothing to do with any buffer's.
    for piece in body.chunks(77_777) {
        wire.send(format!("{:x}\r\n", piece.len())).await;
        wire.send(piece).await;
        wire.send("\r\n").await;
    }
    wire.send("0\r\n\r\n").await;
}

/// 20 MB up, by length and in chunks: whole, and in order.
#[lameduck_rig::test]
async fn large_uploads_arrive_whole() {
    let rig = Rig::one().await;
    let body = pattern(SIZE);
    for chunked in [false, true] {
        let mut client = rig.client().await;
        let sending = async {
            if chunked {
                client
                    .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await;
                send_chunked(&mut client, &body).await;
            } else {
                client
                    .send(format!(
                        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"
                    ))
                    .await;
                client.send(&body).await;
            }
            client.response().await
        };
        let serving = async {
            let mut backend = rig.backends[0].accept().await;
            let request = backend.request().await;
            backend
                .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await;
            request
        };
        let (response, request) = tokio::join!(sending, serving);
        assert_eq!(response.status(), 200);
        assert!(request.body == body, "not the same bytes");
    }
}

/// 20 MB down, by length, in chunks, and until the close.
#[lameduck_rig::test]
async fn large_downloads_arrive_whole() {
    let rig = Rig::one().await;
    let body = pattern(SIZE);
    for framing in [
        "Content-Length: 20971520\r\n",
        "Transfer-Encoding: chunked\r\n",
        "",
    ] {
        let (mut client, mut backend) = rig.get().await;
        let serving = async {
            backend
                .send(format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\n{framing}\r\n"
                ))
                .await;
            if framing.starts_with('T') {
                send_chunked(&mut backend, &body).await;
            } else {
                backend.send(&body).await;
            }
            drop(backend);
        };
        let (response, ()) = tokio::join!(client.response(), serving);
        assert!(response.body == body, "{framing:?}: not the same bytes");
    }
}

/// A client that doesn't read costs a buffer, not the response.
#[lameduck_rig::test]
async fn a_slow_reader_costs_little_memory() {
    let rig = Rig::one().await;
    let before = rig.memory();
    let mut clients = Vec::new();
    let mut serving = Vec::new();
    for _ in 0..8 {
        let (client, mut backend) = rig.get().await;
        clients.push(client);
        serving.push(tokio::spawn(async move {
            backend
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"))
                .await;
            let _ = tokio::time::timeout(
                Duration::from_millis(500),
                backend.try_send(vec![b'x'; SIZE]),
            )
            .await;
            backend
        }));
    }
    let mut backends = Vec::new();
    for task in serving {
        backends.push(task.await.unwrap());
    }
    let more = rig.memory().saturating_sub(before);
    assert!(
        more < 16 << 20,
        "{more} bytes more for eight responses that nobody reads"
    );
    // None of them is forgotten: whoever reads gets on.
    for client in &mut clients {
        client.head().await;
        client.exactly(1 << 20).await;
    }
}

/// A backend that doesn't read holds the client back, not the proxy's memory.
#[lameduck_rig::test]
async fn a_slow_backend_costs_little_memory() {
    let rig = Rig::one().await;
    let before = rig.memory();
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut client = rig
            .ask(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"
            ))
            .await;
        let backend = rig.backends[0].accept().await;
        let sending = client.try_send(vec![b'x'; SIZE]);
        let _ = tokio::time::timeout(Duration::from_millis(100), sending).await;
        held.push((client, backend));
    }
    let more = rig.memory().saturating_sub(before);
    assert!(
        more < 16 << 20,
        "{more} bytes more for eight uploads that nobody takes"
    );
}

/// A client that pipelines without end while it waits is held back too.
#[lameduck_rig::test]
async fn endless_pipelining_is_held_back() {
    let rig = Rig::one().await;
    let (mut client, mut backend) = rig.get().await;
    let flood = GET.repeat(40_000);
    let before = rig.memory();
    let sending = client.try_send(&flood);
    let _ = tokio::time::timeout(Duration::from_millis(300), sending).await;
    let more = rig.memory().saturating_sub(before);
    assert!(more < 4 << 20, "{more} bytes more");
    for _ in 0..100 {
        backend.answer("x").await;
        assert_eq!(client.response().await.text(), "x");
        backend.head().await;
    }
}
