//! The built-in app keeps the promises that DESIGN makes for an app, seen directly.

use std::time::Duration;

use futures_util::StreamExt;
use lameduck::tools::demo::client::LoadConnection;
use lameduck::tools::demo::journal;
use lameduck::tools::demo::oracle::Loss;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::apps::App;
use crate::harness::{Bench, get, until};

const PATIENCE: Duration = Duration::from_secs(10);

fn request(path: &str, id: u64) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: app\r\nx-demo-id: {id}\r\n\r\n").into_bytes()
}

#[lameduck_rig::test]
async fn a_graceful_stop_finishes_what_is_in_flight_and_closes_the_rest_at_once() {
    let mut bench = Bench::start("app", App::BuiltIn, 1).await.unwrap();
    let instance = &mut bench.instances[0];
    let address = instance.address();
    let mut idle = LoadConnection::open(address).await.unwrap();
    assert!(!idle.exchange(&request("/", 1)).await.unwrap().closing);
    let mut fresh = LoadConnection::open(address).await.unwrap();
    let mut busy = LoadConnection::open(address).await.unwrap();
    let slow = tokio::spawn(async move { busy.exchange(&request("/slow?ms=2000", 2)).await });
    until("the slow request's arrival", PATIENCE, async || {
        instance.lives().unwrap()[0].arrivals.len() == 2
    })
    .await;

    instance.terminate().unwrap();
    until("the close of idle connections", PATIENCE, async || {
        !idle.is_reusable() && !fresh.is_reusable()
    })
    .await;
    assert!(!slow.is_finished(), "they waited for what is in flight");
    assert_eq!(
        LoadConnection::open(address).await.map(drop),
        Err(Loss::Refused)
    );
    assert!(fresh.exchange(&request("/", 3)).await.is_err());
    let answer = slow.await.unwrap().unwrap();
    assert_eq!(
        (answer.status, answer.closing, answer.app.as_deref()),
        (200, true, Some("app-1"))
    );
    instance.exited(PATIENCE).await.unwrap();
    let events = journal_events(&bench);
    assert_eq!(
        events,
        ["listening", "arrival", "arrival", "signalled", "exit"]
    );
}

#[lameduck_rig::test]
async fn with_nothing_in_flight_it_is_gone_within_100_ms() {
    let mut bench = Bench::start("app", App::BuiltIn, 1).await.unwrap();
    let instance = &mut bench.instances[0];
    // Other tests run meanwhile, and the machine may stand still for a moment: the quickest of three counts.
    let mut took = Vec::new();
    for _ in 0..3 {
        instance.terminate().unwrap();
        took.push(instance.exited(PATIENCE).await.unwrap());
        if took.last().is_some_and(|took| took.as_millis() < 100) {
            return;
        }
        instance.start_again().await.unwrap();
    }
    panic!("{took:?}");
}

#[lameduck_rig::test]
async fn an_abrupt_stop_takes_what_is_in_flight_along() {
    let mut bench = Bench::start("app", App::BuiltInAbrupt, 1).await.unwrap();
    let instance = &mut bench.instances[0];
    let mut busy = LoadConnection::open(instance.address()).await.unwrap();
    let slow = tokio::spawn(async move { busy.exchange(&request("/slow", 1)).await });
    until("the slow request's arrival", PATIENCE, async || {
        instance.lives().unwrap()[0].arrivals.len() == 1
    })
    .await;
    instance.terminate().unwrap();
    instance.exited(PATIENCE).await.unwrap();
    assert!(matches!(
        slow.await.unwrap(),
        Err(Loss::Empty | Loss::Reset)
    ));
    assert_eq!(journal_events(&bench), ["listening", "arrival"]);
}

#[lameduck_rig::test]
async fn a_lingering_app_says_503_and_serves_for_3_s() {
    let mut bench = Bench::start("app", App::BuiltInLinger, 1).await.unwrap();
    let instance = &mut bench.instances[0];
    let address = instance.address();
    instance.terminate().unwrap();
    until("503 on /health", PATIENCE, async || {
        matches!(get(address, "/health").await, Ok((503, _)))
    })
    .await;
    assert_eq!(get(address, "/").await.map(|(status, _)| status), Ok(200));
    let took = instance.exited(PATIENCE).await.unwrap();
    assert!((2900..10_000).contains(&took.as_millis()), "{took:?}");
}

#[lameduck_rig::test]
async fn sigusr1_plays_an_outage_and_ends_it() {
    let mut bench = Bench::start("app", App::BuiltIn, 1).await.unwrap();
    let address = bench.instances[0].address();
    for expected in [503, 200] {
        bench.instances[0].process().signal(libc::SIGUSR1).unwrap();
        until("the switch", PATIENCE, async || {
            get(address, "/health").await.unwrap().0 == expected
        })
        .await;
        assert_eq!(get(address, "/").await.unwrap().0, 200);
    }
}

#[lameduck_rig::test]
async fn a_websocket_is_told_when_the_app_stops() {
    let mut bench = Bench::start("app", App::BuiltIn, 1).await.unwrap();
    let instance = &mut bench.instances[0];
    let stream = TcpStream::connect(instance.address()).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://app/ws", stream)
        .await
        .unwrap();
    instance.terminate().unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = socket.next().await else {
        panic!("no close frame")
    };
    assert_eq!(u16::from(frame.code), 1001);
    assert!(socket.next().await.is_none());
    instance.exited(PATIENCE).await.unwrap();
}

fn journal_events(bench: &Bench) -> Vec<String> {
    let lines = journal::read(&bench.scratch.path().join("app-1.1.journal")).unwrap();
    lines.into_iter().map(|line| line.event).collect()
}
