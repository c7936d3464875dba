//! A prober that reports to a channel instead of the registry, and scripted apps to probe.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::config::{self, Address, HealthCheck};
use crate::core::backend::{BackendEvent, ProbeResult};
use crate::probe::{ProbeCadence, ProbeReport, ProbeTarget, RunningProber, spawn};
use crate::registry::own_listeners::OwnListeners;
use crate::registry::{BackendKey, Endpoint};

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// Long enough that nothing happens in a test because of it.
pub(super) const NEVER: Duration = Duration::from_secs(3600);
pub(super) const SOON: Duration = Duration::from_secs(20);

struct Channel(UnboundedSender<(BackendEvent, String)>);

impl ProbeReport for Channel {
    fn report(&self, _: BackendKey, event: BackendEvent, detail: String) {
        let _ = self.0.send((event, detail));
    }
}

/// A prober, with access to what it reads and reports.
pub(super) struct Rig {
    pub endpoint: Arc<Endpoint>,
    pub cadence: watch::Sender<ProbeCadence>,
    pub reports: UnboundedReceiver<(BackendEvent, String)>,
    pub prober: RunningProber,
}

impl Rig {
    pub(super) fn new(address: Address, change: impl FnOnce(&mut config::HealthConfig)) -> Self {
        let mut health = config::HealthConfig {
            check: HealthCheck::Http {
                path: "/health".into(),
                host: None,
                method: "GET".into(),
                headers: vec![("X-Probe".into(), "1".into())],
                expect: vec![(200, 299)],
            },
            explicit: true,
            port: None,
            tls: true,
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
            BackendKey(1),
            "app".into(),
            "app-1".into(),
            address,
            1,
            signals,
            Arc::default(),
        ));
        let (cadence, receiver) = watch::channel(ProbeCadence {
            interval: health.interval,
            keep: true,
            in_turn: false,
        });
        let (reporter, reports) = unbounded_channel();
        let prober = spawn(
            ProbeTarget {
                endpoint: endpoint.clone(),
                health: Arc::new(health),
                own: OwnListeners::default(),
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

    pub(super) async fn next(&mut self) -> (BackendEvent, String) {
        timeout(SOON, self.reports.recv()).await.unwrap().unwrap()
    }

    pub(super) async fn probed(&mut self) -> (ProbeResult, String) {
        match self.next().await {
            (BackendEvent::Probed { probe, .. }, detail) => (probe, detail),
            (other, _) => panic!("{other:?}"),
        }
    }

    pub(super) async fn connections_become(&self, wanted: u32) {
        timeout(SOON, async {
            while self.endpoint.connections.open() != wanted {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }
}

/// What a scripted app has seen: its requests and connections.
#[derive(Default)]
pub(super) struct Seen {
    pub connections: AtomicUsize,
    pub requests: AtomicUsize,
    pub last: parking_lot::Mutex<String>,
}

pub(super) struct App {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    /// Task of the app; aborting it also closes the connections.
    pub task: tokio::task::JoinSet<()>,
}

pub(super) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// Starts an app that gives these answers one after another, and the last one for ever; `None` closes without an
/// answer.
pub(super) async fn app_on(listener: TcpListener, answers: Vec<Option<String>>) -> App {
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

/// On an address of its own: once its app has gone, no other test gets its port, and a connect is refused.
pub(super) async fn own_listener() -> TcpListener {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) as u8;
    TcpListener::bind((std::net::Ipv4Addr::new(127, 77, 0, number), 0))
        .await
        .unwrap()
}

pub(super) async fn app(answers: &[&str]) -> App {
    let listener = own_listener().await;
    let answers = answers
        .iter()
        .map(|answer| Some((*answer).into()))
        .collect();
    app_on(listener, answers).await
}

pub(super) fn status(line: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {line}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
