use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::Notify;

use super::super::places::WAITING;
use super::*;

fn source() -> AdminPeer {
    AdminPeer::Address("10.0.0.9:1000".parse().unwrap())
}

/// A connection at a door whose only answer waits until it is told to go on, the door's places, and what tells it.
fn talk(path: &'static str) -> (DuplexStream, Arc<DoorPlaces>, Arc<Notify>) {
    let (ours, theirs) = duplex(4096);
    let places = DoorPlaces::new(true);
    let go_on = Arc::new(Notify::new());
    let told = go_on.clone();
    let answer = move || async move {
        told.notified().await;
        "answered"
    };
    let talk = Talk {
        router: Router::new().route(path, get(answer)),
        slot: places.enter(source().source()),
        peer: source(),
        told: (
            watch::channel(DoorPhase::Open).1,
            // Its sender would end the conversation with its own end.
            Box::leak(Box::new(watch::channel(false))).1.clone(),
        ),
    };
    tokio::spawn(serve_connection(ours, false, talk));
    (theirs, places, go_on)
}

/// Asks, loses its place to others before the answer is made, and reads what comes until the end.
async fn ask_and_lose_the_place(path: &'static str) -> String {
    let (mut client, places, go_on) = talk(path);
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let crowd: Vec<_> = (0..WAITING)
        .map(|_| places.enter(source().source()))
        .collect();
    tokio::time::sleep(Duration::from_millis(1)).await;
    go_on.notify_one();
    let mut seen = String::new();
    client.read_to_string(&mut seen).await.unwrap();
    drop(crowd);
    seen
}

#[tokio::test(start_paused = true)]
async fn probe_under_way_is_answered_though_its_connection_loses_its_place() {
    let answer = ask_and_lose_the_place("/-/live").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("answered"), "{answer}");
    assert_eq!(ask_and_lose_the_place("/metrics").await, "");
}
