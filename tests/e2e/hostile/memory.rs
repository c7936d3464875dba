//! Attackers that want the proxy to keep much for the little that they send: decoded headers, bodies that never end,
//! streams that they have reset. Measured is what the proxy keeps of it while good traffic goes on, what is left when they
//! have gone, and what reached an app.
//!
//! `make prove` has nginx and HAProxy attacked, too, and writes `target/prove/memory.md`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lameduck_rig::frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PREFACE, RST_STREAM, frame,
    settings, window_update,
};
use lameduck_rig::hpack::{literal, string};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::encrypted::certificates;
use super::figures::{Part, Spells};
use super::{PEERS, Scene, comes_back, load, name, set_up};
use crate::harness::front::Kind;
use crate::harness::{proving, turn_alone};
use lameduck_rig::process::{children, cpu_ms_with_children as cpu_ms, status_kib};

/// Before an attack and after it, and while it stands.
fn spells_of() -> (Duration, Duration) {
    let (quiet, standing) = if proving() { (3, 6) } else { (2, 3) };
    (Duration::from_secs(quiet), Duration::from_secs(standing))
}

/// What is sent on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// 128 streams of HTTP/2 whose heads refer so many times to one field of 3,900 bytes; a body is said to follow.
    References(u32),
    /// The same, without a body: complete requests whose answers nobody takes.
    Untaken(u32),
    /// A head of HTTP/1 with 60 KB in it that never ends.
    Heads,
    /// One with 90 fields of 100 bytes, whose body never comes.
    Fields,
    /// A body of 60 KB, of which the last byte never comes.
    Bodies,
    /// The same, 128 times on one connection of HTTP/2, with 16 KB each.
    Streams,
    /// 1,000 requests of HTTP/2 that are reset at once, by the client…
    Resets,
    /// …or by the proxy, because the stream's window overflows (CVE-2025-8671).
    Overflows,
}

const ATTACKS: [(Attack, usize); 10] = [
    (Attack::References(15), 60),
    (Attack::References(3), 60),
    (Attack::References(0), 60),
    (Attack::Untaken(3), 60),
    (Attack::Heads, 1_000),
    (Attack::Fields, 1_000),
    (Attack::Bodies, 1_000),
    (Attack::Streams, 60),
    (Attack::Resets, 10),
    (Attack::Overflows, 10),
];

const STREAMS: u32 = 128;
const RESETS: u32 = 1_000;
/// Requests of one connection are numbered from its first one's; none has more.
pub const IDS: u64 = 1_000;

impl Attack {
    fn is_http2(self) -> bool {
        !matches!(self, Self::Heads | Self::Fields | Self::Bodies)
    }

    /// Whether a body is yet to come.
    fn is_incomplete(self) -> bool {
        matches!(
            self,
            Self::References(_) | Self::Fields | Self::Bodies | Self::Streams
        )
    }

    fn title(self) -> String {
        match self {
            Self::References(count) => {
                format!("128 heads with {count} × 3.9 kB by reference, bodies to come (h2, TLS)")
            }
            Self::Untaken(count) => {
                format!("128 heads with {count} × 3.9 kB by reference, answers not taken (h2, TLS)")
            }
            Self::Heads => "heads of 60 kB that don't end (HTTP/1)".into(),
            Self::Fields => "90 fields of 100 B, body to come (HTTP/1)".into(),
            Self::Bodies => "bodies of 60 kB without their last byte (HTTP/1)".into(),
            Self::Streams => "128 bodies of 16 kB without their last byte (h2, TLS)".into(),
            Self::Resets => "1,000 requests, each reset at once (h2, TLS)".into(),
            Self::Overflows => "1,000 requests, each window overflowed (h2, TLS)".into(),
        }
    }

    /// What a connection sends; `id` is the first of its requests'.
    pub fn bytes(self, id: u64) -> Vec<u8> {
        match self {
            Self::Heads => {
                let mut bytes = http1("GET", "/large?kib=1", id, None);
                bytes.truncate(bytes.len() - 2);
                bytes.extend(
                    (0..75).flat_map(|n| format!("X-{n}: {}\r\n", "a".repeat(790)).into_bytes()),
                );
                bytes
            }
            Self::Fields => {
                let mut bytes = http1("POST", "/echo", id, Some(1_000));
                bytes.truncate(bytes.len() - 2);
                bytes.extend(
                    (0..90).flat_map(|n| format!("X-{n}: {}\r\n", "a".repeat(90)).into_bytes()),
                );
                bytes.extend(b"\r\n");
                bytes
            }
            Self::Bodies => {
                let mut bytes = http1("POST", "/echo", id, Some(60_000));
                bytes.resize(bytes.len() + 59_999, b'a');
                bytes
            }
            _ => self.frames(id),
        }
    }

