//! The limits of the HTTP/1 plane hold on TLS and HTTP/2, too: slow readers, windows that never open, thousands of idle
//! streams, floods. Good traffic of both protocols over TLS must not notice.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use lameduck::rt::syscall::monotonic_ns;
use lameduck::tools::demo::oracle::{DemoRequestKind, Loss, Sent};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsConnector;

use super::bystander::Bystander;
use super::clients::{ATTACKS, Attack, Attackers};
use super::figures::{Figures, Part, Spells};
use super::{PEERS, Scene, comes_back, load, name, set_up};
use crate::harness::apps::App;
use crate::harness::front;
use crate::harness::{proving, turn_alone};
use lameduck_rig::results::{Row, record};

/// For one request.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Connections of the good traffic's HTTP/2.
const CONNECTIONS: usize = 4;

/// Files for a listener, and what makes a client trust them.
pub fn certificates(dir: &Path) -> ClientConfig {
    crate::encrypted::certificates(dir);
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    std::fs::write(dir.join("both.pem"), read("cert.pem") + &read("key.pem")).unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(read("ca.pem").as_bytes()).unwrap())
        .unwrap();
    ClientConfig::builder_with_provider(lameduck::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Good traffic over HTTP/2, open-loop: requests are due at a constant rate, and wait where they have to.
struct Multiplexed {
    stop: watch::Sender<bool>,
    task: JoinHandle<Vec<Sent>>,
}

impl Multiplexed {
    fn start(address: SocketAddr, rate: u32, tls: &ClientConfig) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let lines: Vec<Arc<Line>> = (0..CONNECTIONS)
            .map(|_| {
                Arc::new(Line {
                    address,
                    tls: Arc::new(tls.clone()),
                    open: Mutex::default(),
                })
            })
            .collect();
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut due = tokio::time::interval(Duration::from_secs(1) / rate);
            let begun = (monotonic_ns(), tokio::time::Instant::now());
            let mut running = JoinSet::new();
            for id in 0.. {
                let at = tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stopped| *stopped) => break,
                    at = due.tick() => begun.0 + (at - begun.1).as_nanos() as u64,
                };
                let line = lines[id as usize % lines.len()].clone();
                running.spawn(async move {
                    let outcome = tokio::time::timeout(TIMEOUT, line.get()).await;
                    Sent {
                        id,
                        kind: DemoRequestKind::Get,
                        at,
                        latency: monotonic_ns().saturating_sub(at),
                        outcome: outcome.unwrap_or(Err(Loss::TimedOut)),
                        closing: false,
                        retry_after: None,
                    }
                });
            }
            running.join_all().await
        });
        Self { stop, task }
    }

    async fn stop(self) -> Vec<Sent> {
        self.stop.send_replace(true);
        self.task.await.unwrap()
    }
}

/// One of its connections, replaced when it is told to go.
struct Line {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    open: Mutex<Option<SendRequest<Bytes>>>,
}

impl Line {
    async fn get(&self) -> Result<u16, Loss> {
        let mut result = Err(Loss::Refused);
        // A request that met the GOAWAY (nginx sends one after 1,000 requests) is sent again.
        for _ in 0..3 {
            let send = self.connection().await?;
            result = exchange(send).await;
            if result.is_ok() {
                return result;
            }
            *self.open.lock().await = None;
        }
        result
    }

    async fn connection(&self) -> Result<SendRequest<Bytes>, Loss> {
        let mut open = self.open.lock().await;
        if let Some(send) = open.take()
            && let Ok(ready) = send.ready().await
        {
            *open = Some(ready.clone());
            return Ok(ready);
        }
        let stream = TcpStream::connect(self.address).await;
        let stream = stream.map_err(|_| Loss::Refused)?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from("localhost").map_err(|_| Loss::Refused)?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream);
        let stream = stream.await.map_err(|_| Loss::Refused)?;
        let shaken = h2::client::handshake(stream).await;
        let (send, connection) = shaken.map_err(|_| Loss::Reset)?;
        tokio::spawn(connection);
        *open = Some(send.clone());
        Ok(send)
    }
}

async fn exchange(send: SendRequest<Bytes>) -> Result<u16, Loss> {
    let lost = |_| Loss::Reset;
    let mut send = send.ready().await.map_err(lost)?;
    let request = Request::get("https://localhost/").body(()).unwrap();
    let (response, _) = send.send_request(request, true).map_err(lost)?;
    let response = response.await.map_err(lost)?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(lost)?;
        let _ = body.flow_control().release_capacity(piece.len());
    }
    match status {
        200 => Ok(status),
        _ => Err(Loss::ProxyError(status)),
    }
}

/// How much, and how long.
struct Scale {
    /// Requests a second, of each protocol.
    rate: u32,
    quiet: Duration,
    attack: Duration,
    /// Connections of an attack.
    connections: fn(Attack) -> usize,
}

fn many(attack: Attack) -> usize {
    match attack {
        Attack::SlowReaders | Attack::Idle => 1000,
        Attack::Starved => 20,
        Attack::Unread => 10,
        Attack::Floods => 9,
    }
}

