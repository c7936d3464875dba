//! The built-in demo app, `lameduck demo-app`: it stops correctly, or on request badly.
//!
//! When it stops correctly, it answers SIGTERM with 503 on `/health`, refuses new connections, closes idle ones at
//! once, finishes requests in flight with `Connection: close`, and then exits with 0. After 30 s it exits in any case.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State, WebSocketUpgrade, ws};
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::StreamExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tower::ServiceExt;

use super::journal::Journal;

/// Longest duration of a stop before the app exits in any case.
const FORCED_EXIT: Duration = Duration::from_secs(30);
/// How long `--stop linger` goes on accepting.
const LINGER_TIME: Duration = Duration::from_secs(3);
/// Longest wait for a port that the previous process may still hold.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long `/health` takes while SIGUSR2 makes it slow: longer than a probe's default timeout.
const SLOW_HEALTH: Duration = Duration::from_millis(1_500);

/// What the app does on SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Stop {
    /// Everything right.
    Graceful,
    /// No handler at all: it is gone at once, with what was in flight.
    Abrupt,
    /// `/health` says 503 at once, but it goes on accepting for 3 s.
    Linger,
}

/// `lameduck demo-app`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoAppArgs {
    /// Name that every answer carries in `x-demo-app`.
    #[arg(long, default_value = "app")]
    pub name: String,
    /// Port on 127.0.0.1; 0 takes a free one. The address is printed as one line of JSON.
    #[arg(long, env = "PORT", default_value_t = 0)]
    pub port: u16,
    /// File to write every arriving request to.
    #[arg(long)]
    pub log: Option<PathBuf>,
    /// Directory to write such a file into, NAME.PID.journal: for apps that something else starts.
    #[arg(long, conflicts_with = "log")]
    pub journals: Option<PathBuf>,
    /// What to do on SIGTERM.
    #[arg(long, value_enum, default_value = "graceful")]
    pub stop: Stop,
}

impl DemoAppArgs {
    fn journal(&self) -> Option<PathBuf> {
        let own = |dir: &PathBuf| dir.join(format!("{}.{}.journal", self.name, std::process::id()));
        self.log.clone().or_else(|| self.journals.as_ref().map(own))
    }
}

/// Runs the app until it is told to stop; returns the exit code.
pub fn run_demo_app(args: DemoAppArgs) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime.and_then(|runtime| runtime.block_on(serve(args)));
    match result {
        Ok(()) => 0,
        Err(error) => {
            crate::rt::output::say(&format!("demo-app: {error}\n"));
            1
        }
    }
}

/// State that all requests share.
struct DemoApp {
    name: HeaderValue,
    journal: Journal,
    /// Whether SIGTERM was received, so that `/health` answers 503.
    signalled: AtomicBool,
    /// Toggled by SIGUSR1: a simulated outage, in which `/health` answers 503, and everything else works.
    outage: AtomicBool,
    /// SIGUSR2 toggles slow answers of `/health`; everything else works.
    slow_health: AtomicBool,
    /// True once the app accepts no more connections.
    closing: watch::Receiver<bool>,
    /// Tasks in progress hold a clone of the sender; the exit waits for all of them.
    busy: mpsc::WeakSender<Infallible>,
}

async fn serve(args: DemoAppArgs) -> std::io::Result<()> {
    let journal = Journal::open(args.journal().as_deref())?;
    let mut outage = signal(SignalKind::user_defined1())?;
    let mut slow_health = signal(SignalKind::user_defined2())?;
    // Before the address is published, so that a signal finds its handler. PM2 stops an app with SIGINT.
    let mut stop = match args.stop {
        Stop::Abrupt => None,
        Stop::Graceful | Stop::Linger => Some([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        ]),
    };
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, args.port))).await?;
    let (close, closing) = watch::channel(false);
    let (busy, mut all_done) = mpsc::channel::<Infallible>(1);
    let app = Arc::new(DemoApp {
        name: HeaderValue::from_str(&args.name).map_err(std::io::Error::other)?,
        journal,
        signalled: AtomicBool::new(false),
        outage: AtomicBool::new(false),
        slow_health: AtomicBool::new(false),
        closing,
        busy: busy.downgrade(),
    });
    app.journal.event("listening");
    crate::rt::output::print(
        &serde_json::json!({ "address": listener.local_addr()?.to_string() }).to_string(),
    );

    let router = router(app.clone());
    let mut last_accept = None;
    loop {
        let until = last_accept.unwrap_or_else(|| tokio::time::Instant::now() + FORCED_EXIT);
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(connection(stream, app.clone(), router.clone(), busy.clone()))),
                // For example, no descriptor is left. Without a pause this would be a busy loop.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            _ = outage.recv() => { app.outage.fetch_xor(true, Ordering::Relaxed); }
            _ = slow_health.recv() => { app.slow_health.fetch_xor(true, Ordering::Relaxed); }
            () = received(&mut stop), if last_accept.is_none() => {
                app.signalled.store(true, Ordering::Relaxed);
                app.journal.event("signalled");
                let linger = if args.stop == Stop::Linger { LINGER_TIME } else { Duration::ZERO };
                last_accept = Some(tokio::time::Instant::now() + linger);
            }
            () = tokio::time::sleep_until(until), if last_accept.is_some() => break,
        }
    }
    drop(listener);
    close.send_replace(true);
    drop(busy);
    let finished = tokio::time::timeout(FORCED_EXIT, all_done.recv()).await;
    app.journal.event("exit");
    finished
        .map(|_| ())
        .map_err(|_| std::io::Error::other("work was still in flight after 30 s: forced exit"))
}