    fn frames(self, id: u64) -> Vec<u8> {
        let (count, references, length) = match self {
            Self::References(count) => (STREAMS, count, Some("1000")),
            Self::Streams => (STREAMS, 0, Some("16000")),
            Self::Untaken(count) => (STREAMS, count, None),
            _ => (RESETS, 0, None),
        };
        // Nobody's answer may begin to flow.
        let window: u32 = if matches!(self, Self::Untaken(_)) {
            0
        } else {
            65_535
        };
        let mut bytes = [PREFACE, &settings(&[(INITIAL_WINDOW_SIZE, window)])].concat();
        for n in 0..count {
            let stream = 2 * n + 1;
            let mut head = match length {
                Some(_) => b"\x83\x87\x04\x05/echo".to_vec(),
                None => b"\x82\x87\x04\x0c/large?kib=1".to_vec(),
            };
            head.extend(b"\x01\x09localhost");
            if let Some(length) = length {
                head.extend(literal(b"content-length", length.as_bytes()));
            }
            let id = (id + u64::from(n)).to_string();
            head.extend(literal(b"x-demo-id", id.as_bytes()));
            for m in 0..references {
                match (n, m) {
                    (0, 0) => {
                        head.extend([&[0x40][..], &string(b"x"), &string(&[b'a'; 3900])].concat());
                    }
                    _ => head.push(0xbe),
                }
            }
            let ended = if length.is_none() { END_STREAM } else { 0 };
            bytes.extend(frame(HEADERS, END_HEADERS | ended, stream, &head));
            match self {
                Self::Streams => {
                    bytes.extend(frame(DATA, 0, stream, &[b'a'; 8_000]));
                    bytes.extend(frame(DATA, 0, stream, &[b'a'; 7_999]));
                }
                Self::Resets => bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())),
                Self::Overflows => {
                    bytes.extend(window_update(stream, 0x7fff_ffff));
                }
                _ => {}
            }
        }
        bytes
    }
}

fn http1(method: &str, path: &str, id: u64, length: Option<u32>) -> Vec<u8> {
    let length = length.map_or_else(String::new, |n| format!("Content-Length: {n}\r\n"));
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Demo-Id: {id}\r\n{length}\r\n").into()
}

/// One connection, for as long as it is let.
async fn attack(
    bytes: Vec<u8>,
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    there: Arc<AtomicU64>,
) -> std::io::Result<()> {
    let stream = TcpStream::connect(address).await?;
    match tls {
        None => keep(stream, bytes, there).await,
        Some(tls) => {
            let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
            let stream = TlsConnector::from(tls).connect(name, stream).await?;
            keep(stream, bytes, there).await
        }
    }
}

async fn keep(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite,
    bytes: Vec<u8>,
    there: Arc<AtomicU64>,
) -> std::io::Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = async {
        let sent = async {
            write.write_all(&bytes).await?;
            write.flush().await
        };
        let sent = sent.await;
        there.fetch_add(1, Ordering::Relaxed);
        sent?;
        std::future::pending::<std::io::Result<()>>().await
    };
    let reading = async {
        let mut seen = [0; 16 << 10];
        while read.read(&mut seen).await? > 0 {}
        Ok(())
    };
    tokio::try_join!(sending, reading).map(|_| ())
}

/// What came of it.
#[derive(Debug, Clone, Default)]
struct Outcome {
    /// Bytes that each connection sent.
    sent: usize,
    /// Beyond what good traffic alone needs, in MiB: at most, and some seconds after the attackers left.
    most: f64,
    left: f64,
    /// CPU time under the attack, in milliseconds.
    cpu: u64,
    /// Good traffic's, in milliseconds: before, and while the attack stands.
    p99: [f64; 2],
    lost: u64,
    /// Requests of the attackers that an app has seen.
    reached: usize,
}

/// Memory of a proxy's processes that only they have, in MiB: code that is used for the first time is not kept for anybody.
fn resident(pid: u32) -> f64 {
    let all = [pid].into_iter().chain(children(pid));
    let kib: u64 = all.filter_map(|pid| status_kib(pid, "RssAnon")).sum();
    kib as f64 / 1024.0
}

