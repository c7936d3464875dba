//! Draining one backend: what is in flight, kept connections, deadlines, streams.

use std::time::{Duration, Instant};

use super::upgrade::{bare, masked, websocket};
use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::Ended;

/// `drained` comes when the request in flight is over, not before, and the connection is closed by then.
#[lameduck_rig::test]
async fn a_drain_waits_for_what_is_in_flight() {
    let rig = Rig::one().await;
    let (mut client, mut backend) = rig.get().await;
    let drain = rig.begin_drain(0, "5s", "resumed").await;
    assert_eq!(rig.view(0).await.state, "draining");
    backend.quiet(Duration::from_millis(100)).await;
    assert!(!drain.is_finished());
    backend.answer("in time").await;
    assert_eq!(client.response().await.text(), "in time");
    backend.closed().await;
    let outcome = drain.await.unwrap();
    assert_eq!((outcome.outcome.as_str(), outcome.cut), ("drained", 0));
    no_connection(&rig).await;
}

/// No connection of the proxy to the first backend is open, once a probe that may be under way is over.
async fn no_connection(rig: &Rig) {
    let name = rig.backends[0].name.clone();
    rig.until("no connection", |pool| {
        let view = pool.backends.iter().find(|view| view.name == name);
        view.is_some_and(|view| view.connections == 0)
    })
    .await;
}

/// Kept connections are closed at once: an app that waits for them would wait in vain.
#[lameduck_rig::test]
async fn kept_connections_are_closed_at_once() {
    let rig = Rig::one().await;
    let mut backends = Vec::new();
    let mut pairs = Vec::new();
    for _ in 0..20 {
        pairs.push(rig.get().await);
    }
    for (mut client, mut backend) in pairs {
        backend.answer("x").await;
        client.response().await;
        backends.push(backend);
    }
    let began = Instant::now();
    let outcome = rig.drain(0, "60s", "resumed").await.unwrap();
    assert_eq!(outcome.outcome, "drained");
    let took = began.elapsed();
    for backend in &mut backends {
        backend.closed().await;
    }
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// A request whose connect is under way when the drain begins goes elsewhere, whatever its method.
#[lameduck_rig::test]
async fn a_connect_under_way_goes_elsewhere() {
    let mut rig = Rig::new(Setup {
        backends: 2,
        pool: "[pool.upstream]\nconnect_timeout = \"5s\"",
        ..Setup::default()
    })
    .await;
    let slow = rig.backends[0].listen_with_a_full_queue().await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    // Least requests: one on either.
    let mut clients = vec![rig.ask(post).await, rig.ask(post).await];
    let mut other = rig.backends[1].accept().await;
    assert_eq!(other.request().await.text(), "body");
    let name = rig.backends[0].name.clone();
    rig.until("a request that connects", |pool| {
        let view = pool.backends.iter().find(|view| view.name == name);
        view.is_some_and(|view| view.in_flight == 1)
    })
    .await;
    let drain = rig.begin_drain(0, "5s", "resumed").await;
    // The queue has room again; the kernel's next try gets through.
    drop(slow);
    let mut moved = rig.backends[1].accept().await;
    assert_eq!(moved.request().await.text(), "body");
    other.answer("x").await;
    moved.answer("x").await;
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "x");
    }
    assert_eq!(drain.await.unwrap().outcome, "drained");
    no_connection(&rig).await;
}

/// Requests that race a drain are all answered, and no connection of theirs stays open behind it.
#[lameduck_rig::test]
async fn requests_that_race_a_drain_leave_nothing_behind() {
    let rig = Rig::of(2).await;
    let serving = |index: usize| {
        let backend = &rig.backends[index];
        async move {
            loop {
                let mut wire = backend.accept().await;
                tokio::spawn(async move {
                    while wire.head_or_end().await.is_some() {
                        wire.answer("x").await;
                    }
                });
            }
        }
    };
    let asking = async {
        for _ in 0..5 {
            let mut clients = Vec::new();
            for _ in 0..30 {
                clients.push(rig.ask(GET).await);
            }
            let drain = rig.drain(0, "60s", "resumed");
            for _ in 0..30 {
                clients.push(rig.ask(GET).await);
            }
            for client in &mut clients {
                assert_eq!(client.response().await.text(), "x");
            }
            let outcome = drain.await.unwrap();
            assert_eq!((outcome.outcome.as_str(), outcome.cut), ("drained", 0));
            assert!(outcome.waited_ms < 20_000, "{outcome:?}");
            no_connection(&rig).await;
            rig.resume(0).await;
        }
    };
    tokio::select! {
        () = asking => {}
        () = serving(0) => {}
        () = serving(1) => {}
    }
}

