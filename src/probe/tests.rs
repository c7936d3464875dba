//! Probes of real servers on the loopback interface.

mod rig;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::{Instant, timeout};

use super::*;
use crate::config::{Address, HealthCheck};
use crate::core::backend::ProbeResult;
use rig::{NEVER, OK, Rig, SOON, app, app_on, own_listener, read_head, status};

async fn one(answer: &str) -> (ProbeResult, String) {
    let app = app(&[answer]).await;
    Rig::new(Address::Socket(app.address), |_| {})
        .probed()
        .await
}

#[tokio::test]
async fn statuses_map_to_results() {
    let (probe, detail) = one(OK).await;
    assert_eq!(probe, ProbeResult::Pass);
    assert!(
        detail.starts_with("200 in ") && detail.ends_with(" ms"),
        "{detail}"
    );
    let draining = status("503 Service Unavailable", "draining\nmore");
    assert_eq!(
        one(&draining).await,
        (
            ProbeResult::Unavailable,
            "503 Service Unavailable: draining".into()
        )
    );
    let broken = status("500 Internal Server Error", "");
    assert_eq!(
        one(&broken).await,
        (ProbeResult::Status(500), "500 Internal Server Error".into())
    );
    assert_eq!(
        one(&status("302 Found", "")).await.0,
        ProbeResult::Status(302)
    );
    assert_eq!(
        one(&status("404 Not Found", "")).await.0,
        ProbeResult::Status(404)
    );
    assert_eq!(one("ssh-2.0 hello\r\n\r\n").await.0, ProbeResult::Reset);
}

#[tokio::test]
async fn expect_overrides_even_503() {
    let app = app(&[&status("503 Service Unavailable", "")]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |health| {
        let HealthCheck::Http { expect, .. } = &mut health.check else {
            unreachable!()
        };
        *expect = vec![(500, 503)];
    });
    assert_eq!(rig.probed().await.0, ProbeResult::Pass);
}

#[tokio::test]
async fn the_request_is_as_configured() {
    let app = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |_| {});
    rig.probed().await;
    let head = app.seen.last.lock().to_lowercase();
    assert!(head.starts_with("get /health http/1.1\r\n"), "{head}");
    assert!(
        head.contains(&format!("\r\nhost: {}\r\n", app.address)),
        "{head}"
    );
    assert!(head.contains("\r\nx-probe: 1\r\n"), "{head}");
    assert!(head.contains("\r\nuser-agent: lameduck/"), "{head}");
}

#[tokio::test]
async fn refused_and_closed_without_an_answer() {
    let listener = own_listener().await;
    let address = listener.local_addr().unwrap();
    let app = app_on(listener, vec![None]).await;
    let mut rig = Rig::new(Address::Socket(address), |_| {});
    assert_eq!(rig.probed().await.0, ProbeResult::Reset);
    drop(app);
    while TcpStream::connect(address).await.is_ok() {}
    rig.prober.probe_now();
    assert_eq!(
        rig.probed().await,
        (ProbeResult::Refused, "connection refused".into())
    );
}

#[tokio::test]
async fn a_silent_app_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut rig = Rig::new(Address::Socket(listener.local_addr().unwrap()), |health| {
        health.timeout = Duration::from_millis(50);
    });
    assert_eq!(rig.probed().await.0, ProbeResult::Timeout);
    rig.connections_become(0).await;
}

#[tokio::test]
async fn a_body_that_never_ends_costs_the_connection_and_not_the_answer() {
    let app = app(&["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok"]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |health| {
        // The answer itself has to come within this time, too.
        health.timeout = Duration::from_secs(1);
    });
    assert_eq!(rig.probed().await.0, ProbeResult::Pass);
    rig.connections_become(0).await;
}

#[tokio::test]
async fn the_connection_is_reused_and_its_end_is_reported_with_a_probe() {
    let app = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |_| {});
    for _ in 0..3 {
        assert_eq!(rig.probed().await.0, ProbeResult::Pass);
        rig.prober.probe_now();
    }
    rig.probed().await;
    assert_eq!(app.seen.connections.load(Ordering::SeqCst), 1);
    assert_eq!(app.seen.requests.load(Ordering::SeqCst), 4);
    assert_eq!(rig.endpoint.connections.open(), 1);
    drop(app);
    assert_eq!(rig.next().await.0, BackendEvent::PeerClosed);
    // The probe comes without waiting for the next one by schedule, which is an hour away.
    assert_eq!(rig.probed().await.0, ProbeResult::Refused);
    rig.connections_become(0).await;
}

