//! Strangers who know what is dear: little that is sent and much that is kept, ends that they provoke, fields that only
//! the proxy may say, and the doors of the admin API. A few at a time, one kind after the other; beside them, somebody
//! asks `/-/live`, as a kubelet does.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lameduck::registry::view::PoolView;
use lameduck::tools::demo::admin;
use lameduck_rig::frames::{DATA, frame};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use super::hostile::{FIRST_GET, FIRST_POST, FIRST_UNFINISHED, LONGEST, dribble, sleep};
use super::lanes::{Doors, Stage};
use crate::hostile::memory::{Attack, IDS};

/// A pool without backends: whoever comes is held until they leave, whatever becomes of the apps.
pub const VACANT: &str = "[[pool]]\nname = \"vacant\"\n[pool.hold]\ntimeout = \"10s\"\nmax_requests = 64\n\
     [[route]]\npath_prefix = \"/vacant\"\npool = \"vacant\"\n\
     [[route]]\npath_prefix = \"/\"\npool = \"app\"\n";
/// `/-/live` must be answered within this: a loaded machine is given more than a kubelet gives.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions.
const PERIOD: Duration = Duration::from_millis(250);
/// Sockets at once, of each stranger at the admin API.
const CROWD: usize = 96;
/// Ids of complete `POST`s of theirs: behind those of the other hostile clients.
const FIRST_OWN_POST: u64 = FIRST_POST + (1 << 41);

/// What they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Heads by reference, a byte of some bodies now and then, and never an end.
    References(u32),
    /// Requests whose windows are overflowed.
    Overflows,
    /// What only the proxy may say, behind the chunks of a body.
    Trailers,
    /// A head of 60 KB that never ends.
    EndlessHead,
    /// A body that comes byte by byte, or all but its last one.
    SlowBody,
    /// An upload that leaves while it is held.
    HeldUpload,
    /// Sockets at the admin API that say nothing, or little.
    HalfOpen,
    /// Heads at the admin API that come byte by byte.
    SlowHeads,
    /// Event streams of the admin API that nobody reads.
    EventStreams,
}

const KINDS: [Kind; 10] = [
    Kind::References(15),
    Kind::References(3),
    Kind::Overflows,
    Kind::Trailers,
    Kind::EndlessHead,
    Kind::SlowBody,
    Kind::HeldUpload,
    Kind::HalfOpen,
    Kind::SlowHeads,
    Kind::EventStreams,
];

impl Kind {
    fn title(self) -> String {
        match self {
            Self::References(count) => {
                format!("128 heads of {count} × 3.9 kB by reference, bodies to come (h2c)")
            }
            Self::Overflows => "1,000 requests, each window overflowed (h2c)".into(),
            Self::Trailers => "forged trailers".into(),
            Self::EndlessHead => "heads of 60 kB that don't end".into(),
            Self::SlowBody => "bodies that drip or lack their last byte".into(),
            Self::HeldUpload => "uploads that leave while held".into(),
            Self::HalfOpen => format!("{CROWD} half-open sockets at the admin API"),
            Self::SlowHeads => format!("{CROWD} slow heads at the admin API"),
            Self::EventStreams => format!("{CROWD} idle event streams"),
        }
    }

    /// What shows that it was no mere noise.
    fn effect(self) -> Option<&'static str> {
        match self {
            Self::References(_) => Some("streams were refused"),
            Self::Overflows => Some("the connection was ended"),
            Self::Trailers => Some("refused"),
            Self::EventStreams => Some("streams were opened"),
            _ => None,
        }
    }
}

/// How often each kind was tried, and had its effect; and what became of the questions beside them.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    tried: BTreeMap<Kind, [u64; 2]>,
    answered: u64,
    slowest: Duration,
}

impl Tally {
    /// What the report says of it.
    pub fn rows(&self) -> Vec<(String, String)> {
        let row = |(kind, [tried, effect]): (&Kind, &[u64; 2])| {
            let effect = kind.effect().map(|what| format!("; {what}: {effect}"));
            (
                kind.title(),
                format!("{tried}{}", effect.unwrap_or_default()),
            )
        };
        let mut rows: Vec<_> = self.tried.iter().map(row).collect();
        rows.push((
            "`/-/live` beside them: answers, the slowest, ms".into(),
            format!(
                "{}, {:.0}",
                self.answered,
                self.slowest.as_secs_f64() * 1_000.0
            ),
        ));
        rows
    }

    /// What was not tried, or was no attack.
    pub fn without_effect(&self) -> Vec<String> {
        let missing = |kind: &&Kind| {
            let [tried, effect] = self.tried.get(kind).copied().unwrap_or_default();
            tried == 0 || kind.effect().is_some() && effect == 0
        };
        let mut missing: Vec<_> = KINDS.iter().filter(missing).map(|k| k.title()).collect();
        if self.answered == 0 {
            missing.push("/-/live".into());
        }
        missing
    }
}

