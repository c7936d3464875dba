//! Attacks by slowness, of slowhttptest's four kinds: good traffic must not notice, and nothing may stay behind.
//!
//! `make prove` has slowhttptest itself do it, with 5,000 connections, and to nginx and HAProxy, too; the short form has
//! clients of its own. [`encrypted`] is the same for TLS and HTTP/2; [`memory`] is about what is kept for little that is sent.

mod bystander;
mod clients;
mod encrypted;
mod figures;
pub mod memory;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use lameduck::tools::demo::admin;
use lameduck::tools::demo::load::{Load, LoadPlan};
use lameduck::tools::demo::proxy::{DemoProxy, POOL, ProxySettings};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::harness::apps::App;
use crate::harness::front::{Extras, Front, Kind};
use crate::harness::{Bench, proving, skip, turn_alone, turn_beside_one, until};
use bystander::Bystander;
use figures::{Figures, Part, Spells};
use lameduck_rig::results::{Row, record};

const TOOL: &str = "slowhttptest";
/// Before an attack, and after it.
const QUIET: Duration = Duration::from_secs(8);
/// How long it is watched when all the attackers are there.
const STANDING: Duration = Duration::from_secs(15);

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
    /// With how many connections a second it begins: each slow reader has the apps make three large answers at once.
    fn tool_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Head => &["-r", "1000", "-H", "-i", "2", "-x", "24"],
            Self::Body => &["-r", "1000", "-B", "-i", "2", "-s", "8192", "-x", "10"],
            Self::Read => &[
                "-r", "250", "-X", "-w", "10", "-y", "20", "-n", "1", "-z", "32", "-k", "3",
            ],
            Self::Range => &["-r", "1000", "-R", "-a", "5", "-b", "3000"],
        }
    }

    /// Whether the attack was one. A thousand ranges are ignored, and answered at once: those connections don't stay.
    fn is_there(self, figures: &Figures) -> bool {
        self == Self::Range || figures.descriptors > 2_000
    }

    fn path(self) -> &'static str {
        match self {
            Self::Head | Self::Range => "/large?kib=1",
            Self::Body => "/echo",
            // What the kernel may keep of it, times 5,000, must not exceed what it gives to all of TCP.
            Self::Read => "/large?kib=128",
        }
    }
}

/// Who is attacked: lameduck, and for the figures those that it is measured by.
const PEERS: [Option<Kind>; 2] = [Some(Kind::HaProxy), Some(Kind::Nginx)];

/// A proxy under attack.
struct Scene {
    front: Front,
    /// The apps of those who behave.
    bench: Bench,
    /// Those that attackers get their answers from: in these, no proxy can help who stands behind an attacker.
    _attacked: Bench,
}

/// `None` if this machine lacks the peer. With a directory: clients come with TLS, for the certificate that is there.
async fn set_up(peer: Option<Kind>, tls: Option<&Path>) -> Option<Scene> {
    let bench = Bench::start("hostile", App::BuiltIn, 3).await?;
    let attacked = Bench::start("hostile", App::BuiltIn, 3).await?;
    let front = match peer {
        Some(kind) => {
            let both = tls.map(|dir| dir.join("both.pem"));
            let extras = Extras {
                tls: both.as_deref(),
                elsewhere: &attacked.instances,
            };
            let front = Front::peer_with(&bench, kind, &extras).await;
            if front.is_none() {
                skip("hostile", &format!("{} (run tests/setup.sh)", kind.name()));
            }
            front?
        }
        None => {
            let file = |dir: &Path, name| dir.join(name).display().to_string();
            let listener = tls.map(|dir| {
                let (cert, key) = (file(dir, "cert.pem"), file(dir, "key.pem"));
                format!("tls = {{ cert = {cert:?}, key = {key:?} }}")
            });
            let settings = ProxySettings {
                listener: listener.unwrap_or_default(),
                pool: elsewhere(&attacked),
                ..ProxySettings::default()
            };
            let mut front = Front::lameduck(&bench, &settings).await;
            proxy(&mut front).eligible().await.unwrap();
            front
        }
    };
    Some(Scene {
        front,
        bench,
        _attacked: attacked,
    })
}

/// A second pool, and who goes there.
fn elsewhere(attacked: &Bench) -> String {
    let mut text = "[[pool]]\nname = \"attacked\"\n".to_owned();
    for instance in &attacked.instances {
        let (name, address) = (instance.name(), instance.address());
        text += &format!("[[pool.backend]]\nname = {name:?}\naddress = \"{address}\"\n");
    }
    for (prefix, pool) in [("/large", "attacked"), ("/echo", "attacked"), ("/", POOL)] {
        text += &format!("[[route]]\npath_prefix = {prefix:?}\npool = {pool:?}\n");
    }
    text
}

fn name(peer: Option<Kind>) -> String {
    peer.map_or("lameduck".to_owned(), Kind::title)
}

