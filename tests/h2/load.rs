//! A load of HTTP/2: so many requests at once on one connection, by a client that honours GOAWAY.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use lameduck::rt::syscall::monotonic_ns;
use lameduck::tools::demo::oracle::{DemoRequestKind, Loss, Sent};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// For one request.
const TIMEOUT: Duration = Duration::from_secs(20);

struct Shared {
    address: SocketAddr,
    connection: Mutex<Option<SendRequest<Bytes>>>,
    stop: AtomicBool,
    ids: AtomicU64,
    done: AtomicU64,
    /// Connections opened.
    connections: AtomicU64,
    /// What the requests accept in turn, instead of no coding.
    codings: &'static [&'static str],
    /// Answers that had one.
    coded: AtomicU64,
}

/// A running load.
pub struct Load {
    shared: Arc<Shared>,
    workers: JoinSet<Vec<Sent>>,
}

impl Load {
    /// `streams` requests at a time: most quick, some with a body, some slow.
    pub fn start(address: SocketAddr, streams: usize) -> Self {
        Self::start_accepting(address, streams, &[])
    }

    /// The same, by clients that accept one of these codings each.
    pub fn start_accepting(
        address: SocketAddr,
        streams: usize,
        codings: &'static [&'static str],
    ) -> Self {
        let shared = Arc::new(Shared {
            address,
            connection: Mutex::default(),
            stop: AtomicBool::new(false),
            ids: AtomicU64::new(0),
            done: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            codings,
            coded: AtomicU64::new(0),
        });
        let mut workers = JoinSet::new();
        for _ in 0..streams {
            workers.spawn(work(shared.clone()));
        }
        Self { shared, workers }
    }

    /// Requests that have ended.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Connections opened so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Answers that had a content coding.
    pub fn coded(&self) -> u64 {
        self.shared.coded.load(Ordering::Relaxed)
    }

    /// Waits for what is in flight, and says what became of each.
    pub async fn stop(mut self) -> Vec<Sent> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut sent = Vec::new();
        while let Some(worker) = self.workers.join_next().await {
            sent.extend(worker.unwrap());
        }
        sent
    }
}

async fn work(shared: Arc<Shared>) -> Vec<Sent> {
    let mut log = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let id = shared.ids.fetch_add(1, Ordering::Relaxed);
        let kind = match id % 20 {
            0 => DemoRequestKind::Slow,
            1 | 2 => DemoRequestKind::Post,
            _ => DemoRequestKind::Get,
        };
        let at = monotonic_ns();
        let outcome = match tokio::time::timeout(TIMEOUT, send(&shared, id, kind)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Loss::TimedOut),
        };
        shared.done.fetch_add(1, Ordering::Relaxed);
        log.push(Sent {
            id,
            kind,
            at,
            latency: monotonic_ns() - at,
            outcome,
            closing: false,
            retry_after: None,
        });
    }
    log
}

/// The connection that takes requests; a new one where the last was told to go.
async fn connection(shared: &Arc<Shared>) -> Result<SendRequest<Bytes>, Loss> {
    let mut slot = shared.connection.lock().await;
    for _ in 0..20 {
        if let Some(connection) = slot.take()
            && let Ok(ready) = connection.ready().await
        {
            *slot = Some(ready.clone());
            return Ok(ready);
        }
        let stream = TcpStream::connect(shared.address)
            .await
            .map_err(|_| Loss::Refused)?;
        stream.set_nodelay(true).unwrap();
        let (send, connection) = h2::client::handshake(stream)
            .await
            .map_err(|_| Loss::Reset)?;
        tokio::spawn(connection);
        shared.connections.fetch_add(1, Ordering::Relaxed);
        *slot = Some(send);
    }
    Err(Loss::Refused)
}

async fn send(shared: &Arc<Shared>, id: u64, kind: DemoRequestKind) -> Result<u16, Loss> {
    loop {
        let mut connection = connection(shared).await?;
        let body = format!("body of request {id}\n").repeat(20);
        let (method, path) = match kind {
            DemoRequestKind::Get => ("GET", "/"),
            DemoRequestKind::Post => ("POST", "/echo"),
            DemoRequestKind::Slow => ("GET", "/slow?ms=300"),
        };
        let mut request = Request::builder();
        if let Some(coding) = shared
            .codings
            .get(id as usize % shared.codings.len().max(1))
        {
            request = request.header("accept-encoding", *coding);
        }
        let request = request
            .method(method)
            .uri(format!("http://{}{path}", shared.address))
            .header("x-demo-id", id)
            .header("x-request-id", id)
            .body(())
            .unwrap();
        let post = kind == DemoRequestKind::Post;
        let Ok((response, mut up)) = connection.send_request(request, !post) else {
            // Told to go between the look and the request: nothing was sent.
            continue;
        };
        drop(connection);
        if post && up.send_data(body.clone().into(), true).is_err() {
            continue;
        }
        let mut whole = Vec::new();
        let end = async {
            let (head, mut down) = response.await?.into_parts();
            while let Some(piece) = down.data().await {
                let piece = piece?;
                down.flow_control().release_capacity(piece.len())?;
                whole.extend_from_slice(&piece);
            }
            Ok::<_, h2::Error>(head)
        };
        let head = match end.await {
            Ok(head) => head,
            // RFC 9113 §6.8, §8.7: beyond the last stream, or refused: certainly not processed.
            Err(error) if error.is_remote() && error.is_go_away() && whole.is_empty() => continue,
            Err(error) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => continue,
            Err(_) if whole.is_empty() => return Err(Loss::Reset),
            Err(_) => return Err(Loss::Truncated),
        };
        let status = head.status.as_u16();
        if !head.headers.contains_key("x-demo-app") {
            return Err(Loss::ProxyError(status));
        }
        if let Some(coding) = head.headers.get("content-encoding") {
            shared.coded.fetch_add(1, Ordering::Relaxed);
            whole = decoded(coding.to_str().unwrap(), &whole).map_err(|_| Loss::Corrupted)?;
        }
        if post && status == 200 && whole != body.as_bytes() {
            return Err(Loss::Corrupted);
        }
        return Ok(status);
    }
}

/// A whole body without its coding.
pub fn decoded(coding: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut plain)?,
        "zstd" => zstd::stream::read::Decoder::new(body)?.read_to_end(&mut plain)?,
        _ => brotli::Decompressor::new(body, 4096).read_to_end(&mut plain)?,
    };
    Ok(plain)
}