/// What all of them share.
struct Shared {
    stage: Arc<Stage>,
    address: SocketAddr,
    tally: Mutex<Tally>,
    /// The kinds in the order that the seed gave, and who is next.
    deck: [Kind; KINDS.len()],
    next: AtomicUsize,
    ids: AtomicU64,
}

/// The strangers, and who asks beside them; dropping them closes their connections.
pub struct Strangers {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Strangers {
    /// So many at a time.
    pub fn start(stage: Arc<Stage>, count: u64, seed: u64) -> Self {
        let mut deck = KINDS;
        super::plan::rng(seed, 2_000).shuffle(&mut deck);
        let shared = Arc::new(Shared {
            address: stage.proxy().address(),
            stage,
            tally: Mutex::default(),
            deck,
            next: AtomicUsize::new(0),
            ids: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        for part in 0..count {
            let (mut rng, shared) = (super::plan::rng(seed, 2_001 + part), shared.clone());
            tasks.spawn(async move {
                loop {
                    let turn = shared.next.fetch_add(1, Ordering::Relaxed);
                    let kind = shared.deck[turn % shared.deck.len()];
                    shared.tally.lock().tried.entry(kind).or_default()[0] += 1;
                    // How it ends is the proxy's business; an effect is noted before.
                    let _ = one(kind, &shared, &mut rng).await;
                    sleep(rng.u64(50..500)).await;
                }
            });
        }
        let asking = shared.clone();
        tasks.spawn(async move { ask_on(&asking).await });
        Self { shared, tasks }
    }

    /// Their connections are closed.
    pub async fn stop(mut self) -> Tally {
        self.tasks.shutdown().await;
        self.shared.tally.lock().clone()
    }
}

impl Shared {
    fn note_effect(&self, kind: Kind) {
        self.tally.lock().tried.entry(kind).or_default()[1] += 1;
    }

    /// The first of as many ids as one connection may have requests.
    fn ids(&self, first: u64) -> u64 {
        first + IDS * self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// Requests that are held in the pool that has no backend.
pub async fn held(doors: &Doors) -> u64 {
    let answer = admin::call(&doors.socket, "GET", "/v1/pools/vacant", None).await;
    let pool: PoolView = serde_json::from_value(answer.unwrap()).unwrap();
    pool.held as u64
}

async fn one(kind: Kind, shared: &Shared, rng: &mut fastrand::Rng) -> io::Result<()> {
    let mut answer = [0; 16 * 1024];
    match kind {
        Kind::References(count) => {
            let bytes = Attack::References(count).bytes(shared.ids(FIRST_UNFINISHED));
            multiplexed(kind, &bytes, shared, rng).await
        }
        Kind::Overflows => {
            let bytes = Attack::Overflows.bytes(shared.ids(FIRST_GET));
            multiplexed(kind, &bytes, shared, rng).await
        }
        Kind::Trailers => {
            let id = shared.ids(FIRST_OWN_POST);
            let name = ["X-Client-Cert-Verified", "X_Client_Cert_Verified"][rng.usize(0..2)];
            let request = format!(
                "POST /echo HTTP/1.1\r\nHost: x\r\nX-Demo-Id: {id}\r\nTransfer-Encoding: chunked\r\n\
                 Trailer: {name}\r\n\r\n4\r\nmore\r\n0\r\n{name}: SUCCESS\r\n\r\n"
            );
            let mut stream = TcpStream::connect(shared.address).await?;
            stream.write_all(request.as_bytes()).await?;
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer));
            let count = read.await.map_err(io::Error::other)??;
            if answer[..count].starts_with(b"HTTP/1.1 400") {
                shared.note_effect(kind);
            }
            Ok(())
        }
        Kind::EndlessHead => {
            let bytes = Attack::Heads.bytes(shared.ids(FIRST_UNFINISHED));
            let mut stream = TcpStream::connect(shared.address).await?;
            stream.write_all(&bytes).await?;
            dribble(&mut stream, &b"X-More: ".repeat(20), rng).await
        }
        Kind::SlowBody => {
            let form = [Attack::Bodies, Attack::Fields][rng.usize(0..2)];
            let bytes = form.bytes(shared.ids(FIRST_UNFINISHED));
            let mut stream = TcpStream::connect(shared.address).await?;
            stream.write_all(&bytes).await?;
            match form {
                // Its last byte never comes.
                Attack::Bodies => sleep(rng.u64(..LONGEST)).await,
                _ => dribble(&mut stream, &[b'a'; 99], rng).await?,
            }
            Ok(())
        }
        Kind::HeldUpload => {
            // More than one may keep, so that there are bytes that nobody takes while it leaves.
            let length = rng.usize(1..2 << 20);
            let head = format!(
                "POST /vacant HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{}",
                "a".repeat(length / 2)
            );
            let mut stream = TcpStream::connect(shared.address).await?;
            let stay = Duration::from_millis(rng.u64(..LONGEST / 2));
            let _ = tokio::time::timeout(stay, stream.write_all(head.as_bytes())).await;
            sleep(rng.u64(..LONGEST / 2)).await;
            Ok(())
        }
        Kind::HalfOpen | Kind::SlowHeads | Kind::EventStreams => {
            let doors = shared.stage.doors();
            // The unix socket is the operator's own, and event streams there are bounded as well.
            if rng.bool() {
                let mut crowd = Vec::new();
                for _ in 0..CROWD {
                    crowd.push(TcpStream::connect(doors.tcp).await?);
                }
                at_the_door(kind, crowd, shared, rng).await
            } else {
                let mut crowd = Vec::new();
                for _ in 0..CROWD {
                    crowd.push(UnixStream::connect(&doors.socket).await?);
                }
                at_the_door(kind, crowd, shared, rng).await
            }
        }
    }
}

/// Frames of HTTP/2 all at once, then a byte of some bodies now and then, until the proxy ends it or for some seconds.
async fn multiplexed(
    kind: Kind,
    bytes: &[u8],
    shared: &Shared,
    rng: &mut fastrand::Rng,
) -> io::Result<()> {
    const RST_STREAM: u8 = 3;
    const GOAWAY: u8 = 7;
    let shown = match kind {
        Kind::Overflows => GOAWAY,
        _ => RST_STREAM,
    };
    let (mut read, mut write) = TcpStream::connect(shared.address).await?.into_split();
    let sending = async {
        write.write_all(bytes).await?;
        for _ in 0..rng.u64(2..8) {
            sleep(500).await;
            if let Kind::References(_) = kind {
                let dripped: Vec<u8> = (0..4)
                    .flat_map(|n| frame(DATA, 0, 2 * n + 1, b"a"))
                    .collect();
                write.write_all(&dripped).await?;
            }
        }
        Ok(())
    };
    let reading = async {
        let (mut seen, mut noted) = (Vec::new(), false);
        while read.read_buf(&mut seen).await? > 0 {
            while let [a, b, c, found, ..] = seen[..] {
                let length = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
                if seen.len() < length {
                    break;
                }
                if found == shown && !noted {
                    noted = true;
                    shared.note_effect(kind);
                }
                seen.drain(..length);
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = sending => ended,
        ended = reading => ended,
    }
}

/// What a crowd does at a door of the admin API.
async fn at_the_door<S: AsyncRead + AsyncWrite + Unpin>(
    kind: Kind,
    mut crowd: Vec<S>,
    shared: &Shared,
    rng: &mut fastrand::Rng,
) -> io::Result<()> {
    let head = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-more: more";
    match kind {
        Kind::SlowHeads => {
            for byte in head {
                for stream in &mut crowd {
                    // Some have been pushed out.
                    let _ = stream.write_all(&[*byte]).await;
                }
                sleep(LONGEST / head.len() as u64).await;
            }
            return Ok(());
        }
        Kind::EventStreams => {
            let ask = b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n";
            let mut opened = false;
            for stream in &mut crowd {
                let _ = stream.write_all(ask).await;
                let mut answer = [0; 12];
                let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer));
                opened |= matches!(read.await, Ok(Ok(_))) && answer == *b"HTTP/1.1 200";
            }
            if opened {
                shared.note_effect(kind);
            }
        }
        _ => {
            for (n, stream) in crowd.iter_mut().enumerate() {
                let part = [0, 1, head.len()][n % 3];
                let _ = stream.write_all(&head[..part]).await;
            }
        }
    }
    sleep(rng.u64(..LONGEST)).await;
    Ok(())
}

/// Asks at both doors in turn whether the proxy is alive. An answer that is late, or another one, is a failure.
async fn ask_on(shared: &Shared) {
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        for of_tcp in [true, false] {
            tick.tick().await;
            let doors = shared.stage.doors();
            let begun = Instant::now();
            let answer = tokio::time::timeout(PATIENCE, async {
                match of_tcp {
                    true => is_live(TcpStream::connect(doors.tcp).await?).await,
                    false => is_live(UnixStream::connect(&doors.socket).await?).await,
                }
            });
            let answer = answer.await;
            let took = begun.elapsed();
            let mut tally = shared.tally.lock();
            match answer {
                Ok(Ok(())) => {
                    tally.answered += 1;
                    tally.slowest = tally.slowest.max(took);
                }
                // A proxy that has handed over may go at any moment.
                _ if doors != shared.stage.doors() => {}
                other => {
                    let door = if of_tcp { "TCP" } else { "the unix socket" };
                    let what = format!("/-/live over {door}, after {took:?}: {other:?}");
                    shared.stage.diary.violation("strangers", &what);
                }
            }
        }
    }
}

async fn is_live(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let ask = b"GET /-/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(io::Error::other(
            String::from_utf8_lossy(&answer).into_owned(),
        )),
    }
}
