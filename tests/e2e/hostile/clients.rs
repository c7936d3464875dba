//! Attackers that speak TLS and HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::Request;
use lameduck_rig::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PING, PREFACE, RST_STREAM,
    frame, settings, window_update,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

type Stream = TlsStream<tokio::net::TcpStream>;

/// What they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Large answers over HTTP/1, hardly read.
    SlowReaders,
    /// Connections of HTTP/2 with a hundred large answers each, and no window for them: half of them none for a
    /// stream, half none for the connection.
    Starved,
    /// The same with no end of windows, of which nothing is read.
    Unread,
    /// Connections of HTTP/2 that ask for nothing; every fiftieth begins a hundred requests and ends none.
    Idle,
    /// Rapid resets, PINGs and CONTINUATIONs, again and again.
    Floods,
}

pub const ATTACKS: [Attack; 5] = [
    Attack::SlowReaders,
    Attack::Starved,
    Attack::Unread,
    Attack::Idle,
    Attack::Floods,
];

/// Streams of a connection.
pub const STREAMS: usize = 100;
/// So many connections are opened a second, at most, or so many large answers are asked for: what the apps do to begin a
/// thousand of those at once is not what this measures.
const PACE: u32 = 200;
/// Between a connection that was closed on them and their next one.
const BREATH: Duration = Duration::from_millis(50);

/// Where to, and how.
#[derive(Clone)]
struct Target {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    opened: Arc<AtomicU64>,
    closed: Arc<AtomicU64>,
}

/// Attackers at work, in a thread of their own.
pub struct Attackers {
    target: Target,
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Attackers {
    /// So many connections.
    pub fn start(
        attack: Attack,
        connections: usize,
        address: SocketAddr,
        tls: &ClientConfig,
    ) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = match attack {
            Attack::SlowReaders => Vec::new(),
            _ => vec![b"h2".to_vec()],
        };
        let target = Target {
            address,
            tls: Arc::new(tls),
            opened: Arc::default(),
            closed: Arc::default(),
        };
        let (stop, stopped) = oneshot::channel();
        let of_thread = target.clone();
        let thread = std::thread::spawn(move || {
            yield_to_others();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut clients = JoinSet::new();
                let pace = async {
                    let each = match attack {
                        Attack::Starved | Attack::Unread => STREAMS as u32,
                        _ => 1,
                    };
                    let mut due = tokio::time::interval(Duration::from_secs(1) * each / PACE);
                    for n in 0..connections {
                        due.tick().await;
                        clients.spawn(one(attack, n, of_thread.clone()));
                    }
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = pace => {}
                    _ = stopped => {}
                }
                clients.shutdown().await;
            });
        });
        Self {
            target,
            stop,
            thread,
        }
    }

    /// How many are there with all that they want.
    pub fn opened(&self) -> u64 {
        self.target.opened.load(Ordering::Relaxed)
    }

    /// How often the proxy has ended a connection of theirs.
    pub fn closed(&self) -> u64 {
        self.target.closed.load(Ordering::Relaxed)
    }

    /// Their connections are closed.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        tokio::task::spawn_blocking(|| self.thread.join().unwrap())
            .await
            .unwrap();
    }
}

/// Attackers have machines of their own. Here theirs is what the others leave of this one.
fn yield_to_others() {
    // On Linux it is about the calling thread alone.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(19);
}

/// One attacker, for as long as it is let, and then again.
async fn one(attack: Attack, n: usize, target: Target) {
    loop {
        // How it ends is the proxy's business.
        let _ = match attack {
            Attack::SlowReaders => slow_reader(&target).await,
            Attack::Starved | Attack::Unread => starved(attack, n, &target).await,
            Attack::Idle => idle(n, &target).await,
            Attack::Floods => flood(n, &target).await,
        };
        target.closed.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(BREATH).await;
    }
}

async fn connect(target: &Target, receive: Option<u32>) -> std::io::Result<Stream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0)))?;
    if let Some(bytes) = receive {
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = socket.connect(target.address).await?;
    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    TlsConnector::from(target.tls.clone())
        .connect(name, stream)
        .await
}

