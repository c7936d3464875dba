//! WebSockets and event streams that stay open and, like real clients, come back when they were ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use lameduck::rt::syscall::monotonic_ns;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

/// Streams' ids begin here: no request of the load has one of them.
const FIRST_ID: u64 = 1 << 40;
/// Between two messages of a WebSocket.
const PERIOD: Duration = Duration::from_millis(50);

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    pub how: How,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// A WebSocket with a close frame: its code, its reason, and messages that had no answer by then.
    Closed {
        code: u16,
        reason: String,
        unanswered: u64,
    },
    /// An event stream in order: between two events, with the end of its last chunk.
    Finished,
    /// Anything else.
    Broken(String),
}

#[derive(Default)]
struct Shared {
    ends: Mutex<Vec<End>>,
    next_id: AtomicU64,
    /// Streams that have got something.
    alive: AtomicU64,
}

/// Open streams. Dropping them closes them.
pub struct Streams {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Streams {
    /// Opens `count` WebSockets and as many event streams, and waits until all have got something.
    pub async fn open(address: SocketAddr, count: usize) -> Self {
        Self::open_of(address, count, count, PERIOD).await
    }

    /// The same, so many of each; `period`: between two messages of a WebSocket.
    pub async fn open_of(
        address: SocketAddr,
        sockets: usize,
        events_count: usize,
        period: Duration,
    ) -> Self {
        let shared = Arc::new(Shared {
            next_id: AtomicU64::new(FIRST_ID),
            ..Shared::default()
        });
        let mut tasks = JoinSet::new();
        for _ in 0..sockets {
            let shared = shared.clone();
            tasks.spawn(
                async move { repeat(&shared, || websocket(address, &shared, period)).await },
            );
        }
        for _ in 0..events_count {
            let shared = shared.clone();
            tasks.spawn(async move { repeat(&shared, || events(address, &shared)).await });
        }
        let streams = Self { shared, tasks };
        let all = (sockets + events_count) as u64;
        super::until("streams to open", Duration::from_secs(30), async || {
            streams.shared.alive.load(Ordering::Relaxed) >= all
        })
        .await;
        streams
    }

    /// How those that ended did so, up to now.
    pub fn ends(&self) -> Vec<End> {
        self.shared.ends.lock().clone()
    }

    /// Closes all; returns how those that ended before did so.
    pub fn close(mut self) -> Vec<End> {
        self.tasks.abort_all();
        self.ends()
    }
}

/// Comes back at once, as an impatient client does; after a failure, a moment later.
async fn repeat<F: Future<Output = How>>(shared: &Shared, open: impl Fn() -> F) {
    loop {
        let how = open().await;
        let broken = matches!(how, How::Broken(_));
        shared.ends.lock().push(End {
            at: monotonic_ns(),
            how,
        });
        if broken {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn websocket(address: SocketAddr, shared: &Shared, period: Duration) -> How {
    converse(address, shared, period)
        .await
        .unwrap_or_else(|error| How::Broken(format!("websocket: {error}")))
}

async fn converse(
    address: SocketAddr,
    shared: &Shared,
    period: Duration,
) -> Result<How, Box<dyn std::error::Error + Send + Sync>> {
    let mut request = format!("ws://{address}/ws").into_client_request()?;
    let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
    request.headers_mut().insert("x-demo-id", id.into());
    let (mut socket, _) =
        tokio_tungstenite::client_async(request, TcpStream::connect(address).await?).await?;
    let mut due = tokio::time::interval(period);
    let (mut sent, mut received) = (0u64, 0u64);
    let mut closed = None;
    loop {
        tokio::select! {
            _ = due.tick(), if closed.is_none() => {
                // A failure shows below, with what came before it.
                if socket.send(Message::text(sent.to_string())).await.is_ok() { sent += 1 }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    if text.as_str() != received.to_string() { return Err(format!("{text} instead of {received}").into()) }
                    received += 1;
                    if received == 1 { shared.alive.fetch_add(1, Ordering::Relaxed); }
                }
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                    closed = Some(How::Closed { code, reason, unanswered: sent - received });
                }
                Some(Ok(_)) => {}
                // What follows the close frame no longer matters.
                Some(Err(error)) => return closed.ok_or(error.into()),
                None => return closed.ok_or("ended without a close frame (1006)".into()),
            },
        }
    }
}

async fn events(address: SocketAddr, shared: &Shared) -> How {
    follow(address, shared)
        .await
        .unwrap_or_else(|error| How::Broken(format!("event stream: {error}")))
}

async fn follow(
    address: SocketAddr,
    shared: &Shared,
) -> Result<How, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
    let request = hyper::Request::get("/sse")
        .header("host", address.to_string())
        .header("x-demo-id", id);
    let response = sender
        .send_request(request.body(Empty::<bytes::Bytes>::new())?)
        .await?;
    if response.status() != 200 {
        return Err(format!("status {}", response.status()).into());
    }
    let mut body = response.into_body();
    let (mut text, mut next) = (String::new(), 0u64);
    while let Some(frame) = body.frame().await {
        text.push_str(std::str::from_utf8(frame?.data_ref().ok_or("trailers")?)?);
        while let Some((event, rest)) = text.split_once("\n\n") {
            if event != format!("id: {next}\ndata: tick {next}") {
                return Err(format!("{event:?} instead of event {next}").into());
            }
            next += 1;
            if next == 1 {
                shared.alive.fetch_add(1, Ordering::Relaxed);
            }
            text = rest.to_owned();
        }
    }
    if text.is_empty() {
        Ok(How::Finished)
    } else {
        Err(format!("ended within an event: {text:?}").into())
    }
}