async fn received(signals: &mut Option<[tokio::signal::unix::Signal; 2]>) {
    match signals {
        Some([terminate, interrupt]) => tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        },
        None => std::future::pending().await,
    }
}

/// A restarted instance takes the port of the previous one, whose last sockets may stay open for a moment.
async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Err(e)
                if e.kind() == std::io::ErrorKind::AddrInUse && begun.elapsed() < BIND_TIMEOUT =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(e) => {
                return Err(std::io::Error::new(
                    e.kind(),
                    format!("can't listen on {address}: {e}"),
                ));
            }
            Ok(listener) => return Ok(listener),
        }
    }
}

async fn connection(
    stream: TcpStream,
    app: Arc<DemoApp>,
    router: Router,
    _busy: mpsc::Sender<Infallible>,
) {
    let _ = stream.set_nodelay(true);
    let closing = app.closing.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, router) = (app.clone(), router.clone());
        async move {
            if let Some(id) = request
                .headers()
                .get("x-demo-id")
                .and_then(|v| v.to_str().ok())
            {
                app.journal
                    .arrival(id, request.method().as_str(), request.uri().path());
            }
            let mut response = router.oneshot(request.map(Body::new)).await?;
            response
                .headers_mut()
                .insert("x-demo-app", app.name.clone());
            Ok::<_, Infallible>(response)
        }
    });
    let http = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(http);
    tokio::select! {
        _ = http.as_mut() => return,
        () = closed(closing) => http.as_mut().graceful_shutdown(),
    }
    let _ = http.await;
}

fn router(app: Arc<DemoApp>) -> Router {
    Router::new()
        .route("/", get(hello))
        .route("/echo", post(echo))
        .route("/slow", get(slow))
        .route("/large", get(large))
        .route("/sse", get(events))
        .route("/ws", get(websocket))
        .route("/health", get(health))
        .with_state(app)
}

async fn hello(State(app): State<Arc<DemoApp>>) -> String {
    format!("hello from {}\n", app.name.to_str().unwrap_or_default())
}

async fn echo(body: Bytes) -> Bytes {
    body
}

#[derive(serde::Deserialize)]
struct Large {
    #[serde(default = "two_mebibytes")]
    kib: usize,
}

/// More than a socket's buffers take from a client that reads slowly.
fn two_mebibytes() -> usize {
    2_048
}

async fn large(Query(large): Query<Large>) -> Vec<u8> {
    vec![b'x'; large.kib.min(8_192) << 10]
}

#[derive(serde::Deserialize)]
struct Slow {
    #[serde(default = "two_seconds")]
    ms: u64,
}

fn two_seconds() -> u64 {
    2_000
}

async fn slow(Query(slow): Query<Slow>) -> String {
    let ms = slow.ms.min(60_000);
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("took {ms} ms\n")
}

async fn health(State(app): State<Arc<DemoApp>>) -> (StatusCode, &'static str) {
    if app.slow_health.load(Ordering::Relaxed) {
        tokio::time::sleep(SLOW_HEALTH).await;
    }
    if app.signalled.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if app.outage.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "database down\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

/// Server-sent events, ten a second, until the client leaves or the app stops.
async fn events(State(app): State<Arc<DemoApp>>) -> Response {
    let ticks = tokio::time::interval(Duration::from_millis(100));
    let stream = futures_util::stream::unfold((ticks, 0u64), |(mut ticks, n)| async move {
        ticks.tick().await;
        Some((
            Ok::<_, Infallible>(format!("id: {n}\ndata: tick {n}\n\n")),
            (ticks, n + 1),
        ))
    });
    let stopped = Box::pin(closed(app.closing.clone()));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from_stream(stream.take_until(stopped))).into_response()
}

async fn websocket(State(app): State<Arc<DemoApp>>, upgrade: WebSocketUpgrade) -> Response {
    // Taken here, because nothing else keeps the app alive between this answer and the conversation.
    let busy = app.busy.upgrade();
    upgrade.on_upgrade(move |socket| async move {
        converse(socket, app).await;
        drop(busy);
    })
}

/// Waits until the app accepts no more connections.
async fn closed(mut closing: watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Echoes messages until either side closes; a stopping app sends 1001 (going away, RFC 6455, section 7.4.1) with its
/// name.
async fn converse(mut socket: ws::WebSocket, app: Arc<DemoApp>) {
    let closing = closed(app.closing.clone());
    tokio::pin!(closing);
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(message @ (ws::Message::Text(_) | ws::Message::Binary(_)))) => {
                    if socket.send(message).await.is_err() { return }
                }
                Some(Ok(_)) => {} // Pings are answered by the library; a close ends the stream.
                Some(Err(_)) | None => return,
            },
            () = &mut closing => break,
        }
    }
    let frame = ws::CloseFrame {
        code: ws::close_code::AWAY,
        reason: "demo-app stops".into(),
    };
    let _ = socket.send(ws::Message::Close(Some(frame))).await;
    // Waits for the peer's close frame, so that ours isn't lost in a reset; but not for ever.
    let _ = tokio::time::timeout(Duration::from_secs(1), async {
        while let Some(Ok(_)) = socket.next().await {}
    })
    .await;
}