/// At the deadline a waiting GET is cut, tried elsewhere, and counted.
#[lameduck_rig::test]
async fn a_get_that_is_cut_is_tried_elsewhere() {
    let rig = Rig::of(2).await;
    let mut client = rig.ask(GET).await;
    let (index, mut backend) = rig.first().await;
    backend.head().await;
    let outcome = rig.drain(index, "200ms", "resumed").await.unwrap();
    assert_eq!((outcome.outcome.as_str(), outcome.cut), ("timed_out", 1));
    backend.gone().await;
    let mut other = rig.backends[1 - index].accept().await;
    other.head().await;
    other.answer("elsewhere").await;
    assert_eq!(client.response().await.text(), "elsewhere");
    assert_eq!(rig.access_log(1).await[0]["retry_reason"], "cut_by_drain");
    rig.until_state(index, "drained").await;
    rig.logs("cut at the drain's deadline").await;
}

/// A POST that is cut is answered, not repeated.
#[lameduck_rig::test]
async fn a_post_that_is_cut_is_answered() {
    let rig = Rig::of(2).await;
    let mut client = rig
        .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .await;
    let (index, mut backend) = rig.first().await;
    backend.head().await;
    assert_eq!(rig.drain(index, "200ms", "resumed").await.unwrap().cut, 1);
    let response = client.response().await;
    assert!(
        (502..=504).contains(&response.status()),
        "{}",
        response.head
    );
    let line = &rig.access_log(1).await[0];
    assert_eq!(line["end"].as_str(), Some("cut"), "{line}");
}

/// A response in progress is cut so that its client can tell.
#[lameduck_rig::test]
async fn a_response_that_is_cut_is_seen_to() {
    let rig = Rig::one().await;
    for framing in [
        "Content-Length: 100",
        "Transfer-Encoding: chunked",
        "X: until-close",
    ] {
        let (mut client, mut backend) = rig.get().await;
        backend
            .send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n4\r\nhalf\r\n"))
            .await;
        client.head().await;
        let outcome = rig.drain(0, "150ms", "resumed").await.unwrap();
        assert_eq!(
            (outcome.outcome.as_str(), outcome.cut),
            ("timed_out", 1),
            "{framing}"
        );
        let (_, ended) = client.rest().await;
        assert_eq!(ended, Ended::Reset, "{framing}");
        backend.gone().await;
        rig.resume(0).await;
    }
}

/// RFC 6455 §7.4.1: at a drain's deadline a WebSocket is told 1001, and so is the app, masked.
#[lameduck_rig::test]
async fn a_websocket_is_told_1001() {
    told(&["resumed"], 1001).await;
}

/// 1012 where the backend is about to be restarted.
#[lameduck_rig::test]
async fn a_websocket_is_told_1012_before_a_restart() {
    told(&["restarted"], 1012).await;
}

async fn told(until: &[&str], code: u16) {
    let rig = Rig::one().await;
    let (mut client, mut backend) = websocket(&rig).await;
    let drain = rig.begin_drain(0, "4s", until[0]).await;
    client.send(masked(1, b"hi")).await;
    backend.expect(masked(1, b"hi")).await;
    let head = client.exactly(2).await;
    assert_eq!(head[0], 0x88);
    let payload = client.exactly(usize::from(head[1])).await;
    assert_eq!(payload[..2], code.to_be_bytes());
    let head = backend.exactly(6).await;
    assert_eq!(
        (head[0], head[1] & 0x80),
        (0x88, 0x80),
        "the app's must be masked"
    );
    let payload = backend.exactly(usize::from(head[1] & 0x7f)).await;
    let unmasked: Vec<u8> = payload
        .iter()
        .zip(head[2..].iter().cycle())
        .map(|(a, b)| a ^ b)
        .collect();
    assert_eq!(unmasked[..2], code.to_be_bytes());
    // Both answer, and it is over at once.
    client.send(masked(8, &code.to_be_bytes())).await;
    backend.send(bare(8, &code.to_be_bytes())).await;
    client.closed().await;
    backend.gone().await;
    let outcome = drain.await.unwrap();
    assert_eq!((outcome.outcome.as_str(), outcome.cut), ("drained", 0));
}