/// A few bytes of what comes, whatever they mean, every second, until the end.
async fn trickle(stream: &mut Stream) -> std::io::Result<()> {
    let mut few = [0; 32];
    while stream.get_mut().0.read(&mut few).await? > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

async fn slow_reader(target: &Target) -> std::io::Result<()> {
    let mut stream = connect(target, Some(4096)).await?;
    let request = b"GET /large?kib=512 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await?;
    stream.flush().await?;
    target.opened.fetch_add(1, Ordering::Relaxed);
    trickle(&mut stream).await
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An HTTP/2 connection, and the task that runs it, which ends with the set.
async fn h2(
    stream: Stream,
    builder: &Builder,
) -> Result<(SendRequest<Bytes>, JoinSet<()>), h2::Error> {
    let (send, connection) = builder.handshake(stream).await?;
    let mut task = JoinSet::new();
    task.spawn(async move {
        let _ = connection.await;
    });
    Ok((send, task))
}

async fn starved(attack: Attack, n: usize, target: &Target) -> std::io::Result<()> {
    let mut stream = connect(target, None).await?;
    // By hand: what the client's side of a crate gives back or takes from the socket isn't left to it.
    let window: u32 = match attack {
        Attack::Starved if n.is_multiple_of(2) => 0,
        _ => 1 << 20,
    };
    let mut bytes = PREFACE.to_vec();
    bytes.extend(settings(&[(INITIAL_WINDOW_SIZE, window)]));
    if attack == Attack::Unread {
        bytes.extend(window_update(0, 1 << 30));
    }
    for k in 0..STREAMS as u32 {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * k + 1, LARGE));
    }
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    target.opened.fetch_add(1, Ordering::Relaxed);
    if attack == Attack::Unread {
        return trickle(&mut stream).await;
    }
    let mut seen = [0; 16 << 10];
    while stream.read(&mut seen).await? > 0 {}
    Ok(())
}

async fn idle(n: usize, target: &Target) -> Result<(), std::io::Error> {
    let run = async {
        let stream = connect(target, None).await?;
        let (mut send, mut task) = h2(stream, &Builder::new()).await?;
        let mut begun = Vec::new();
        if n.is_multiple_of(50) {
            for _ in 0..STREAMS {
                send = send.ready().await?;
                let request = Request::post("https://localhost/echo").body(())?;
                begun.push(send.send_request(request, false)?);
            }
        }
        target.opened.fetch_add(1, Ordering::Relaxed);
        task.join_next().await;
        Ok::<(), Failure>(())
    };
    run.await.map_err(std::io::Error::other)
}

/// `GET https://a/large?kib=1`, in HPACK.
const GET: &[u8] = b"\x82\x87\x04\x0c/large?kib=1\x01\x01a";
/// `GET https://a/large?kib=512`.
const LARGE: &[u8] = b"\x82\x87\x04\x0e/large?kib=512\x01\x01a";

async fn flood(n: usize, target: &Target) -> std::io::Result<()> {
    let stream = connect(target, None).await?;
    let (mut read, mut write) = tokio::io::split(stream);
    let mut bytes = PREFACE.to_vec();
    bytes.extend(settings(&[(INITIAL_WINDOW_SIZE, 1 << 16)]));
    if n % 3 == 2 {
        bytes.extend(frame(HEADERS, 0, 1, GET));
    }
    target.opened.fetch_add(1, Ordering::Relaxed);
    let writing = async {
        let mut stream = 1;
        loop {
            for _ in 0..100 {
                match n % 3 {
                    0 => {
                        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, GET));
                        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
                        stream += 2;
                    }
                    1 => bytes.extend(frame(PING, 0, 0, &[0; 8])),
                    _ => bytes.extend(frame(CONTINUATION, 0, 1, &[])),
                }
            }
            write.write_all(&bytes).await?;
            write.flush().await?;
            bytes.clear();
        }
    };
    let reading = async {
        let mut seen = [0; 4096];
        while read.read(&mut seen).await? > 0 {}
        Ok(())
    };
    tokio::select! {
        ended = writing => ended,
        ended = reading => ended,
    }
}
