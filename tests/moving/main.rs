//! Open connections that move from one data plane to another: two in one process, with a socket between them as between
//! two processes. Clients and backends count what they send and get; nothing may be closed, lost or doubled.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod backend;
mod carrier;
mod clients;
mod plane;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backend::CountingBackend;
use carrier::{Refusals, hand_over};
use clients::{ClientEnd, EventClient, KeptClient, PipeliningClient, WebSocketClient};
use lameduck::proxy::moving::{MoveCount, StayReason};
use plane::TestPlane;

/// The seed of this run: `LAMEDUCK_SEED`, or another one each time.
fn seed() -> u64 {
    let given = std::env::var("LAMEDUCK_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    lameduck_rig::setting::say(&format!("LAMEDUCK_SEED={seed}"));
    seed
}

#[lameduck_rig::test(threads = 2)]
async fn connections_move_again_and_again_and_nothing_is_lost_or_doubled() {
    lameduck::server::rlimit::raise_limit();
    let mut rng = fastrand::Rng::with_seed(seed());
    let stop = Arc::new(AtomicBool::new(false));
    let backend = CountingBackend::start(rng.fork(), stop.clone()).await;
    let mut planes = vec![TestPlane::start(&backend, "").await];
    let address = planes[0].address();
    let (mut sockets, mut events, mut pipelines) = (Vec::new(), Vec::new(), Vec::new());
    // The figures of `make prove`: as many as an upgrade has to carry.
    let (many_sockets, many_streams, generations) = match lameduck_rig::setting::proving() {
        true => (1_000, 200, 20),
        false => (40, 20, 5),
    };
    let lasting = (many_sockets + many_streams) as u32;
    for number in 0..many_sockets {
        let client = WebSocketClient::connect(address, number, rng.fork(), stop.clone());
        sockets.push(tokio::spawn(client));
    }
    for number in 0..many_streams {
        events.push(tokio::spawn(EventClient::connect(
            address,
            number,
            rng.fork(),
        )));
        let client = PipeliningClient::connect(address, number, rng.fork(), stop.clone());
        pipelines.push(tokio::spawn(client));
    }
    planes[0].until_lasting(lasting).await;
    for generation in 1..=generations {
        let next = TestPlane::start(&backend, "").await;
        let is_last = generation == generations;
        let refusals = match is_last {
            true => Refusals::None,
            false => Refusals::OneIn(8),
        };
        for old in &planes {
            let is_over = |_: &_| !is_last || old.clients() == 0;
            hand_over(old, &next, refusals, is_over, &mut rng).await;
        }
        planes.push(next);
        tokio::time::sleep(Duration::from_millis(rng.u64(20..200))).await;
    }
    let last = planes.last().unwrap();
    assert_eq!(
        last.lasting(),
        lasting,
        "all that last are counted where they are"
    );
    stop.store(true, Ordering::SeqCst);
    let mut ends: Vec<ClientEnd> = Vec::new();
    for client in sockets.into_iter().chain(events) {
        ends.push(client.await.unwrap());
    }
    for client in pipelines {
        let answered = client.await.unwrap();
        assert!(answered > 0);
    }
    last.until_in_flight(0).await;
    // Each has one line, where it ended, with all that has passed.
    let lines: Vec<_> = planes.iter().flat_map(TestPlane::access_log).collect();
    for end in &ends {
        let mut own = lines.iter().filter(|line| line["target"] == *end.path);
        let (line, other) = (own.next(), own.next());
        let line = line.unwrap_or_else(|| panic!("no line for {}", end.path));
        assert!(other.is_none(), "{} has two lines", end.path);
        assert_eq!(line["bytes_in"], end.sent, "{line}");
        assert_eq!(line["bytes_out"], end.received, "{line}");
        assert_eq!(line["backend"], "one", "{line}");
        assert_eq!(line["request_id"], end.id.as_str(), "{line}");
        assert!(line["end"].is_null() || line["end"] == "", "{line}");
    }
}

#[lameduck_rig::test(threads = 2)]
async fn hand_over_that_is_called_off_leaves_all_connections_where_they_were() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let stop = Arc::new(AtomicBool::new(false));
    let backend = CountingBackend::start(rng.fork(), stop.clone()).await;
    let (old, next) = (
        TestPlane::start(&backend, "").await,
        TestPlane::start(&backend, "").await,
    );
    let address = old.address();
    let mut sockets = Vec::new();
    for number in 0..10 {
        let client = WebSocketClient::connect(address, number, rng.fork(), stop.clone());
        sockets.push(tokio::spawn(client));
    }
    old.until_lasting(10).await;
    for _ in 0..3 {
        hand_over(&old, &next, Refusals::All, |_| true, &mut rng).await;
    }
    assert_eq!((old.in_flight(), next.in_flight()), (10, 0));
    stop.store(true, Ordering::SeqCst);
    for client in sockets {
        client.await.unwrap();
    }
    old.until_in_flight(0).await;
}