fn few(attack: Attack) -> usize {
    match attack {
        Attack::SlowReaders | Attack::Idle => 50,
        Attack::Starved => 4,
        Attack::Unread => 2,
        Attack::Floods => 3,
    }
}

/// Good traffic of each protocol, before, under and after these attacks at once.
struct Outcome {
    http1: Figures,
    http2: Figures,
}

async fn attacked(attacks: &[Attack], peer: Option<front::Kind>, scale: &Scale) -> Option<Outcome> {
    let dir = tempfile::tempdir().unwrap();
    let tls = certificates(dir.path());
    let Scene {
        mut front,
        bench,
        _attacked,
    } = set_up(peer, Some(dir.path())).await?;
    let bystander = Bystander::start(scale.rate).await?;
    let address = front.address();
    let http1 = load(address, scale.rate, Some(Arc::new(tls.clone())));
    let http2 = Multiplexed::start(address, scale.rate, &tls);
    // The first seconds are everybody's warm-up.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut spells = Spells::quiet(&mut front, scale.quiet).await;
    let base = spells.descriptors();
    let attackers: Vec<(Attack, Attackers)> = attacks
        .iter()
        .map(|&attack| {
            let count = (scale.connections)(attack);
            (attack, Attackers::start(attack, count, address, &tls))
        })
        .collect();
    let there = |(attack, attackers): &(Attack, Attackers)| {
        attackers.opened() >= (scale.connections)(*attack) as u64
    };
    let all = async {
        while !attackers.iter().all(there) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // A peer may let in as many as it likes.
    let came = tokio::time::timeout(Duration::from_secs(30), all).await;
    assert!(peer.is_some() || came.is_ok(), "attackers are kept waiting");
    spells.stand();
    tokio::time::sleep(scale.attack).await;
    spells.end();
    let mut notes = Vec::new();
    for (attack, attackers) in attackers {
        notes.push(format!(
            "{attack:?}: {} connections came to what they wanted, the proxy ended {}",
            attackers.opened(),
            attackers.closed()
        ));
        attackers.stop().await;
    }
    spells.quiet_again(scale.quiet).await;
    let (http1, http2) = (http1.stop().await, http2.stop().await);
    let elsewhere = bystander.stop().await;
    let outcome = Outcome {
        http1: spells.figures(&http1, &elsewhere),
        http2: spells.figures(&http2, &elsewhere),
    };
    let lost = http2.iter().filter(|sent| sent.outcome.is_err()).count();
    notes.push(format!("HTTP/1 {}", outcome.http1));
    notes.push(format!(
        "HTTP/2 {}; lost {lost} of {}",
        outcome.http2,
        http2.len()
    ));
    let account = bench.account(http1, &front).await;
    if peer.is_none() {
        comes_back(&spells, base + 20).await;
        assert!(account.is_clean(), "{attacks:?}: {account}");
        assert_eq!(lost, 0, "{attacks:?}");
    }
    record(Row {
        test: "attacks over TLS and HTTP/2",
        proxy: name(peer),
        app: App::BuiltIn.name().into(),
        account,
        notes,
    });
    Some(outcome)
}

/// All of them at once, a few, and everybody else is served.
#[lameduck_rig::test]
async fn attacks_over_tls_and_http2_hurt_nobody_else() {
    let _turn = turn_alone().await;
    let scale = Scale {
        rate: 50,
        quiet: Duration::from_secs(3),
        attack: Duration::from_secs(3),
        connections: few,
    };
    let outcome = attacked(&ATTACKS, None, &scale).await.unwrap();
    for figures in [outcome.http1, outcome.http2] {
        // Handshakes of a build without optimisation, on a machine that is busy with other tests: what this finds is a
        // proxy that comes to a stop.
        assert!(figures.is_kept(2_000.0), "{figures}");
    }
}

/// One after the other, many, against each proxy.
#[lameduck_rig::test]
async fn attacks_over_tls_and_http2_in_figures() {
    if !proving() {
        return;
    }
    let _turn = turn_alone().await;
    let scale = Scale {
        rate: 100,
        quiet: Duration::from_secs(6),
        attack: Duration::from_secs(12),
        connections: many,
    };
    let mut broken = Vec::new();
    for attack in ATTACKS {
        let (mut http1, mut http2) = (Vec::new(), Vec::new());
        for peer in PEERS {
            if let Some(outcome) = attacked(&[attack], peer, &scale).await {
                http1.push(outcome.http1);
                http2.push(outcome.http2);
            }
        }
        let ours = attacked(&[attack], None, &scale).await.unwrap();
        for (protocol, ours, peers) in
            [("HTTP/1", ours.http1, http1), ("HTTP/2", ours.http2, http2)]
        {
            // As they come, each costs a handshake, as any client may; those figures are for the record.
            if !ours.is_kept_or_no_worse(Part::Standing, &peers) {
                broken.push(format!("{attack:?}, {protocol}: {ours}; peers: {peers:?}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