#[tokio::test]
async fn answer_is_read_to_its_end_and_the_connection_kept_where_allowed() {
    for (answer, kept) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            true,
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            true,
        ),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            true,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            false,
        ),
        // This byte belongs to no request.
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!", false),
    ] {
        let app = app(&[answer]).await;
        let mut rig = Rig::new(Address::Socket(app.address), |_| {});
        for _ in 0..3 {
            let (probe, detail) = rig.probed().await;
            assert_eq!(probe, ProbeResult::Pass, "{answer:?}: {detail}");
            rig.connections_become(u32::from(kept)).await;
            rig.prober.probe_now();
        }
        rig.probed().await;
        let connections = app.seen.connections.load(Ordering::SeqCst);
        assert_eq!(connections, if kept { 1 } else { 4 }, "{answer:?}");
    }
}

#[tokio::test]
async fn an_answer_in_pieces_is_one_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        read_head(&mut stream).await.unwrap();
        for byte in status("503 Service Unavailable", "draining").bytes() {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream
    });
    let mut rig = Rig::new(Address::Socket(address), |_| {});
    let expected = "503 Service Unavailable: draining".into();
    assert_eq!(rig.probed().await, (ProbeResult::Unavailable, expected));
    rig.connections_become(1).await;
    drop(app.await.unwrap());
    assert_eq!(rig.next().await.0, BackendEvent::PeerClosed);
}

#[tokio::test]
async fn a_head_without_end_is_no_answer() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(80 << 10));
    let (probe, detail) = one(&long).await;
    assert_eq!(probe, ProbeResult::Reset);
    assert!(detail.starts_with("the answer was not HTTP/1"), "{detail}");
}

#[tokio::test]
async fn no_connection_is_kept_while_draining() {
    let app = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |_| {});
    rig.probed().await;
    assert_eq!(rig.endpoint.connections.open(), 1);
    let slow = ProbeCadence {
        interval: NEVER,
        keep: false,
        in_turn: false,
    };
    rig.cadence.send(slow).unwrap();
    rig.connections_become(0).await;
    rig.prober.probe_now();
    // An end that the prober caused itself is not reported.
    assert_eq!(rig.probed().await.0, ProbeResult::Pass);
    rig.connections_become(0).await;
    assert!(
        app.seen
            .last
            .lock()
            .to_lowercase()
            .contains("connection: close")
    );
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_probe_in_flight() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new(Address::Socket(listener.local_addr().unwrap()), |health| {
        health.timeout = NEVER;
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    read_head(&mut stream).await.unwrap();
    assert_eq!(rig.endpoint.connections.open(), 1);
    rig.cadence.send_modify(|cadence| cadence.keep = false);
    rig.connections_become(0).await;
}

#[tokio::test]
async fn dropping_the_prober_closes_its_connection() {
    let app = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |_| {});
    rig.probed().await;
    let Rig {
        endpoint, prober, ..
    } = rig;
    drop(prober);
    timeout(SOON, async {
        while endpoint.connections.open() != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_shorter_interval_counts_at_once() {
    let app = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |_| {});
    rig.probed().await;
    rig.cadence
        .send_modify(|cadence| cadence.interval = Duration::from_millis(30));
    rig.probed().await;
    rig.probed().await;
}

#[tokio::test]
async fn many_wishes_make_few_probes() {
    let app = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |_| {});
    rig.probed().await;
    let began = Instant::now();
    let before = app.seen.requests.load(Ordering::SeqCst);
    let probes = || app.seen.requests.load(Ordering::SeqCst) - before;
    // A machine that stands still has no time for the first.
    while began.elapsed() < Duration::from_millis(200) || (probes() == 0 && began.elapsed() < SOON)
    {
        rig.prober.probe_now();
        tokio::task::yield_now().await;
    }
    let probes = probes();
    let most = began.elapsed().as_millis() as usize / 20 + 1;
    assert!(
        (1..=most).contains(&probes),
        "{probes} probes, at most {most}"
    );
}

#[tokio::test]
async fn an_app_that_closes_every_connection_is_not_probed_in_a_circle() {
    // The app answers, and then closes the connection without having announced it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::SeqCst);
            read_head(&mut stream).await;
            let _ = stream.write_all(OK.as_bytes()).await;
        }
    });
    let mut rig = Rig::new(Address::Socket(address), |_| {});
    let mut closed = 0;
    // Time has to pass to show that nothing more happens.
    while let Ok(Some((event, _))) = timeout(Duration::from_millis(300), rig.reports.recv()).await {
        closed += usize::from(event == BackendEvent::PeerClosed);
    }
    assert!(closed <= 3, "{closed}");
    assert!(count.load(Ordering::SeqCst) <= 4 + closed);
    server.abort();
}

