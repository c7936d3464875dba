//! Attacks by slowness, of slowhttptest's four kinds: good traffic must not notice, and nothing may stay behind.
//!
//! `make prove` has slowhttptest itself do it, with 5,000 connections; the short form has clients of its own.

use std::fmt;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use lameduck::demo::admin;
use lameduck::demo::load::{Load, Plan};
use lameduck::demo::oracle::{Kind, Sent};
use lameduck::demo::proxy::{Proxy, Settings};
use lameduck::sys::monotonic_ns;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::harness::apps::App;
use crate::harness::front::Front;
use crate::harness::results::{Row, record};
use crate::harness::watch::{Watch, look};
use crate::harness::{Bench, proving, skip, turn, until};

const TOOL: &str = "slowhttptest";

/// slowhttptest's modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The head never ends.
    Head,
    /// The body never ends.
    Body,
    /// The answer is hardly read.
    Read,
    /// The head asks for a thousand ranges.
    Range,
}

const MODES: [Mode; 4] = [Mode::Head, Mode::Body, Mode::Read, Mode::Range];

impl Mode {
    fn tool_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Head => &["-H", "-i", "2", "-x", "24"],
            Self::Body => &["-B", "-i", "2", "-s", "8192", "-x", "10"],
            Self::Read => &[
                "-X", "-w", "10", "-y", "20", "-n", "1", "-z", "32", "-k", "3",
            ],
            Self::Range => &["-R", "-a", "5", "-b", "3000"],
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Head | Self::Range => "/",
            Self::Body => "/echo",
            // What the kernel may keep of it, times 5,000, must not exceed what it gives to all of TCP.
            Self::Read => "/large?kib=128",
        }
    }
}

/// Good traffic's 99th percentile, in milliseconds, before, under and after an attack.
struct Figures {
    before: f64,
    under: f64,
    after: f64,
    connections: u64,
    memory_mib: u64,
}

impl Figures {
    /// The promise is 1.5 times; `slack` milliseconds more, because the attacker shares the machine with us.
    fn is_kept(&self, slack: f64) -> bool {
        self.under <= 1.5 * self.before.max(self.after) + slack
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p99 {:.1} / {:.1} / {:.1} ms; at most {} descriptors, {} MiB",
            self.before, self.under, self.after, self.connections, self.memory_mib
        )
    }
}

fn p99(sent: &[Sent], from: u64, to: u64) -> f64 {
    let quick = |s: &&Sent| s.kind != Kind::Slow && (from..to).contains(&s.at);
    let mut all: Vec<u64> = sent.iter().filter(quick).map(|s| s.latency).collect();
    assert!(all.len() > 100, "only {} requests", all.len());
    all.sort_unstable();
    all[all.len() * 99 / 100] as f64 / 1e6
}

async fn set_up(test: &str, rate: u32) -> (Bench, Front, Load) {
    let bench = Bench::start(test, App::BuiltIn, 3).await.unwrap();
    let mut front = Front::lameduck(&bench, &Settings::default()).await;
    proxy(&mut front).eligible().await.unwrap();
    let load = Load::start(Plan {
        slow_percent: 2,
        ..Plan::new(front.address(), rate)
    });
    (bench, front, load)
}

fn proxy(front: &mut Front) -> &mut Proxy {
    let Front::Lameduck(proxy) = front else {
        unreachable!()
    };
    proxy
}

/// Descriptors come back to `base` once the attackers have gone; the load's own connections come and go.
async fn comes_back(pid: u32, base: u64) {
    until(
        "descriptors to come back",
        Duration::from_secs(30),
        async || look(pid).unwrap().1 <= base,
    )
    .await;
}

/// How many were turned away, and why.
async fn refused(front: &mut Front) -> String {
    let (_, text) = admin::request(proxy(front).socket(), "GET", "/metrics", None)
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    let series = text
        .lines()
        .filter_map(|line| line.strip_prefix("lameduck_refused_total"));
    let series: Vec<&str> = series.filter(|line| !line.ends_with(" 0")).collect();
    series.join(", ")
}