async fn attacked(form: Attack, connections: usize, peer: Option<Kind>) -> Option<Outcome> {
    let dir = tempfile::tempdir().unwrap();
    let (tls, of_attack) = match form.is_http2() {
        false => (None, None),
        true => {
            let tls = certificates(dir.path());
            let mut h2 = tls.clone();
            h2.alpn_protocols = vec![b"h2".to_vec()];
            (Some(Arc::new(tls)), Some(Arc::new(h2)))
        }
    };
    let Scene {
        mut front,
        bench,
        _attacked: apps,
    } = set_up(peer, tls.as_ref().map(|_| dir.path())).await?;
    let address = front.address();
    let load = load(address, 100, tls);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (quiet, standing) = spells_of();
    let mut spells = Spells::quiet(&mut front, quiet).await;
    let pid = front.pid().unwrap();
    let (base, descriptors) = (resident(pid), spells.descriptors());
    let cpu = cpu_ms(pid);
    let there = Arc::new(AtomicU64::new(0));
    let mut attackers = JoinSet::new();
    let mut sent = 0;
    let mut outcome = Outcome::default();
    for n in 0..connections {
        let bytes = form.bytes(1 + n as u64 * IDS);
        sent += bytes.len();
        attackers.spawn(attack(bytes, address, of_attack.clone(), there.clone()));
        if n % 50 == 49 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            outcome.most = outcome.most.max(resident(pid) - base);
        }
    }
    spells.stand();
    let end = tokio::time::Instant::now() + standing;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
        outcome.most = outcome.most.max(resident(pid) - base);
    }
    spells.end();
    outcome.cpu = cpu_ms(pid) - cpu;
    attackers.shutdown().await;
    assert!(there.load(Ordering::Relaxed) > 0, "{form:?}: no attack");
    spells.quiet_again(quiet).await;
    outcome.left = resident(pid) - base;
    let good = load.stop().await;
    let figures = spells.figures(&good, &[]);
    outcome.p99 = [figures.before, figures.under[Part::Standing as usize]];
    outcome.sent = sent / connections;
    let lives = apps.instances.iter();
    outcome.reached = lives
        .flat_map(|instance| instance.lives().unwrap())
        .map(|life| life.arrivals.len())
        .sum();
    let account = bench.account(good, &front).await;
    outcome.lost = account.lost;
    if peer.is_none() {
        assert!(account.is_clean(), "{form:?}: {account}");
        comes_back(&spells, descriptors + 20).await;
    }
    Some(outcome)
}

/// A few of them, and everybody else is served; the process keeps no more than its bounds allow, and gives it back.
#[lameduck_rig::test]
async fn decoded_headers_are_bounded_and_given_back() {
    let _turn = turn_alone().await;
    let outcome = attacked(Attack::References(15), 20, None).await.unwrap();
    // Without a bound: 128 × 58.5 KiB on each connection, 146 MiB. With it, half a MiB of heads is kept on each.
    assert!((5.0..60.0).contains(&outcome.most), "{outcome:?}");
    assert!(outcome.left < 20.0, "{outcome:?}");
    assert_eq!(outcome.reached, 0, "{outcome:?}");
}

/// Each attack against each proxy.
#[lameduck_rig::test]
async fn memory_under_attack_in_figures() {
    if !proving() {
        return;
    }
    let _turn = turn_alone().await;
    let mut table = String::from(
        "|attack|connections, each sending|proxy|MiB kept|MiB 5 s after|CPU, ms|good traffic's p99 before, under it, ms|lost|reached an app|\n\
         |-|-|-|-|-|-|-|-|-|\n",
    );
    let mut broken = Vec::new();
    for (form, connections) in ATTACKS {
        let mut peers = Vec::new();
        let mut all = Vec::new();
        for peer in PEERS {
            if let Some(outcome) = attacked(form, connections, peer).await {
                // Who passes on at once what never ends keeps little, and leaves it to the app.
                let is_passed_on = outcome.reached > 0 && form.is_incomplete();
                peers.extend((!is_passed_on).then_some(outcome.most));
                all.push((name(peer), outcome));
            }
        }
        let ours = attacked(form, connections, None).await.unwrap();
        all.push((name(None), ours.clone()));
        for (proxy, o) in all {
            let _ = writeln!(
                table,
                "|{}|{connections}, {} KB|{proxy}|{:.0}|{:.0}|{}|{:.1}, {:.1}|{}|{}|",
                form.title(),
                o.sent / 1000,
                o.most,
                o.left,
                o.cpu,
                o.p99[0],
                o.p99[1],
                o.lost,
                o.reached
            );
        }
        write_table(&table);
        let better = peers.into_iter().min_by(f64::total_cmp);
        let bound = match (form, better) {
            // Both peers refuse such heads.
            (Attack::References(15), _) | (_, None) => 64.0,
            // The peers refuse such heads. Here it is what they accept, 16 KiB, what a request costs, and 64 large heads.
            (Attack::Heads, _) => {
                (connections * 32 * 1024 + 64 * 64 * 1024) as f64 / f64::from(1 << 20)
            }
            // The peers keep no such bodies, or not in memory. Here they are kept so that they can be sent again: as much as
            // was sent, and what a request costs.
            (Attack::Bodies | Attack::Streams, _) => {
                let requests = match form {
                    Attack::Streams => connections * STREAMS as usize,
                    _ => connections,
                };
                (connections * ours.sent + requests * 16_384) as f64 / f64::from(1 << 20)
            }
            // Two runs of the same differ by some MiB, and each thread's heap keeps some.
            (_, Some(better)) => better * 1.1 + 10.0,
        };
        if ours.most > bound {
            broken.push(format!("{form:?}: {ours:?}, more than {bound:.0} MiB"));
        }
        let resets = matches!(form, Attack::Resets | Attack::Overflows);
        if (resets || matches!(form, Attack::References(_))) && ours.reached > 0 {
            broken.push(format!("{form:?}: {ours:?}: reached an app"));
        }
    }
    assert!(broken.is_empty(), "{}\n{table}", broken.join("\n"));
}

/// After each attack: a failure later on must not cost the figures so far.
fn write_table(table: &str) {
    let dir = lameduck_rig::place::prove();
    std::fs::write(dir.join("memory.md"), table).unwrap();
}