#[tokio::test]
async fn without_a_health_url_accepting_is_enough_until_the_process_is_gone() {
    let app = app(&[&status("404 Not Found", "")]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |health| {
        health.explicit = false
    });
    let (probe, detail) = rig.probed().await;
    assert_eq!(probe, ProbeResult::Pass);
    assert!(detail.contains("404 Not Found"), "{detail}");
    rig.prober.probe_now();
    let (probe, detail) = rig.probed().await;
    assert_eq!(probe, ProbeResult::Pass);
    assert!(detail.starts_with("connected in "), "{detail}");
    assert_eq!(app.seen.requests.load(Ordering::SeqCst), 1);
    let address = app.address;
    drop(app);
    rig.prober.probe_now();
    assert_eq!(rig.probed().await.0, ProbeResult::Refused);
    // The health URL is tried again with the next process.
    let listener = TcpListener::bind(address).await.unwrap();
    let app = app_on(listener, vec![Some(OK.into())]).await;
    rig.prober.probe_now();
    assert!(rig.probed().await.1.starts_with("200 in "));
    drop(app);
}

#[tokio::test]
async fn tcp_check_leaves_no_connection_open() {
    let mut app = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |health| {
        health.check = HealthCheck::Tcp;
    });
    for _ in 0..3 {
        assert_eq!(rig.probed().await.0, ProbeResult::Pass);
        rig.connections_become(0).await;
        rig.prober.probe_now();
    }
    rig.probed().await;
    app.task.shutdown().await;
    rig.prober.probe_now();
    assert_eq!(rig.probed().await.0, ProbeResult::Refused);
}

#[tokio::test]
async fn new_listener_is_reported() {
    let first = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket(first.address), |_| {});
    let listener = |event| match event {
        BackendEvent::Probed { listener, .. } => listener,
        other => panic!("{other:?}"),
    };
    let before = listener(rig.next().await.0);
    assert!(before.is_some());
    let address = first.address;
    // The app is stopped and started again before a probe could see it.
    let mut first = first;
    first.task.shutdown().await;
    let again = app_on(
        TcpListener::bind(address).await.unwrap(),
        vec![Some(OK.into())],
    )
    .await;
    assert_eq!(rig.next().await.0, BackendEvent::PeerClosed);
    let after = listener(rig.next().await.0);
    assert!(after.is_some() && after != before, "{before:?} {after:?}");
    drop(again);
}

#[tokio::test]
async fn a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("app.sock");
    let mut rig = Rig::new(Address::Unix(path.clone()), |health| {
        health.check = HealthCheck::Tcp
    });
    assert_eq!(
        rig.probed().await,
        (ProbeResult::Refused, "the socket does not exist".into())
    );
    let listener = UnixListener::bind(&path).unwrap();
    rig.prober.probe_now();
    assert_eq!(rig.probed().await.0, ProbeResult::Pass);
    drop(listener);
    rig.prober.probe_now();
    assert_eq!(
        rig.probed().await,
        (ProbeResult::Refused, "connection refused".into())
    );
}

#[tokio::test]
async fn a_name_is_resolved_and_tried_at_each_of_its_addresses() {
    // `localhost` may resolve to ::1 first, where nothing listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = app_on(listener, vec![Some(OK.into())]).await;
    let mut rig = Rig::new(
        Address::Name("localhost".into(), app.address.port()),
        |_| {},
    );
    assert_eq!(rig.probed().await.0, ProbeResult::Pass);
    assert!(rig.endpoint.resolved().is_some());
}

#[tokio::test]
async fn another_port_is_asked_where_configured() {
    let app = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket((app.address.ip(), 1).into()), |health| {
        health.port = Some(app.address.port());
    });
    assert_eq!(rig.probed().await.0, ProbeResult::Pass);
}
