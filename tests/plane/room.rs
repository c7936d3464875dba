//! `max_in_flight`: what finds no room waits for it, in order.

use std::time::{Duration, Instant};

use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::Wire;

async fn rig(backends: usize) -> Rig {
    Rig::new(Setup {
        backends,
        pool: "[pool.upstream]\nmax_in_flight = 1",
        ..Setup::default()
    })
    .await
}

async fn held(rig: &Rig, count: usize) {
    rig.until("held requests", |pool| pool.held == count).await;
}

async fn ask_for(rig: &Rig, number: usize) -> Wire {
    rig.ask(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .await
}

/// First come, first served, and at once: a permit that is given back wakes the one that waits longest.
#[lameduck_rig::test]
async fn who_waits_is_let_in_in_order_and_at_once() {
    let rig = rig(1).await;
    let (mut first, mut backend) = rig.get().await;
    let mut clients = Vec::new();
    for number in 0..20 {
        clients.push(ask_for(&rig, number).await);
        held(&rig, number + 1).await;
    }
    let mut took = Vec::new();
    let mut answered = Instant::now();
    backend.answer("first").await;
    for number in 0..20 {
        let head = backend.head().await;
        took.push(answered.elapsed());
        assert!(
            head.starts_with(&format!("GET /{number} ")),
            "{number}: {head}"
        );
        answered = Instant::now();
        backend.answer("x").await;
    }
    // Looking again every 50 ms, half of them would be later than 25 ms.
    took.sort();
    assert!(took[10] < Duration::from_millis(20), "{took:?}");
    assert_eq!(first.response().await.text(), "first");
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "x");
    }
    held(&rig, 0).await;
}

/// Who comes later does not go first, however often there is room.
#[lameduck_rig::test]
async fn request_behind_a_queue_waits_its_turn() {
    let rig = rig(1).await;
    let (mut busy, mut backend) = rig.get().await;
    let mut waiting = ask_for(&rig, 1).await;
    held(&rig, 1).await;
    // The same connection asks again the moment it has its answer.
    backend.answer("x").await;
    busy.response().await;
    busy.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(backend.head().await.starts_with("GET /1 "));
    held(&rig, 1).await;
    backend.answer("one").await;
    assert_eq!(waiting.response().await.text(), "one");
    assert!(backend.head().await.starts_with("GET /2 "));
    backend.answer("two").await;
    assert_eq!(busy.response().await.text(), "two");
}

/// One that leaves the queue takes nobody's turn along.
#[lameduck_rig::test]
async fn who_leaves_the_queue_takes_no_turn_along() {
    let rig = rig(1).await;
    let (mut first, mut backend) = rig.get().await;
    let leaver = ask_for(&rig, 1).await;
    held(&rig, 1).await;
    let mut stayer = ask_for(&rig, 2).await;
    held(&rig, 2).await;
    leaver.reset();
    held(&rig, 1).await;
    backend.answer("x").await;
    first.response().await;
    assert!(backend.head().await.starts_with("GET /2 "));
    backend.answer("y").await;
    assert_eq!(stayer.response().await.text(), "y");
}

/// A wait that is too long is a 503; there is room for the next one all the same.
#[lameduck_rig::test]
async fn waiting_for_room_has_an_end() {
    let rig = Rig::new(Setup {
        pool: "[pool.upstream]\nmax_in_flight = 1\n[pool.hold]\ntimeout = \"200ms\"",
        ..Setup::default()
    })
    .await;
    let (mut first, mut backend) = rig.get().await;
    let mut second = rig.ask(GET).await;
    let response = second.response().await;
    assert_eq!(
        (response.status(), response.field("retry-after")),
        (503, Some("2"))
    );
    backend.answer("x").await;
    assert_eq!(first.response().await.text(), "x");
    second.send(GET).await;
    backend.head().await;
    backend.answer("y").await;
    assert_eq!(second.response().await.text(), "y");
}

/// A backend that becomes ready takes those that wait for room on another.
#[lameduck_rig::test]
async fn a_backend_that_is_back_takes_those_that_wait() {
    let rig = rig(2).await;
    let drain = rig.begin_drain(1, "5s", "resumed").await;
    let (_first, _backend) = rig.get().await;
    let mut second = ask_for(&rig, 2).await;
    held(&rig, 1).await;
    rig.resume(1).await;
    let mut other = rig.backends[1].accept().await;
    assert!(other.head().await.starts_with("GET /2 "));
    other.answer("there").await;
    assert_eq!(second.response().await.text(), "there");
    drain.await.unwrap();
}

/// The backend that is full begins to drain: who waits for it goes to whoever is ready next.
#[lameduck_rig::test]
async fn a_full_backend_that_drains_keeps_nobody() {
    let rig = rig(1).await;
    let (mut first, mut backend) = rig.get().await;
    let mut second = ask_for(&rig, 2).await;
    held(&rig, 1).await;
    let drain = rig.begin_drain(0, "5s", "resumed").await;
    backend.answer("x").await;
    first.response().await;
    backend.gone().await;
    assert_eq!(drain.await.unwrap().outcome, "drained");
    held(&rig, 1).await;
    rig.resume(0).await;
    let mut backend = rig.backends[0].accept().await;
    assert!(backend.head().await.starts_with("GET /2 "));
    backend.answer("y").await;
    assert_eq!(second.response().await.text(), "y");
}

/// Full is not empty: backends that are down are not tried for that.
#[lameduck_rig::test]
async fn full_is_no_reason_to_fail_open() {
    let rig = Rig::new(Setup {
        backends: 2,
        pool: "[pool.upstream]\nmax_in_flight = 1\n[pool.hold]\non_empty = \"fail_open\"",
        ..Setup::default()
    })
    .await;
    rig.backends[1].set_health(503);
    rig.until_state(1, "drained").await;
    let (mut first, mut backend) = rig.get().await;
    let mut second = ask_for(&rig, 2).await;
    held(&rig, 1).await;
    backend.answer("x").await;
    first.response().await;
    assert!(backend.head().await.starts_with("GET /2 "));
    backend.answer("y").await;
    assert_eq!(second.response().await.text(), "y");
}

/// Many clients, a small bound: it is never passed, and everybody is served.
#[lameduck_rig::test(threads = 2)]
async fn everybody_is_served_and_the_bound_is_kept() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let rig = Arc::new(rig(1).await);
    let (inside, most, served) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let serving = {
        let (rig, inside, most) = (rig.clone(), inside.clone(), most.clone());
        tokio::spawn(async move {
            loop {
                let mut backend = rig.backends[0].accept().await;
                let (inside, most) = (inside.clone(), most.clone());
                tokio::spawn(async move {
                    while backend.head_or_end().await.is_some() {
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        inside.fetch_sub(1, Ordering::SeqCst);
                        backend.answer("x").await;
                    }
                });
            }
        })
    };
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (rig, served) = (rig.clone(), served.clone());
        clients.spawn(async move {
            let mut client = rig.client().await;
            for _ in 0..30 {
                client.send(GET).await;
                assert_eq!(client.response().await.text(), "x");
                served.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    clients.join_all().await;
    serving.abort();
    assert_eq!(served.load(Ordering::SeqCst), 600);
    assert_eq!(most.load(Ordering::SeqCst), 1);
    held(&rig, 0).await;
}
