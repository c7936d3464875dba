//! Clients that stall or flood handshakes, beside good ones.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rig::{PATIENCE, Rig, connect, fetch, get, proving, until};

/// The longest of `count` requests, each with a handshake of its own.
async fn slowest(rig: &Rig, count: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..count {
        let begun = Instant::now();
        let mut config = (*rig.client()).clone();
        config.resumption = rustls::client::Resumption::disabled();
        let answer = fetch(rig, config.into()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        slowest = slowest.max(begun.elapsed());
    }
    slowest
}

#[lameduck_rig::test]
async fn stalled_handshakes_end_at_the_deadline_and_harm_nobody() {
    // It counts for the good ones, too: longer than a machine stands still as a rule.
    let rig = Rig::with("", "", "header_timeout = \"3s\"").await;
    let count = if proving() { 2000 } else { 200 };
    let mut stalled = Vec::new();
    for n in 0..count {
        let mut stream = TcpStream::connect(rig.address()).await.unwrap();
        // Nothing at all, a first byte, or half a hello.
        let bytes: &[u8] = [&b""[..], b"\x16", b"\x16\x03\x01\x01\x00\x01\x00"][n % 3];
        stream.write_all(bytes).await.unwrap();
        stalled.push(stream);
    }
    // They are not waited for: the deadline of each would have to pass.
    let begun = Instant::now();
    slowest(&rig, 20).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "20 took {took:?}");
    for stream in &mut stalled {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        let _ = ended.expect("a stalled connection stays open");
    }
    let timeouts = "lameduck_tls_handshakes_total{outcome=\"timeout\"}";
    // Each is counted once its connection has ended.
    rig.counts(timeouts, count as f64).await;
    // A handshake byte by byte doesn't outlive the deadline either: all of it takes longer than twice that.
    let mut stream = TcpStream::connect(rig.address()).await.unwrap();
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0; 400]].concat();
    let mut is_over = false;
    for byte in hello {
        if stream.write_all(&[byte]).await.is_err() {
            is_over = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(is_over, "it may take as long as it likes");
}

/// Handshakes as fast as one machine can ask for them, each one given up: good clients are served.
#[lameduck_rig::test]
async fn a_flood_of_handshakes_leaves_room_for_others() {
    let rig = Rig::new("").await;
    let address = rig.address();
    let flood: Vec<_> = (0..8)
        .map(|_| {
            let mut config = (*rig.client()).clone();
            config.resumption = rustls::client::Resumption::disabled();
            let config = std::sync::Arc::new(config);
            tokio::spawn(async move {
                loop {
                    let _ = connect(address, "localhost", config.clone()).await;
                }
            })
        })
        .collect();
    until("the flood", async || {
        rig.series("lameduck_tls_handshakes_total{outcome=\"full\"}")
            .await
            > Some(50.0)
    })
    .await;
    let slowest = slowest(&rig, 20).await;
    flood.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(slowest < PATIENCE / 2, "{slowest:?}");
}

#[lameduck_rig::test]
async fn one_too_many_costs_no_handshake() {
    let rig = Rig::with("", "", "max_connections_per_client = 2").await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(
            connect(rig.address(), "localhost", rig.client())
                .await
                .unwrap(),
        );
    }
    assert!(
        connect(rig.address(), "localhost", rig.client())
            .await
            .is_err()
    );
    let limited = "lameduck_limited_total{limit=\"max_connections_per_client\"}";
    rig.counts(limited, 1.0).await;
    let mut first = kept.swap_remove(0);
    let answer = super::rig::ask(&mut first, &get("/")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"));
    until("room", async || fetch(&rig, rig.client()).await.is_ok()).await;
}