/// The close frame waits for the end of a frame that is on its way.
#[lameduck_rig::test]
async fn a_close_frame_never_cuts_a_frame() {
    let rig = Rig::one().await;
    let (mut client, mut backend) = websocket(&rig).await;
    let frame = bare(1, b"a whole message");
    backend.send(&frame[..7]).await;
    client.expect(&frame[..7]).await;
    let drain = rig.begin_drain(0, "4s", "resumed").await;
    // The stream's turn comes within the deadline; the app's side has no open frame and hears of it.
    backend.exactly(6).await;
    backend.send(&frame[7..]).await;
    client.expect(&frame[7..]).await;
    assert_eq!(client.exactly(2).await[0], 0x88);
    drop(client);
    drop(backend);
    assert_eq!(drain.await.unwrap().cut, 0);
}

/// A WebSocket that answers no close frame doesn't hold the drain beyond its deadline.
#[lameduck_rig::test]
async fn a_deaf_websocket_is_over_too() {
    let rig = Rig::one().await;
    let (_client, _backend) = websocket(&rig).await;
    let began = Instant::now();
    rig.drain(0, "500ms", "resumed").await.unwrap();
    rig.until_state(0, "drained").await;
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// What isn't WebSocket is cut.
#[lameduck_rig::test]
async fn another_upgrade_is_cut() {
    let rig = Rig::one().await;
    let mut client = rig
        .ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend
        .send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")
        .await;
    client.head().await;
    let drain = rig.drain(0, "300ms", "resumed");
    assert_eq!(client.rest().await.1, Ended::Reset);
    backend.gone().await;
    drain.await.unwrap();
}

/// A drain that is lifted in time leaves everything as it was.
#[lameduck_rig::test]
async fn a_lifted_drain_costs_nothing() {
    let rig = Rig::one().await;
    let (mut client, mut backend) = rig.get().await;
    let drain = rig.begin_drain(0, "5s", "resumed").await;
    rig.resume(0).await;
    assert_eq!(drain.await.unwrap().outcome, "resumed");
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
    // Its connection is of the epoch before: it isn't used again.
    backend.closed().await;
    client.send(GET).await;
    rig.backends[0].accept().await.head().await;
}

/// What was answered as done and would not last is said to be so, wherever it is looked at. Nothing can be made in
/// `/proc`, as on a full disk.
#[lameduck_rig::test]
async fn a_drain_that_can_not_be_saved_says_so() {
    let rig = Rig::new(Setup {
        server: "state_dir = \"/proc/lameduck\"",
        ..Setup::default()
    })
    .await;
    let body = serde_json::json!({ "timeout": "5s" });
    let call = |method, path: &'static str, body| {
        let socket = rig.socket.clone();
        async move {
            let answer = lameduck::tools::demo::admin::call(&socket, method, path, body).await;
            answer.unwrap()
        }
    };
    let answer = call("POST", "/v1/pools/app/backends/b1/drain", Some(&body)).await;
    assert_eq!(answer["outcome"], "drained");
    let warning = answer["warning"].as_str().unwrap();
    assert!(
        warning.contains("not saved") && warning.contains("/proc/lameduck"),
        "{warning}"
    );
    let pool = rig.pool().await;
    assert!(
        pool.unsaved
            .is_some_and(|why| why.contains("/proc/lameduck"))
    );
    assert_eq!(pool.backends[0].state, "drained");
    assert_eq!(rig.metric("lameduck_state_unsaved").await, Some(1));
    // It goes on trying.
    lameduck_rig::wait::until("another try", async || {
        rig.metric("lameduck_state_save_failures_total").await > Some(1)
    })
    .await;
    let resumed = call("POST", "/v1/pools/app/backends/b1/resume", None).await;
    assert!(resumed["warning"].is_string(), "{resumed}");
}
