//! One upgrade after the other, under load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lameduck::tools::demo::load::Load;
use serde_json::json;

use super::{PATIENCE, begin, goes_on, metric, upgraded, view};
use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::{proving, turn, turn_beside_one, until, usual_load};
use lameduck_rig::process::{children, is_running, status_kib};
use lameduck_rig::results::{Row, record};
use lameduck_rig::wire::Wire;

#[lameduck_rig::test]
async fn upgrades_in_a_row_under_load_lose_nothing_and_counters_go_on() {
    let _turn = turn_beside_one().await;
    let (bench, mut proxy) = begin("upgrade").await;
    let socket = proxy.socket().to_owned();
    let first = proxy.process().pid();
    let load = Load::start(usual_load(proxy.address()));
    let (mut serving, mut counted) = (first, 0);
    let rounds = if proving() { 20 } else { 3 };
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        goes_on(&load, 100).await;
        let before = metric(&socket, "lameduck_requests_total").await;
        assert!(
            before >= counted,
            "{before} after {counted} in round {round}"
        );
        let began = Instant::now();
        let report = upgraded(&socket).await;
        slowest = slowest.max(began.elapsed());
        assert_eq!(report["old_pid"], serving, "{report}");
        assert_eq!(
            (&report["listeners"], &report["admin_sockets"]),
            (&json!(1), &json!(1))
        );
        let now = view(&socket).await;
        assert_eq!(json!(now.pid), report["pid"]);
        assert_ne!(now.pid, serving);
        serving = now.pid;
        counted = before;
    }
    goes_on(&load, 100).await;
    // What the old ones had left is finished, and only the first process's id is still there, small.
    until("the old ones to finish", PATIENCE, async || {
        view(&socket).await.predecessor.is_none() && children(first) == [serving]
    })
    .await;
    let memory = status_kib(first, "RssAnon").unwrap();
    assert!(memory < 16 << 10, "{memory} KiB");
    let sent = load.stop().await;
    let front = Front::Lameduck(proxy);
    let account = bench.account(sent, &front).await;
    assert!(
        account.is_clean() && account.delivered_twice == 0,
        "{account}"
    );
    let answered = metric(&socket, "lameduck_requests_total").await;
    assert!(answered >= counted);
    let notes = vec![format!("{rounds} upgrades, the slowest took {slowest:?}")];
    record(Row {
        test: "upgrade",
        proxy: "lameduck".into(),
        app: App::BuiltIn.name().into(),
        account,
        notes,
    });
    // Whoever waits for the first process's id stops the one that serves.
    let Front::Lameduck(mut proxy) = front else {
        unreachable!()
    };
    let status = proxy.stop(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(!is_running(serving), "{serving} still runs");
}

/// Without a pause between two: connections that the first process moves late pass the second one, which has nothing
/// else left, and a request may be on its way just then.
#[lameduck_rig::test]
async fn upgrades_in_pairs_lose_no_request_of_connections_that_move_late() {
    let _turn = turn().await;
    let (_bench, proxy) = begin("pairs").await;
    let (socket, address) = (proxy.socket().to_owned(), proxy.address());
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..24)
        .map(|_| tokio::spawn(ask_without_pause(address, is_over.clone())))
        .collect();
    for _ in 0..if proving() { 20 } else { 4 } {
        for _ in 0..2 {
            upgraded(&socket).await;
        }
        let before = metric(&socket, "lameduck_requests_total").await;
        until("requests to be answered", PATIENCE, async || {
            metric(&socket, "lameduck_requests_total").await > before + 50
        })
        .await;
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}

/// One request after the other on one connection for as long as it is kept. Each takes a while: an upgrade finds it
/// under way.
async fn ask_without_pause(address: SocketAddr, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::Relaxed) {
        let mut client = Wire::connect(address).await;
        loop {
            client
                .send("GET /slow?ms=900 HTTP/1.1\r\nHost: a\r\n\r\n")
                .await;
            let answer = client.response().await;
            assert_eq!(answer.status(), 200, "{}", answer.head);
            if answer.has("Connection: close") || is_over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}
