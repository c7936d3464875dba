//! What must not empty a pool: an error that all instances give, and a machine on which all probes time out.

use std::time::Duration;

use tokio::net::TcpListener;

use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::Wire;

/// Every request on every connection is answered so, for as long as the test runs.
fn serve(rig: &mut Rig, answer: &'static str) {
    for backend in &mut rig.backends {
        let listener = TcpListener::from_std(backend.take_listener()).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut wire = Wire::new(stream);
                tokio::spawn(async move {
                    while wire.head_or_end().await.is_some() {
                        wire.send(answer).await;
                    }
                });
            }
        });
    }
}

/// Ordinary traffic sees nothing but 503: each one asks for a probe, the probes pass, and nobody is taken out.
#[lameduck_rig::test]
async fn an_url_that_always_says_503_evicts_nobody() {
    let mut rig = Rig::new(Setup {
        backends: 3,
        server: "threads = 2",
        ..Setup::default()
    })
    .await;
    serve(
        &mut rig,
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno",
    );
    let before = rig.pool().await.backends;
    let mut client = rig.client().await;
    for _ in 0..300 {
        client.send("GET /broken HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let response = client.response().await;
        assert_eq!((response.status(), response.text()), (503, "no"));
    }
    let pool = rig.pool().await;
    assert_eq!((pool.eligible, pool.held), (3, 0));
    for (was, is) in before.iter().zip(&pool.backends) {
        assert_eq!(
            (&*is.state, is.drains.len(), is.incarnation),
            ("ready", 0, was.incarnation)
        );
    }
    let log = rig.log();
    assert!(
        !log.contains("to=\"draining\"") && !log.contains("to=\"down\""),
        "{log}"
    );
}

/// A backend that closes a kept connection may be stopping: until a probe has passed, the other one is better, and
/// nobody is taken out.
#[lameduck_rig::test]
async fn a_backend_that_closes_connections_is_avoided_for_a_moment() {
    let rig = Rig::new(Setup {
        backends: 2,
        pool: "timeout = \"5s\"",
        ..Setup::default()
    })
    .await;
    ready(&rig, 2).await;
    for _ in 0..3 {
        let mut client = rig.ask(GET).await;
        let (closing, mut backend) = rig.first().await;
        backend.head().await;
        backend.answer("x").await;
        client.response().await;
        // No probe says that it is well.
        rig.backends[closing].set_health(0);
        drop(backend);
        for _ in 0..4 {
            let mut client = rig
                .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
                .await;
            let mut other = rig.backends[1 - closing].accept().await;
            other.head().await;
            other
                .send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\ny")
                .await;
            assert_eq!(client.response().await.text(), "y");
        }
        assert_eq!(rig.pool().await.eligible, 2);
        rig.backends[closing].set_health(200);
        // It is over when it has lasted a second, at the latest.
        tokio::time::sleep(Duration::from_millis(1_050)).await;
    }
}

const QUICK: &str = "timeout = \"100ms\"\nfall_timeout = 2";

async fn ready(rig: &Rig, count: usize) {
    rig.until("ready backends", |pool| pool.eligible == count)
        .await;
}

/// Waits until the last probe of so many has timed out, and for some more time-outs in a row.
async fn timeouts(rig: &Rig, count: usize, row: u32) {
    let timed_out =
        |said: &Option<String>| said.as_ref().is_some_and(|said| said.contains("no answer"));
    rig.until("timed-out probes", |pool| {
        let all = pool.backends.iter();
        all.filter(|view| timed_out(&view.last_probe)).count() == count
    })
    .await;
    // A probe begins 10 ms after the one before has timed out, after 100 ms.
    tokio::time::sleep(Duration::from_millis(110) * row).await;
}

/// A starved machine: nobody answers a probe in time, and everybody still serves.
#[lameduck_rig::test]
async fn timeouts_of_all_backends_evict_none() {
    let mut rig = Rig::new(Setup {
        backends: 3,
        pool: QUICK,
        ..Setup::default()
    })
    .await;
    ready(&rig, 3).await;
    for backend in &rig.backends {
        backend.set_health(0);
    }
    serve(&mut rig, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
    timeouts(&rig, 3, 10).await;
    assert_eq!(rig.pool().await.eligible, 3);
    for _ in 0..9 {
        assert_eq!(rig.ask(GET).await.response().await.text(), "x");
    }
    // One is better again: the others, which are not, may go now.
    rig.backends[1].set_health(200);
    rig.until("the two that hang to go", |pool| {
        pool.eligible == 1 && pool.backends[1].state == "ready"
    })
    .await;
    assert_eq!(rig.ask(GET).await.response().await.text(), "x");
    // And when that one hangs, too, it stays.
    rig.backends[1].set_health(0);
    timeouts(&rig, 3, 5).await;
    assert_eq!(rig.view(1).await.state, "ready");
    assert_eq!(rig.ask(GET).await.response().await.text(), "x");
}
