//! Against real servers on loopback.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};

use super::*;
use crate::config::{Address, Check};
use crate::core::backend::Probe;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Long enough that nothing in a test happens because of it.
const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(5);

struct Channel(UnboundedSender<(Event, String)>);

impl Report for Channel {
    fn report(&self, _: Key, event: Event, detail: String) {
        let _ = self.0.send((event, detail));
    }
}

/// A prober with a channel where the registry would be.
struct Rig {
    endpoint: Arc<Endpoint>,
    cadence: watch::Sender<Cadence>,
    reports: UnboundedReceiver<(Event, String)>,
    prober: Prober,
}

impl Rig {
    fn new(address: Address, change: impl FnOnce(&mut config::Health)) -> Self {
        let mut health = config::Health {
            check: Check::Http {
                path: "/health".into(),
                host: None,
                method: "GET".into(),
                headers: vec![("X-Probe".into(), "1".into())],
                expect: vec![(200, 299)],
            },
            explicit: true,
            port: None,
            interval: NEVER,
            timeout: SOON,
            fast_interval: NEVER,
            rise: 2,
            fall: 3,
            fall_timeout: 5,
            absent_after: NEVER,
        };
        change(&mut health);
        let (signals, _) = unbounded_channel();
        let endpoint = Arc::new(Endpoint::new(
            Key(1),
            "app".into(),
            "app-1".into(),
            address,
            1,
            signals,
        ));
        let (cadence, receiver) = watch::channel(Cadence {
            interval: health.interval,
            keep: true,
        });
        let (reporter, reports) = unbounded_channel();
        let prober = spawn(
            Target {
                endpoint: endpoint.clone(),
                health: Arc::new(health),
            },
            receiver,
            Arc::new(Channel(reporter)),
        );
        Self {
            endpoint,
            cadence,
            reports,
            prober,
        }
    }

    async fn next(&mut self) -> (Event, String) {
        timeout(SOON, self.reports.recv()).await.unwrap().unwrap()
    }

    async fn probed(&mut self) -> (Probe, String) {
        match self.next().await {
            (Event::Probed { probe, .. }, detail) => (probe, detail),
            (other, _) => panic!("{other:?}"),
        }
    }

