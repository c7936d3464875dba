//! Clients that nobody wants: they must cost nobody else anything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Ids of their POSTs begin here: those too must arrive once at most.
pub const FIRST_POST: u64 = 1 << 42;
/// Of requests that are never sent whole, and must never arrive.
pub const FIRST_UNFINISHED: u64 = 1 << 43;
/// Of `GET`s, which may arrive more than once.
pub const FIRST_GET: u64 = 1 << 44;
/// How long one of them goes on at most: below a drain's deadline, so that most don't have to be cut.
pub const LONGEST: u64 = 2_500;

/// The clients; dropping them closes their connections.
pub struct Hostile {
    tasks: JoinSet<()>,
    opened: Arc<AtomicU64>,
}

impl Hostile {
    /// So many at a time, each one another kind each time.
    pub fn start(address: SocketAddr, count: u64, seed: u64) -> Self {
        let opened = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for part in 0..count {
            let (mut rng, opened) = (super::plan::rng(seed, 1_000 + part), opened.clone());
            tasks.spawn(async move {
                loop {
                    let id = FIRST_POST + opened.fetch_add(1, Ordering::Relaxed);
                    // How it ends is the proxy's business; that everybody else is served is the oracle's.
                    let _ = one(address, &mut rng, id).await;
                    sleep(rng.u64(1..200)).await;
                }
            });
        }
        Self { tasks, opened }
    }

    /// How many connections there were so far.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub fn stop(mut self) {
        self.tasks.abort_all();
    }
}

pub async fn sleep(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

async fn one(address: SocketAddr, rng: &mut fastrand::Rng, id: u64) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    if rng.bool() {
        // Its end is a reset.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    }
    let post = |length: usize| {
        format!(
            "POST /echo HTTP/1.1\r\nHost: x\r\nx-demo-id: {id}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut answer = [0; 16 * 1024];
    match rng.u32(0..10) {
        // Connects and says nothing; or goes at once.
        0 => sleep(rng.u64(0..LONGEST)).await,
        1 => {}
        // A slow head, which may never end.
        2 => {
            let head = format!("GET / HTTP/1.1\r\nHost: x\r\nx: {}\r\n\r\n", "y".repeat(60));
            let end = rng.usize(1..=head.len());
            dribble(&mut stream, &head.as_bytes()[..end], rng).await?;
        }
        // A slow body, which may never end.
        3 => {
            let end = rng.usize(1..=40);
            stream.write_all(post(40).as_bytes()).await?;
            dribble(&mut stream, &b"x".repeat(end), rng).await?;
        }
        // A large answer that is read slowly.
        4 => {
            stream.write_all(post(1 << 20).as_bytes()).await?;
            let (mut reader, mut writer) = stream.split();
            let send = async { writer.write_all(&vec![b'x'; 1 << 20]).await };
            let read = async {
                for _ in 0..LONGEST / 50 {
                    if reader.read(&mut answer).await? == 0 {
                        break;
                    }
                    sleep(50).await;
                }
                io::Result::Ok(())
            };
            let _ = tokio::join!(send, read);
        }
        // Gone in the middle of its request.
        5 => {
            stream.write_all(post(200_000).as_bytes()).await?;
            stream.write_all(&vec![b'x'; 100_000]).await?;
        }
        // Gone before its answer, or in the middle of it.
        6 => {
            stream.write_all(get("/slow?ms=500").as_bytes()).await?;
            sleep(rng.u64(0..600)).await;
        }
        7 => {
            stream.write_all(post(400_000).as_bytes()).await?;
            stream.write_all(&vec![b'x'; 400_000]).await?;
            let _ = stream.read(&mut answer).await?;
        }
        // Nonsense.
        8 => {
            let bytes: Vec<u8> = (0..rng.usize(1..2_000)).map(|_| rng.u8(..)).collect();
            stream.write_all(&bytes).await?;
            let _ = stream.read(&mut answer).await?;
        }
        // Many requests at once; the answers are not waited for, or its direction is closed.
        _ => {
            stream.write_all(get("/").repeat(5).as_bytes()).await?;
            if rng.bool() {
                stream.shutdown().await?;
            }
            let _ = stream.read(&mut answer).await?;
        }
    }
    Ok(())
}

/// Sends byte by byte, over at most [`LONGEST`].
pub async fn dribble(
    stream: &mut TcpStream,
    bytes: &[u8],
    rng: &mut fastrand::Rng,
) -> io::Result<()> {
    let each = rng.u64(1..=LONGEST / 100);
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        sleep(each).await;
    }
    Ok(())
}
