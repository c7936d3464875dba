//! Clients that send or take too slowly, though never too little for `body_timeout`.

use std::time::{Duration, Instant};

use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::{Ended, Wire};

async fn rig(server: &'static str) -> Rig {
    Rig::new(Setup {
        server,
        ..Setup::default()
    })
    .await
}

/// Too long to be received whole first; `buffering` has the others.
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";

/// Sends a byte now and then until the proxy has something to say.
async fn trickle(client: &mut Wire, every: Duration) -> Option<String> {
    for _ in 0..500 {
        let head = tokio::time::timeout(every, client.head_or_end()).await;
        if let Ok(head) = head {
            return head;
        }
        // It may be closed by now: the answer, read next, says why.
        let _ = client.try_send("x").await;
    }
    panic!("nobody minds");
}

/// `min_body_rate`: a body of one byte at a time is a 408, whatever `body_timeout` says of progress.
#[lameduck_rig::test]
async fn a_body_that_trickles_is_a_408() {
    let rig = rig("min_body_rate = \"1KiB\"\nrate_grace = \"200ms\"").await;
    let mut client = rig.ask(POST).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    let began = Instant::now();
    let head = trickle(&mut client, Duration::from_millis(20))
        .await
        .unwrap();
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert!(
        began.elapsed() >= Duration::from_millis(150),
        "{:?}",
        began.elapsed()
    );
    rig.was_limited("min_body_rate", 1, 408).await;
    assert_eq!(rig.limited("body_timeout").await, 0);
    rig.canary().await;
}

/// Chunks of one byte are no way around it.
#[lameduck_rig::test]
async fn chunks_that_trickle_are_a_408_too() {
    let rig = rig("min_body_rate = \"10KiB\"\nrate_grace = \"100ms\"").await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = rig.ask(head).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    let mut answer = None;
    for _ in 0..500 {
        let waiting = tokio::time::timeout(Duration::from_millis(10), client.head_or_end());
        if let Ok(head) = waiting.await {
            answer = head;
            break;
        }
        let _ = client.try_send("1\r\nx\r\n").await;
    }
    assert!(answer.unwrap().starts_with("HTTP/1.1 408 "));
    rig.was_limited("min_body_rate", 1, 408).await;
}

/// A body that is fast enough, in pieces, takes as long as it takes.
#[lameduck_rig::test]
async fn a_body_at_the_rate_goes_through() {
    let rig = rig("min_body_rate = \"10KB\"\nrate_grace = \"300ms\"").await;
    let mut client = rig.ask(POST).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    for _ in 0..10 {
        client.send([b'x'; 10_000]).await;
        backend.exactly(10_000).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// Time that the backend takes is not the client's: one that reads late costs an honest upload nothing.
#[lameduck_rig::test]
async fn a_slow_backend_costs_the_client_nothing() {
    let rig = rig("min_body_rate = \"1MiB\"\nrate_grace = \"300ms\"").await;
    let size = 20_000_000;
    let mut client = rig
        .ask(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
        ))
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    let sending = tokio::spawn(async move {
        client.send(vec![b'x'; size]).await;
        client
    });
    tokio::time::sleep(Duration::from_millis(1000)).await;
    backend.exactly(size).await;
    backend.answer("x").await;
    assert_eq!(sending.await.unwrap().response().await.text(), "x");
}

/// A client that waits for its 100 is not slow.
#[lameduck_rig::test]
async fn waiting_for_a_100_is_not_slow() {
    let rig = rig("min_body_rate = \"1MiB\"\nrate_grace = \"1s\"").await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let mut client = rig.ask(head).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    backend.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.head().await;
    client.send("body").await;
    backend.expect("body").await;
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// Behind an answer that has begun, a body that trickles cuts the connection: there is nothing left to say.
#[lameduck_rig::test]
async fn a_trickle_behind_an_early_answer_is_cut() {
    let rig = rig("min_body_rate = \"1KiB\"\nrate_grace = \"200ms\"").await;
    let mut client = rig.ask(POST).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    client.head().await;
    client.expect("half").await;
    for _ in 0..500 {
        if client.try_send("x").await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(client.rest().await.1, Ended::Reset);
    rig.was_limited("min_body_rate", 1, 200).await;
}

/// A large response on its way to a client.
async fn download(rig: &Rig, size: usize) -> (Wire, tokio::task::JoinHandle<bool>) {
    let (mut client, mut backend) = rig.get().await;
    backend
        .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"))
        .await;
    let sending = tokio::spawn(async move { backend.try_send(vec![b'x'; size]).await.is_ok() });
    client.head().await;
    (client, sending)
}

/// `min_response_rate`: a client that takes a little now and then is cut, though it makes progress. What the
/// kernel has buffered for it is not counted as taken.
#[lameduck_rig::test]
async fn a_client_that_takes_too_slowly_is_cut() {
    let rig = rig("min_response_rate = \"1MiB\"\nrate_grace = \"300ms\"").await;
    let (mut client, sending) = download(&rig, 30_000_000).await;
    let began = Instant::now();
    let reading = async {
        for _ in 0..3000 {
            client.exactly(1000).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let sent = tokio::select! {
        sent = sending => sent.unwrap(),
        () = reading => panic!("nobody minds"),
    };
    assert!(!sent, "it was all taken");
    // What it read here counts: a few MiB at most, which the buffers on both sides hold.
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    let line = rig.was_limited("min_response_rate", 1, 200).await;
    assert!(line["bytes_out"].as_u64().unwrap() < 30_000_000);
    assert_eq!(rig.limited("body_timeout").await, 0);
}

/// One that is fast enough is not.
#[lameduck_rig::test]
async fn a_client_at_the_rate_gets_it_all() {
    let rig = rig("min_response_rate = \"1MiB\"\nrate_grace = \"500ms\"").await;
    let size = 12_000_000;
    let (mut client, sending) = download(&rig, size).await;
    for _ in 0..12 {
        client.exactly(size / 12).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(sending.await.unwrap());
    assert_eq!(rig.limited("min_response_rate").await, 0);
}

/// Off, as by default, nobody minds a slow client.
#[lameduck_rig::test]
async fn without_a_rate_slow_is_not_too_slow() {
    let rig = rig("").await;
    let mut client = rig.ask(POST).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send([b'x'; 20_000]).await;
        backend.exactly(20_000).await;
    }
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
    client.send(GET).await;
    backend.head().await;
}
