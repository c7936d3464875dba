//! Bodies that come bit by bit: events, and pages whose backend pauses.

use super::*;
use lameduck_rig::wire::has;
use std::time::{Duration, Instant};

const EVENTS: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A stream of events under way, in this coding.
async fn stream(rig: &Rig, coding: &str, head: &str) -> (Wire, Wire) {
    let mut client = rig.ask(get(coding)).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.send(head).await;
    let head = client.head().await;
    assert!(has(&head, &format!("Content-Encoding: {coding}")), "{head}");
    (client, backend)
}

/// Each event can be read as soon as it is here, before anything else comes.
#[lameduck_rig::test]
async fn event_does_not_wait_in_the_encoder() {
    let rig = rig().await;
    for coding in CODINGS {
        let (mut client, mut backend) = stream(&rig, coding, EVENTS).await;
        let (mut body, mut sent, mut took) = (Vec::new(), String::new(), Vec::new());
        for number in 0..100 {
            let event = format!("id: {number}\ndata: {{\"price\": {}}}\n\n", number * 37);
            let began = Instant::now();
            backend
                .send(format!("{:x}\r\n{event}\r\n", event.len()))
                .await;
            sent += &event;
            while decoded_so_far(coding, &body) != sent.as_bytes() {
                body.extend(chunk(&mut client).await.unwrap());
            }
            took.push(began.elapsed());
        }
        took.sort();
        // Others load the machine, too: what waits in the encoder, always waits.
        let usual = took[took.len() / 4];
        eprintln!(
            "{coding}: an event took {usual:?}, the slowest {:?}",
            took.last()
        );
        assert!(usual < Duration::from_millis(10), "{coding} {took:?}");
        backend.send("0\r\n\r\n").await;
        body.extend(client.chunks().await.0);
        assert!(decoded(coding, &body).unwrap() == sent);
    }
}

/// The same without events, and for a length: the head and the first half of a page can be read while the app still works
/// on the other one.
#[lameduck_rig::test]
async fn what_came_before_a_pause_does_not_wait_in_the_encoder() {
    let rig = rig().await;
    let body = page(30_000);
    let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n";
    for coding in CODINGS {
        for framing in ["Content-Length: 30000\r\n", "Connection: close\r\n"] {
            let head = format!("{html}{framing}\r\n");
            let (mut client, mut backend) = stream(&rig, coding, &head).await;
            let mut seen = Vec::new();
            backend.send(&body[..10_000]).await;
            while decoded_so_far(coding, &seen) != body.as_bytes()[..10_000] {
                seen.extend(chunk(&mut client).await.unwrap());
            }
            backend.send(&body[10_000..]).await;
            backend.finish().await;
            seen.extend(client.chunks().await.0);
            assert!(decoded(coding, &seen).unwrap() == body, "{coding}");
        }
    }
}

/// A drain ends a compressed stream as it ends a plain one: behind an event, and as a whole body.
#[lameduck_rig::test]
async fn drain_ends_a_compressed_stream_between_two_events() {
    // Each has seconds between its end and the deadline's cut: all of them at the same time.
    let drained = CODINGS.map(|coding| async move {
        let rig = Rig::new(Setup {
            tables: "[compression]\n",
            pool: "[pool.drain]\nclose_spread = \"5500ms\"\n",
            ..Setup::default()
        })
        .await;
        let (mut between, mut one) = stream(&rig, coding, EVENTS).await;
        let (mut within, mut other) = stream(&rig, coding, EVENTS).await;
        one.send("9\r\ndata: a\n\n\r\n").await;
        other.send("9\r\ndata: b\n\n\r\n6\r\ndata: \r\n").await;
        let mut first = chunk(&mut between).await.unwrap();
        let mut second = Vec::new();
        while decoded_so_far(coding, &second) != b"data: b\n\ndata: " {
            second.extend(chunk(&mut within).await.unwrap());
        }
        let drain = rig.begin_drain(0, "6s", "resumed").await;
        // The other one is never between two events for long: it ends behind one that is complete.
        let going_on = async {
            while other.try_send("a\r\nx\n\ndata: y\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            std::future::pending().await
        };
        let (rest, _) = tokio::select! {
            rest = within.chunks() => rest,
            () = going_on => unreachable!("it goes on until the stream has ended"),
        };
        second.extend(rest);
        let text = decoded(coding, &second).unwrap();
        assert!(text.starts_with("data: b\n\ndata: x\n\n"), "{text}");
        assert!(text.ends_with("x\n\n"), "{text}");
        first.extend(between.chunks().await.0);
        assert_eq!(decoded(coding, &first).unwrap(), "data: a\n\n");
        let outcome = drain.await.unwrap();
        assert_eq!(outcome.cut, 0, "{outcome:?}");
    });
    futures_util::future::join_all(drained).await;
}

/// Streams that stay open leave places to all others.
#[lameduck_rig::test]
async fn event_streams_take_half_of_the_places_only() {
    let rig = rig_with("[compression]\nmax_at_once = 4\n").await;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(stream(&rig, "gzip", EVENTS).await);
    }
    let mut client = rig.ask(get("gzip")).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.send(format!("{EVENTS}9\r\ndata: a\n\n\r\n")).await;
    let head = client.head().await;
    assert!(!head.contains("Content-Encoding"), "{head}");
    client.expect("9\r\ndata: a\n\n\r\n").await;
    let whole = answer("Content-Type: text/html\r\n", &page(2_000));
    let got = exchange(&rig, &get("gzip"), &whole).await;
    assert_eq!(got.field("content-encoding"), Some("gzip"));
}