/// All four at once, a few hundred connections, from other addresses than the good traffic's.
#[tokio::test]
async fn slow_clients_hurt_nobody_else() {
    const EACH: usize = 60;
    let _turn = turn().await;
    let (bench, mut front, load) = set_up("hostile", 100).await;
    let address = front.address();
    let pid = proxy(&mut front).process().pid();
    let started = monotonic_ns();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let base = look(pid).unwrap().1;
    let watch = Watch::start(move || pid);
    let begun = monotonic_ns();
    let mut attackers = JoinSet::new();
    for mode in MODES {
        for _ in 0..EACH {
            attackers.spawn(attack(mode, address));
        }
    }
    until("the attackers", Duration::from_secs(10), async || {
        look(pid).unwrap().1 >= base + 3 * EACH as u64
    })
    .await;
    // What it costs to open them all at once is the machine's business; what they cost from then on is ours.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let open = monotonic_ns();
    tokio::time::sleep(Duration::from_secs(4)).await;
    attackers.shutdown().await;
    let ended = monotonic_ns();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sent = load.stop().await;
    comes_back(pid, base + 10).await;
    let samples = watch.samples();
    let figures = Figures {
        before: p99(&sent, started, begun),
        under: p99(&sent, open, ended),
        after: p99(&sent, ended, u64::MAX),
        connections: samples.iter().map(|s| s.descriptors).max().unwrap(),
        memory_mib: samples.iter().map(|s| s.rss).max().unwrap() / 1024,
    };
    let account = bench.account(sent, &front).await;
    assert!(account.is_clean(), "{account}");
    // The whole machine is busy with other tests; what this finds is a proxy that comes to a stop.
    assert!(figures.is_kept(250.0), "{figures}");
}

/// slowhttptest, its four modes one after the other, each between two quiet spells.
#[tokio::test]
async fn slowhttptest_with_5000_connections() {
    if !proving() {
        return;
    }
    let there = std::process::Command::new(TOOL)
        .arg("-h")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if there.is_err() {
        return skip("slowhttptest", "slowhttptest (run tests/setup.sh)");
    }
    let _turn = turn().await;
    let quiet = Duration::from_secs(10);
    for mode in MODES {
        let (bench, mut front, load) = set_up("slowhttptest", 200).await;
        let pid = proxy(&mut front).process().pid();
        // The first seconds are everybody's warm-up.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let started = monotonic_ns();
        tokio::time::sleep(quiet).await;
        let base = look(pid).unwrap().1;
        let watch = Watch::start(move || pid);
        let begun = monotonic_ns();
        let url = format!("http://{}{}", front.address(), mode.path());
        let tool = tokio::process::Command::new(TOOL)
            .args([
                "-c", "5000", "-r", "1000", "-l", "20", "-p", "5", "-v", "0", "-u", &url,
            ])
            .args(mode.tool_arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .status();
        let status = tokio::time::timeout(Duration::from_secs(60), tool).await;
        let ended = monotonic_ns();
        // It says whether it thinks that the server is down; what we think is below.
        status.expect("it ends by itself").unwrap();
        tokio::time::sleep(quiet).await;
        let sent = load.stop().await;
        comes_back(pid, base + 10).await;
        let samples = watch.samples();
        let figures = Figures {
            before: p99(&sent, started, begun),
            under: p99(&sent, begun, ended),
            after: p99(&sent, ended, u64::MAX),
            connections: samples.iter().map(|s| s.descriptors).max().unwrap(),
            memory_mib: samples.iter().map(|s| s.rss).max().unwrap() / 1024,
        };
        let account = bench.account(sent, &front).await;
        assert!(account.is_clean(), "{mode:?}: {account}");
        let notes = vec![format!(
            "{mode:?}: {figures}; refused: {}",
            refused(&mut front).await
        )];
        record(Row {
            test: "slowhttptest",
            proxy: "lameduck".into(),
            app: App::BuiltIn.name().into(),
            account,
            notes,
        });
        // A thousand ranges are ignored, and answered at once: those connections don't stay.
        let stays = mode != Mode::Range;
        assert!(
            !stays || figures.connections > 2_000,
            "{mode:?}: no attack: {figures}"
        );
        assert!(figures.is_kept(2.0), "{mode:?}: {figures}");
    }
}

/// One connection, for as long as the proxy puts up with it.
async fn attack(mode: Mode, address: SocketAddr) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0)))?;
    if mode == Mode::Read {
        socket.set_recv_buffer_size(1024)?;
    }
    let mut stream = socket.connect(address).await?;
    let host = "Host: x\r\n";
    let (head, more): (String, &str) = match mode {
        Mode::Head => (format!("GET / HTTP/1.1\r\n{host}"), "X-More: more\r\n"),
        Mode::Body => (
            format!("POST /echo HTTP/1.1\r\n{host}Content-Length: 8192\r\n\r\n"),
            "more=more&",
        ),
        Mode::Read => (format!("GET /large?kib=512 HTTP/1.1\r\n{host}\r\n"), ""),
        Mode::Range => {
            let ranges: Vec<String> = (0..1_000).map(|n| format!("5-{n}")).collect();
            let ranges = ranges.join(",");
            (
                format!("GET / HTTP/1.1\r\n{host}Range: bytes=0-,{ranges}\r\n\r\n"),
                "",
            )
        }
    };
    stream.write_all(head.as_bytes()).await?;
    let mut answer = [0; 32];
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if more.is_empty() {
            if stream.read(&mut answer).await? == 0 {
                return Ok(());
            }
        } else {
            stream.write_all(more.as_bytes()).await?;
        }
    }
}
