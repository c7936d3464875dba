//! Listeners' queues: a connection that no process has accepted gets no request that could be lost with it.

use std::net::SocketAddr;
use std::time::Duration;

use lameduck_rig::process::unread_in_queues;
use lameduck_rig::proxy::{GET, Rig, Setup};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

/// Connections wait longer than the test.
const PATIENT: &str = "[pool.upstream]\nconnect_timeout = \"30s\"";

async fn rig(backends: usize, pool: &'static str) -> Rig {
    Rig::new(Setup {
        backends,
        pool,
        ..Setup::default()
    })
    .await
}

/// Two POSTs, one to each backend: the second one serves, the first one has its own in its queue when this returns.
async fn one_in_the_queue(rig: &Rig) -> Vec<lameduck_rig::wire::Wire> {
    let clients = vec![rig.ask(POST).await, rig.ask(POST).await];
    // An answer before the second request has come would leave the choice to chance.
    rig.until("one each", |pool| {
        pool.backends.iter().all(|backend| backend.in_flight == 1)
    })
    .await;
    let mut other = rig.backends[1].accept().await;
    assert_eq!(other.request().await.text(), "body");
    other.answer_and_close("x").await;
    queued(rig.backends[0].address).await;
    clients
}

/// Both are answered, the one from the queue by the second backend too.
async fn both_answered(rig: &Rig, clients: Vec<lameduck_rig::wire::Wire>) {
    let mut again = rig.backends[1].accept().await;
    assert_eq!(again.request().await.text(), "body");
    again.answer_and_close("x").await;
    for mut client in clients {
        assert_eq!(client.response().await.text(), "x");
    }
    let log = rig.access_log(2).await;
    let retried = |line: &&serde_json::Value| line["retry_reason"] == "connect_failed";
    assert_eq!(log.iter().filter(retried).count(), 1, "{log:?}");
}

/// Waits until a connection is established with this listener; nothing has been sent on any of them.
async fn queued(address: SocketAddr) {
    for _ in 0..4000 {
        if let Some(is_unread) = unread_in_queues(address).first() {
            assert!(!is_unread, "something was sent");
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("no connection came into the queue");
}

#[lameduck_rig::test]
async fn a_post_in_a_dying_accept_queue_goes_elsewhere() {
    let mut rig = rig(2, PATIENT).await;
    let listener = rig.backends[0].take_listener();
    let clients = one_in_the_queue(&rig).await;
    drop(listener);
    both_answered(&rig, clients).await;
}

/// The process is frozen, say: its kernel takes connections, and it does not.
#[lameduck_rig::test]
async fn a_post_that_nobody_accepts_goes_elsewhere() {
    let mut rig = rig(2, "[pool.upstream]\nconnect_timeout = \"1s\"").await;
    let listener = rig.backends[0].take_listener();
    let clients = one_in_the_queue(&rig).await;
    both_answered(&rig, clients).await;
    // What it finds in its queue when it wakes is empty.
    listener.set_nonblocking(false).unwrap();
    let (mut theirs, _) = listener.accept().unwrap();
    let mut got = Vec::new();
    std::io::Read::read_to_end(&mut theirs, &mut got).unwrap();
    assert!(got.is_empty(), "{got:?}");
}

#[lameduck_rig::test]
async fn a_drain_finds_a_post_in_the_queue_and_sends_it_elsewhere() {
    let mut rig = rig(2, PATIENT).await;
    let _listener = rig.backends[0].take_listener();
    let clients = one_in_the_queue(&rig).await;
    let drain = rig.begin_drain(0, "20s", "resumed").await;
    both_answered(&rig, clients).await;
    assert_eq!(drain.await.unwrap().outcome, "drained");
}

/// The only backend there is: whatever it takes to accept is waited for, and then it gets the request.
#[lameduck_rig::test]
async fn a_late_accept_gets_the_post() {
    let rig = rig(1, PATIENT).await;
    let mut client = rig.ask(POST).await;
    queued(rig.backends[0].address).await;
    let mut backend = rig.backends[0].accept().await;
    assert_eq!(backend.request().await.text(), "body");
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// A GET whose backend has died may have two more tries. Those that end in a queue are none.
#[lameduck_rig::test]
async fn a_retry_that_nobody_accepts_uses_up_no_attempt() {
    let mut rig = rig(
        3,
        "[pool.upstream]\nconnect_timeout = \"30s\"\n[pool.retry]\nattempts = 2",
    )
    .await;
    let mut client = rig.ask(GET).await;
    let (first, mut backend) = rig.first().await;
    backend.head().await;
    let [next, last] = [(first + 1) % 3, (first + 2) % 3];
    let mut dying = vec![
        (next, rig.backends[next].take_listener()),
        (last, rig.backends[last].take_listener()),
    ];
    drop(backend);
    // It is in either queue; and when that is gone, in the other.
    let addresses = dying.iter().map(|(index, _)| rig.backends[*index].address);
    let addresses: Vec<SocketAddr> = addresses.collect();
    let index = tokio::select! {
        () = queued(addresses[0]) => 0,
        () = queued(addresses[1]) => 1,
    };
    let (_, gone) = dying.swap_remove(index);
    drop(gone);
    queued(addresses[1 - index]).await;
    let (_, listener) = dying.remove(0);
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let mut backend = lameduck_rig::wire::Wire::new(listener.accept().await.unwrap().0);
    backend.head().await;
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
    let log = rig.access_log(1).await;
    assert_eq!(log[0]["attempts"], 3, "{log:?}");
}