/// Quick requests for the most part. `POST`s go where attackers go.
fn load(address: SocketAddr, rate: u32, tls: Option<Arc<ClientConfig>>) -> Load {
    Load::start(LoadPlan {
        slow_percent: 2,
        post_percent: 0,
        tls,
        ..LoadPlan::new(address, rate)
    })
}

fn proxy(front: &mut Front) -> &mut DemoProxy {
    let Front::Lameduck(proxy) = front else {
        unreachable!()
    };
    proxy
}

/// Descriptors come back to `base` once the attackers have gone; the load's own connections come and go.
async fn comes_back(spells: &Spells, base: u64) {
    until(
        "descriptors to come back",
        Duration::from_secs(30),
        async || spells.descriptors() <= base,
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
#[lameduck_rig::test]
async fn slow_clients_hurt_nobody_else() {
    const EACH: usize = 60;
    let _turn = turn_beside_one().await;
    let Some(Scene {
        mut front,
        bench,
        _attacked,
    }) = set_up(None, None).await
    else {
        return;
    };
    let address = front.address();
    let bystander = Bystander::start(100).await.unwrap();
    let load = load(address, 100, None);
    let mut spells = Spells::quiet(&mut front, Duration::from_secs(2)).await;
    let base = spells.descriptors();
    let mut attackers = JoinSet::new();
    for mode in MODES {
        for _ in 0..EACH {
            attackers.spawn(attack(mode, address));
        }
    }
    until("the attackers", Duration::from_secs(30), async || {
        spells.descriptors() >= base + 3 * EACH as u64
    })
    .await;
    // What it costs to open them all at once is the machine's business; what they cost from then on is ours.
    tokio::time::sleep(Duration::from_secs(1)).await;
    spells.begin();
    tokio::time::sleep(Duration::from_secs(4)).await;
    attackers.shutdown().await;
    spells.end();
    spells.quiet_again(Duration::from_secs(2)).await;
    let sent = load.stop().await;
    comes_back(&spells, base + 10).await;
    let figures = spells.figures(&sent, &bystander.stop().await);
    let account = bench.account(sent, &front).await;
    assert!(account.is_clean(), "{account}");
    // The whole machine is busy with other tests; what this finds is a proxy that comes to a stop.
    assert!(figures.is_kept(250.0), "{figures}");
}

/// slowhttptest, its four modes one after the other, each between two quiet spells, against each proxy.
#[lameduck_rig::test]
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
    let _turn = turn_alone().await;
    let mut broken = Vec::new();
    for mode in MODES {
        let mut peers = Vec::new();
        for peer in PEERS {
            let figures = with_the_tool(mode, peer).await;
            peers.extend(figures.filter(|figures| mode.is_there(figures)));
        }
        let ours = with_the_tool(mode, None).await.unwrap();
        if !mode.is_there(&ours) {
            broken.push(format!("{mode:?}: no attack: {ours}"));
        }
        for part in [Part::Coming, Part::Standing] {
            if !ours.is_kept_or_no_worse(part, &peers) {
                broken.push(format!("{mode:?}, {part:?}: {ours}; peers: {peers:?}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// One of its modes against one proxy.
async fn with_the_tool(mode: Mode, peer: Option<Kind>) -> Option<Figures> {
    let Scene {
        mut front,
        bench,
        _attacked,
    } = set_up(peer, None).await?;
    let bystander = Bystander::start(100).await?;
    let load = load(front.address(), 200, None);
    // The first seconds are everybody's warm-up.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut spells = Spells::quiet(&mut front, QUIET).await;
    let base = spells.descriptors();
    let url = format!("http://{}{}", front.address(), mode.path());
    // Attackers have machines of their own. Here theirs is what the others leave of this one: their own work, of
    // 5,000 polled sockets, isn't what this measures.
    let mut tool = tokio::process::Command::new("nice")
        .args([
            "-n", "19", TOOL, "-c", "5000", "-l", "90", "-p", "5", "-v", "0", "-u", &url,
        ])
        .args(mode.tool_arguments())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    spells.until_all_came(Duration::from_secs(50)).await;
    tokio::time::sleep(STANDING).await;
    spells.end();
    tool.kill().await.unwrap();
    spells.quiet_again(QUIET).await;
    let sent = load.stop().await;
    let elsewhere = bystander.stop().await;
    let mut notes = Vec::new();
    if peer.is_none() {
        comes_back(&spells, base + 10).await;
        notes.push(format!("refused: {}", refused(&mut front).await));
    }
    let figures = spells.figures(&sent, &elsewhere);
    notes.insert(0, format!("{mode:?}: {figures}"));
    let account = bench.account(sent, &front).await;
    if peer.is_none() {
        assert!(account.is_clean(), "{mode:?}: {account}");
    }
    record(Row {
        test: "slowhttptest",
        proxy: name(peer),
        app: App::BuiltIn.name().into(),
        account,
        notes,
    });
    Some(figures)
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