    async fn connections_become(&self, wanted: u32) {
        timeout(SOON, async {
            while self.endpoint.connections.open() != wanted {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }
}

/// A server that does one thing to each request it reads, and counts requests and connections.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    last: parking_lot::Mutex<String>,
}

struct App {
    address: SocketAddr,
    seen: Arc<Seen>,
    /// Ends all of it, its connections too.
    task: tokio::task::JoinSet<()>,
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// `answers`: one after another, the last one for ever; `None`: close without an answer.
async fn app_on(listener: TcpListener, answers: Vec<Option<String>>) -> App {
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let mut task = tokio::task::JoinSet::new();
    task.spawn({
        let seen = seen.clone();
        async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                seen.connections.fetch_add(1, Ordering::SeqCst);
                let (seen, answers) = (seen.clone(), answers.clone());
                connections.spawn(async move {
                    while let Some(head) = read_head(&mut stream).await {
                        *seen.last.lock() = head;
                        let turn = seen.requests.fetch_add(1, Ordering::SeqCst);
                        match &answers[turn.min(answers.len() - 1)] {
                            Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                            None => return,
                        }
                    }
                });
            }
        }
    });
    App {
        address,
        seen,
        task,
    }
}

async fn app(answers: &[&str]) -> App {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let answers = answers
        .iter()
        .map(|answer| Some((*answer).into()))
        .collect();
    app_on(listener, answers).await
}

fn status(line: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {line}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn one(answer: &str) -> (Probe, String) {
    let app = app(&[answer]).await;
    Rig::new(Address::Socket(app.address), |_| {})
        .probed()
        .await
}

#[tokio::test]
async fn statuses_map_to_results() {
    let (probe, detail) = one(OK).await;
    assert_eq!(probe, Probe::Pass);
    assert!(
        detail.starts_with("200 in ") && detail.ends_with(" ms"),
        "{detail}"
    );
    let draining = status("503 Service Unavailable", "draining\nmore");
    assert_eq!(
        one(&draining).await,
        (
            Probe::Unavailable,
            "503 Service Unavailable: draining".into()
        )
    );
    let broken = status("500 Internal Server Error", "");
    assert_eq!(
        one(&broken).await,
        (Probe::Status(500), "500 Internal Server Error".into())
    );
    assert_eq!(one(&status("302 Found", "")).await.0, Probe::Status(302));
    assert_eq!(
        one(&status("404 Not Found", "")).await.0,
        Probe::Status(404)
    );
    assert_eq!(one("ssh-2.0 hello\r\n\r\n").await.0, Probe::Reset);
}

#[tokio::test]
async fn expect_overrides_even_503() {
    let app = app(&[&status("503 Service Unavailable", "")]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |health| {
        let Check::Http { expect, .. } = &mut health.check else {
            unreachable!()
        };
        *expect = vec![(500, 503)];
    });
    assert_eq!(rig.probed().await.0, Probe::Pass);
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
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app_on(listener, vec![None]).await;
    let mut rig = Rig::new(Address::Socket(address), |_| {});
    assert_eq!(rig.probed().await.0, Probe::Reset);
    drop(app);
    while TcpStream::connect(address).await.is_ok() {}
    rig.prober.probe_now();
    assert_eq!(
        rig.probed().await,
        (Probe::Refused, "connection refused".into())
    );
}

#[tokio::test]
async fn a_silent_app_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut rig = Rig::new(Address::Socket(listener.local_addr().unwrap()), |health| {
        health.timeout = Duration::from_millis(50);
    });
    assert_eq!(rig.probed().await.0, Probe::Timeout);
    rig.connections_become(0).await;
}

#[tokio::test]
async fn a_body_that_never_ends_costs_the_connection_and_not_the_answer() {
    let app = app(&["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok"]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |health| {
        health.timeout = Duration::from_millis(50);
    });
    assert_eq!(rig.probed().await.0, Probe::Pass);
    rig.connections_become(0).await;
}

#[tokio::test]
async fn the_connection_is_reused_and_its_end_is_reported_with_a_probe() {
    let app = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |_| {});
    for _ in 0..3 {
        assert_eq!(rig.probed().await.0, Probe::Pass);
        rig.prober.probe_now();
    }
    rig.probed().await;
    assert_eq!(app.seen.connections.load(Ordering::SeqCst), 1);
    assert_eq!(app.seen.requests.load(Ordering::SeqCst), 4);
    assert_eq!(rig.endpoint.connections.open(), 1);
    let died = Instant::now();
    drop(app);
    assert_eq!(rig.next().await.0, Event::PeerClosed);
    assert_eq!(rig.probed().await.0, Probe::Refused);
    // Without waiting for the next turn, which is an hour away.
    assert!(died.elapsed() < Duration::from_secs(1));
    rig.connections_become(0).await;
}

#[tokio::test]
async fn no_connection_is_kept_while_draining() {
    let app = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |_| {});
    rig.probed().await;
    assert_eq!(rig.endpoint.connections.open(), 1);
    let slow = Cadence {
        interval: NEVER,
        keep: false,
    };
    rig.cadence.send(slow).unwrap();
    rig.connections_become(0).await;
    rig.prober.probe_now();
    // The end that we made is no news.
    assert_eq!(rig.probed().await.0, Probe::Pass);
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
    while began.elapsed() < Duration::from_millis(200) {
        rig.prober.probe_now();
        tokio::task::yield_now().await;
    }
    let probes = app.seen.requests.load(Ordering::SeqCst) - before;
    let most = began.elapsed().as_millis() as usize / 20 + 1;
    assert!(
        (1..=most).contains(&probes),
        "{probes} probes, at most {most}"
    );
}