#[lameduck_rig::test(threads = 2)]
async fn drain_in_the_next_process_waits_for_what_has_moved_and_that_in_the_old_one_does_not() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let stop = Arc::new(AtomicBool::new(false));
    let backend = CountingBackend::start(rng.fork(), stop.clone()).await;
    let (old, next) = (
        TestPlane::start(&backend, "").await,
        TestPlane::start(&backend, "").await,
    );
    let client = WebSocketClient::connect(old.address(), 0, rng.fork(), stop.clone());
    let client = tokio::spawn(client);
    old.until_lasting(1).await;
    // Drained in both, before it moves.
    old.drain().await;
    next.drain().await;
    let is_over = |_: &_| old.clients() == 0;
    hand_over(&old, &next, Refusals::None, is_over, &mut rng).await;
    lameduck_rig::wait::until("the old process has nothing", async || old.is_quiet()).await;
    assert!(
        !next.is_quiet(),
        "the instance would be stopped under its WebSocket"
    );
    assert_eq!(next.in_flight(), 1);
    stop.store(true, Ordering::SeqCst);
    client.await.unwrap();
    let began = Instant::now();
    while !next.is_quiet() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it never gets quiet"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[lameduck_rig::test(threads = 2)]
async fn connection_of_an_unknown_backend_stays_and_says_why() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let stop = Arc::new(AtomicBool::new(false));
    let backend = CountingBackend::start(rng.fork(), stop.clone()).await;
    let other = CountingBackend::start(rng.fork(), stop.clone()).await;
    let (old, next) = (
        TestPlane::start(&backend, "").await,
        TestPlane::start(&other, "").await,
    );
    let client = WebSocketClient::connect(old.address(), 0, rng.fork(), stop.clone());
    let client = tokio::spawn(client);
    old.until_lasting(1).await;
    let is_over = |count: &MoveCount| count.stay.contains_key(&StayReason::Refused);
    let count = hand_over(&old, &next, Refusals::None, is_over, &mut rng).await;
    assert_eq!(count.stay.get(&StayReason::Refused), Some(&1), "{count:?}");
    assert_eq!((old.in_flight(), next.in_flight()), (1, 0));
    stop.store(true, Ordering::SeqCst);
    client.await.unwrap();
}

#[lameduck_rig::test(threads = 2)]
async fn client_behind_a_proxy_header_keeps_its_address_and_one_with_http2_stays() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let stop = Arc::new(AtomicBool::new(false));
    let backend = CountingBackend::start(rng.fork(), stop.clone()).await;
    let tables = "proxy_protocol = true\nhttp2 = true\n[headers]\ntrusted = [\"127.0.0.0/8\"]";
    let (old, next) = (
        TestPlane::start(&backend, tables).await,
        TestPlane::start(&backend, tables).await,
    );
    let header = b"PROXY TCP4 203.0.113.9 127.0.0.1 7 80\r\n";
    let mut client = KeptClient::connect(old.address(), header).await;
    assert_eq!(client.get("/before").await, "/before");
    let mut preface = header.to_vec();
    preface.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let mut multiplexing = KeptClient::connect(old.address(), &preface).await;
    multiplexing.hear().await;
    let is_over =
        |count: &MoveCount| count.stay.contains_key(&StayReason::Http2) && old.clients() == 1;
    let count = hand_over(&old, &next, Refusals::None, is_over, &mut rng).await;
    assert_eq!(count.stay.get(&StayReason::Http2), Some(&1), "{count:?}");
    assert_eq!((old.clients(), next.clients()), (1, 1), "{count:?}");
    assert_eq!(client.get("/after").await, "/after");
    for (plane, target) in [(&old, "/before"), (&next, "/after")] {
        assert_eq!(plane.logged(target).await["client"], "203.0.113.9");
    }
}

#[lameduck_rig::test(threads = 2)]
async fn compressed_stream_stays_and_says_why() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let stop = Arc::new(AtomicBool::new(false));
    let backend = CountingBackend::start(rng.fork(), stop.clone()).await;
    let tables = "[compression]\ntypes = [\"text/event-stream\"]\nmin_size = \"0\"";
    let (old, next) = (
        TestPlane::start(&backend, tables).await,
        TestPlane::start(&backend, tables).await,
    );
    let mut client = KeptClient::connect(
        old.address(),
        b"GET /events/1/chunked HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n",
    )
    .await;
    client.hear().await;
    old.until_lasting(1).await;
    let is_over = |count: &MoveCount| count.stay.contains_key(&StayReason::Stream);
    let count = hand_over(&old, &next, Refusals::None, is_over, &mut rng).await;
    assert_eq!(count.stay.get(&StayReason::Stream), Some(&1), "{count:?}");
    assert_eq!((old.lasting(), next.lasting()), (1, 0));
    stop.store(true, Ordering::SeqCst);
    client.hear_all().await;
}

#[lameduck_rig::test(threads = 2)]
async fn kept_connection_to_a_backend_is_warm_in_the_next_process() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let stop = Arc::new(AtomicBool::new(false));
    let backend = CountingBackend::start(rng.fork(), stop.clone()).await;
    let (old, next) = (
        TestPlane::start(&backend, "").await,
        TestPlane::start(&backend, "").await,
    );
    clients::get(old.address(), "/once").await;
    assert_eq!((backend.accepted(), old.until_kept(1).await), (1, 1));
    hand_over(&old, &next, Refusals::None, |_| true, &mut rng).await;
    assert_eq!((old.kept(), next.until_kept(1).await), (0, 1));
    clients::get(next.address(), "/twice").await;
    assert_eq!(backend.accepted(), 1, "the same connection");
    stop.store(true, Ordering::SeqCst);
}
