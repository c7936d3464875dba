//! 101 and what follows it (RFC 9110 §7.8, RFC 6455).

use std::time::Duration;

use lameduck_rig::proxy::{GET, Rig};
use lameduck_rig::wire::{Ended, Wire, has, pattern};

pub const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
pub const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A frame of a client: masked.
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, 0x80 | payload.len() as u8, 1, 2, 3, 4];
    frame.extend(
        payload
            .iter()
            .zip([1, 2, 3, 4].iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

/// A frame of a server: bare.
pub fn bare(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, payload.len() as u8];
    frame.extend_from_slice(payload);
    frame
}

/// An open WebSocket: client and backend.
pub async fn websocket(rig: &Rig) -> (Wire, Wire) {
    let mut client = rig.ask(WEBSOCKET).await;
    let (_, mut backend) = rig.first().await;
    backend.head().await;
    backend.send(SWITCHING).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    (client, backend)
}

/// RFC 6455 §4.2.2: the handshake goes through, and frames in any pieces.
#[lameduck_rig::test]
async fn a_websocket_goes_through() {
    let rig = Rig::one().await;
    let mut client = rig.ask(WEBSOCKET).await;
    let mut backend = rig.backends[0].accept().await;
    let head = backend.head().await;
    assert!(
        has(&head, "Connection: upgrade") && has(&head, "Upgrade: websocket"),
        "{head}"
    );
    assert!(
        has(&head, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        "{head}"
    );
    backend.send(SWITCHING).await;
    let head = client.head().await;
    assert!(
        has(&head, "Connection: upgrade") && has(&head, "Upgrade: websocket"),
        "{head}"
    );
    assert!(
        has(&head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{head}"
    );
    let (up, down) = (masked(1, b"hello"), bare(2, b"world"));
    for size in [1, 2, 5, 100] {
        client.send_in_pieces(&up, size).await;
        backend.expect(&up).await;
        backend.send_in_pieces(&down, size).await;
        client.expect(&down).await;
    }
    assert_eq!(rig.view(0).await.in_flight, 1);
    drop(client);
    backend.closed().await;
    drop(backend);
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
    let line = &rig.access_log(1).await[0];
    assert_eq!(
        (line["status"].as_u64(), line["method"].as_str()),
        (Some(101), Some("GET")),
        "{line}"
    );
    assert_eq!(
        line["path"].as_str().or(line["target"].as_str()),
        Some("/ws"),
        "{line}"
    );
}

/// Bytes right behind the heads, in the same packets, are the new protocol's.
#[lameduck_rig::test]
async fn bytes_behind_the_heads_are_passed_on() {
    let rig = Rig::one().await;
    let mut client = rig.ask(format!("{WEBSOCKET}early up")).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.send(format!("{SWITCHING}early down")).await;
    client.head().await;
    client.expect("early down").await;
    backend.expect("early up").await;
}

/// Much data, both ways at once.
#[lameduck_rig::test]
async fn much_data_goes_both_ways() {
    let rig = Rig::one().await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n";
    let (mut client, mut backend) = (rig.ask(request).await, rig.backends[0].accept().await);
    assert!(has(&backend.head().await, "Upgrade: raw"));
    backend
        .send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")
        .await;
    client.head().await;
    let (up, down) = (pattern(5_000_000), pattern(3_000_000));
    let clients = async {
        client.send(&up).await;
        client.finish().await;
        let (got, ended) = client.rest().await;
        assert_eq!(ended, Ended::Closed);
        assert!(got == down, "not the same bytes");
    };
    let (down, up) = (&down, &up);
    let backends = async {
        // It answers only when it has read everything up to the end: half a close must come through.
        let (got, ended) = backend.rest().await;
        assert_eq!(ended, Ended::Closed);
        assert!(got == *up, "not the same bytes");
        backend.send(down).await;
        backend.finish().await;
    };
    tokio::join!(clients, backends);
}

/// RFC 9110 §7.8: a backend may refuse, and both connections live on.
#[lameduck_rig::test]
async fn an_upgrade_may_be_refused() {
    let rig = Rig::one().await;
    let mut client = rig.ask(WEBSOCKET).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("no").await;
    assert_eq!(client.response().await.text(), "no");
    client.send(WEBSOCKET).await;
    backend.head().await;
    backend
        .send("HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: foo/2\r\nContent-Length: 0\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(response.status(), 426);
    assert!(
        response.has("Upgrade: foo/2") && response.has("Connection: upgrade"),
        "{}",
        response.head
    );
    client.send(GET).await;
    backend.head().await;
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// RFC 6455 §7.1.1: a WebSocket whose one end is gone is over, though the backend doesn't notice.
#[lameduck_rig::test]
async fn a_websocket_ends_when_its_client_has() {
    let rig = Rig::one().await;
    let (client, mut backend) = websocket(&rig).await;
    drop(client);
    backend.closed().await;
    // The backend keeps its end open; what is in flight must be over all the same.
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
}

/// What a backend has said last arrives, though it takes nothing more from a client that still talks.
#[lameduck_rig::test]
async fn bytes_before_the_end_of_a_tunnel_arrive() {
    let (rig, mut arrived) = super::hold::unix().await;
    let mut client = rig.ask(WEBSOCKET).await;
    let mut backend = arrived.recv().await.unwrap();
    backend.send(SWITCHING).await;
    client.head().await;
    backend.refuse_input();
    for _ in 0..3 {
        client.send(masked(1, b"are you there?")).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let words = pattern(1_000_000);
    let speaking = async {
        backend.send(&words).await;
        drop(backend);
    };
    let (got, ()) = tokio::join!(client.exactly(words.len()), speaking);
    assert!(got == words, "not the same bytes");
    client.closed().await;
}

/// A reset of one side is a break for the other.
#[lameduck_rig::test]
async fn a_reset_ends_both_sides() {
    let rig = Rig::one().await;
    let (mut client, backend) = websocket(&rig).await;
    backend.reset();
    client.gone().await;
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
}