#[tokio::test]
async fn an_app_that_closes_every_connection_is_not_probed_in_a_circle() {
    // It answers, then closes without having said so.
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
        closed += usize::from(event == Event::PeerClosed);
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
    assert_eq!(probe, Probe::Pass);
    assert!(detail.contains("404 Not Found"), "{detail}");
    rig.prober.probe_now();
    let (probe, detail) = rig.probed().await;
    assert_eq!(probe, Probe::Pass);
    assert!(detail.starts_with("connected in "), "{detail}");
    assert_eq!(app.seen.requests.load(Ordering::SeqCst), 1);
    let address = app.address;
    drop(app);
    assert_eq!(rig.next().await.0, Event::PeerClosed);
    assert_eq!(rig.probed().await.0, Probe::Refused);
    // The next process is asked again.
    let listener = TcpListener::bind(address).await.unwrap();
    let app = app_on(listener, vec![Some(OK.into())]).await;
    rig.prober.probe_now();
    assert!(rig.probed().await.1.starts_with("200 in "));
    drop(app);
}

#[tokio::test]
async fn the_tcp_check_keeps_a_sentinel_too() {
    let mut app = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket(app.address), |health| {
        health.check = Check::Tcp;
    });
    for _ in 0..3 {
        assert_eq!(rig.probed().await.0, Probe::Pass);
        rig.connections_become(1).await;
        rig.prober.probe_now();
    }
    rig.probed().await;
    app.task.shutdown().await;
    assert_eq!(rig.next().await.0, Event::PeerClosed);
    assert_eq!(rig.probed().await.0, Probe::Refused);
}

#[tokio::test]
async fn a_new_listener_is_told() {
    let first = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket(first.address), |_| {});
    let listener = |event| match event {
        Event::Probed { listener, .. } => listener,
        other => panic!("{other:?}"),
    };
    let before = listener(rig.next().await.0);
    assert!(before.is_some());
    let address = first.address;
    // Stopped and started again before a probe could see it.
    let mut first = first;
    first.task.shutdown().await;
    let again = app_on(
        TcpListener::bind(address).await.unwrap(),
        vec![Some(OK.into())],
    )
    .await;
    assert_eq!(rig.next().await.0, Event::PeerClosed);
    let after = listener(rig.next().await.0);
    assert!(after.is_some() && after != before, "{before:?} {after:?}");
    drop(again);
}

#[tokio::test]
async fn a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("app.sock");
    let mut rig = Rig::new(Address::Unix(path.clone()), |health| {
        health.check = Check::Tcp
    });
    assert_eq!(
        rig.probed().await,
        (Probe::Refused, "the socket does not exist".into())
    );
    let listener = UnixListener::bind(&path).unwrap();
    rig.prober.probe_now();
    assert_eq!(rig.probed().await.0, Probe::Pass);
    drop(listener);
    assert_eq!(rig.next().await.0, Event::PeerClosed);
    assert_eq!(
        rig.probed().await,
        (Probe::Refused, "connection refused".into())
    );
}

#[tokio::test]
async fn a_name_is_resolved_and_tried_at_each_of_its_addresses() {
    // `localhost` may lead to ::1 first, where nobody listens.
    let app = app(&[OK]).await;
    let mut rig = Rig::new(
        Address::Name("localhost".into(), app.address.port()),
        |_| {},
    );
    assert_eq!(rig.probed().await.0, Probe::Pass);
    assert!(rig.endpoint.resolved().is_some());
}

#[tokio::test]
async fn another_port_is_asked_where_configured() {
    let app = app(&[OK]).await;
    let mut rig = Rig::new(Address::Socket(([127, 0, 0, 1], 1).into()), |health| {
        health.port = Some(app.address.port());
    });
    assert_eq!(rig.probed().await.0, Probe::Pass);
}
