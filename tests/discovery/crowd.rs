//! A thousand backends in one process: each address of 127.0.0.0/8 is one of its own. They write down which request came to
//! which of them, and when, and so know whether somebody was used who should not have been.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

#[derive(Default)]
struct Seen {
    /// When requests came, by backend.
    arrivals: Mutex<HashMap<IpAddr, Vec<Instant>>>,
}

/// The backends.
pub struct Crowd {
    pub port: u16,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The address of a backend: 127.1.0.0 and so on.
pub fn ip(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

impl Crowd {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let of = seen.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, of.clone()));
            }
        });
        Self {
            port,
            seen,
            accepting,
        }
    }

    pub fn address(&self, number: u16) -> SocketAddr {
        SocketAddr::new(ip(number).into(), self.port)
    }

    /// Backends that have got a request since then.
    pub fn used_since(&self, since: Instant) -> BTreeSet<IpAddr> {
        let arrivals = self.seen.arrivals.lock().unwrap();
        let used = arrivals
            .iter()
            .filter(|(_, times)| times.last().is_some_and(|last| *last > since));
        used.map(|(ip, _)| *ip).collect()
    }
}

async fn serve(stream: TcpStream, seen: Arc<Seen>) -> std::io::Result<()> {
    let ip = stream.local_addr()?.ip();
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    let mut first = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
        if line != "\r\n" {
            continue;
        }
        if !first.contains("/health") {
            let mut arrivals = seen.arrivals.lock().unwrap();
            arrivals.entry(ip).or_default().push(Instant::now());
        }
        first.clear();
        let body = ip.to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        writer.write_all(answer.as_bytes()).await?;
    }
}

/// Clients that ask without pause.
pub struct CrowdLoad {
    stop: Arc<AtomicBool>,
    /// For each client.
    answered: Vec<Arc<AtomicU64>>,
    lost: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl CrowdLoad {
    /// So many, each with one connection.
    pub fn start(proxy: SocketAddr, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered: Vec<Arc<AtomicU64>> = (0..clients).map(|_| Arc::default()).collect();
        let lost = Arc::new(Mutex::new(Vec::new()));
        let clients = answered.iter().map(|answered| {
            let (stop, answered, lost) = (stop.clone(), answered.clone(), lost.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = ask_on_one_connection(proxy, &stop, &answered).await {
                        lost.lock().unwrap().push(error.to_string());
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    }
                }
            })
        });
        let clients = clients.collect();
        Self {
            stop,
            answered,
            lost,
            clients,
        }
    }

    fn counts(&self) -> Vec<u64> {
        let counts = self.answered.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Waits until so many more were answered.
    pub async fn answers(&self, more: u64) {
        let until = self.counts().iter().sum::<u64>() + more;
        self.until(|counts| counts.iter().sum::<u64>() >= until)
            .await;
    }

    /// Waits until each client has got an answer: whatever was on its way when this was called has arrived.
    pub async fn each_is_answered(&self) {
        let before = self.counts();
        self.until(|counts| counts.iter().zip(&before).all(|(now, before)| now > before))
            .await;
    }

    async fn until(&self, is_so: impl Fn(&[u64]) -> bool) {
        for _ in 0..60_000 {
            if is_so(&self.counts()) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("no answers come: {:?}", self.lost.lock().unwrap());
    }

    /// Ends, and says how many requests were answered, and what became of the others.
    pub async fn finish(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        let lost = self.lost.lock().unwrap().clone();
        let answered = self.answered.iter();
        let answered = answered.map(|count| count.load(Ordering::Relaxed)).sum();
        (answered, lost)
    }
}

async fn ask_on_one_connection(
    proxy: SocketAddr,
    stop: &AtomicBool,
    answered: &AtomicU64,
) -> std::io::Result<()> {
    let stream = TcpStream::connect(proxy).await?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    while !stop.load(Ordering::Relaxed) {
        writer
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await?;
        let (mut status, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).await? == 0 {
                return Err(std::io::Error::other("closed without an answer"));
            }
            if status.is_empty() {
                status.clone_from(&line);
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        tokio::io::AsyncReadExt::read_exact(&mut reader, &mut body).await?;
        if !status.starts_with("HTTP/1.1 200") {
            return Err(std::io::Error::other(format!(
                "{status}: {}",
                String::from_utf8_lossy(&body)
            )));
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
