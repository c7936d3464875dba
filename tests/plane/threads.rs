//! Several data threads: connections are dealt out, and what one thread keeps serves the others.

use std::time::Duration;

use lameduck_rig::proxy::{GET, Rig, Setup};

async fn rig(server: &'static str) -> Rig {
    Rig::new(Setup {
        server,
        pool: "[pool.upstream]\nidle_timeout = \"60s\"",
        ..Setup::default()
    })
    .await
}

/// Waits until so many connections are kept.
async fn kept(rig: &Rig, count: u64) {
    const IDLE: &str = "lameduck_backend_idle_connections{pool=\"app\",backend=\"b1\"}";
    for _ in 0..2000 {
        if rig.metric(IDLE).await == Some(count) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{count} connections are never kept");
}

/// Clients come to one thread after the other, and all of them use the one connection that there is, each for longer
/// than it was another thread's.
#[lameduck_rig::test]
async fn a_kept_connection_serves_every_thread() {
    let rig = rig("threads = 3").await;
    let (mut first, mut backend) = rig.get().await;
    backend.answer("first").await;
    assert_eq!(first.response().await.text(), "first");
    let mut clients = vec![first];
    for _ in 0..5 {
        clients.push(rig.client().await);
    }
    for round in 0..3 {
        for client in &mut clients {
            kept(&rig, 1).await;
            client.send(GET).await;
            backend.head().await;
            backend.answer("again").await;
            assert_eq!(client.response().await.text(), "again", "round {round}");
        }
    }
}

/// One that waits for its backend takes a thread's time from nobody, whichever thread it is on.
#[lameduck_rig::test]
async fn held_request_blocks_no_other_of_its_thread() {
    let rig = rig("threads = 2").await;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(rig.get().await);
    }
    for (client, backend) in waiting.iter_mut().rev() {
        backend.answer("now").await;
        assert_eq!(client.response().await.text(), "now");
    }
    kept(&rig, 8).await;
}
