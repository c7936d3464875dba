//! Serves the doors: accepts, limits, and lets go in an orderly way.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::ServiceExt;

use super::listen::Bound;
use super::problem::{Kind, Problem};
use super::router::router;
use super::stall::Stall;
use super::{Admin, Door, Process, Token};
use crate::registry::Handle;

/// Connections at once per door. A blocking drain takes one for as long as it lasts.
const CONNECTIONS: usize = 64;
/// Leases at once, of all doors together: as many instances as launchers may hold.
const LEASES: usize = 4096;
/// A peer over TCP that answers nothing for this long is gone, and its lease with it.
const SILENCE: Duration = Duration::from_secs(10);
/// Connections over the limit that are told so at the same time; beyond that they are just closed.
const TURNED_AWAY: usize = 64;
/// For a request's header, and for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Without progress of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// For responses that are under way when the process stops.
const GRACE: Duration = Duration::from_secs(2);
/// Largest header block; the read buffer is twice as large.
const MAX_HEADER: usize = 32 * 1024;

/// Serves the admin API until `stop` says true (or its sender is gone), then finishes what is under way
/// within 2 s and removes the socket's file. Run it on a runtime of its own, apart from the data plane's.
///
/// # Errors
/// When a listener can't be registered with the runtime.
pub async fn serve(
    bound: Bound,
    registry: Handle,
    process: Arc<dyn Process>,
    token: Option<Token>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let admin = Admin {
        registry,
        process,
        token: token.map(Arc::new),
        stop: stop.clone(),
        leases: Arc::new(Semaphore::new(LEASES)),
    };
    let mut doors = JoinSet::new();
    // Held until the end: dropping it removes the file.
    let mut socket_file = None;
    if let Some((listener, file)) = bound.unix {
        let listener = Listener::Unix(UnixListener::from_std(listener)?);
        socket_file = Some(file);
        doors.spawn(open(
            listener,
            router(admin.clone(), Door::Unix),
            stop.clone(),
        ));
    }
    if let Some(listener) = bound.http {
        let loopback = listener.local_addr()?.ip().is_loopback();
        let listener = Listener::Tcp(TcpListener::from_std(listener)?);
        let door = Door::Http { loopback };
        doors.spawn(open(listener, router(admin.clone(), door), stop.clone()));
    }
    if let Some(listener) = bound.probes {
        let listener = Listener::Tcp(TcpListener::from_std(listener)?);
        doors.spawn(open(listener, router(admin, Door::Probes), stop.clone()));
    }
    stopped(stop).await;
    while doors.join_next().await.is_some() {}
    drop(socket_file);
    Ok(())
}

/// A connection's place among those of its door.
#[derive(Clone)]
pub(super) struct Seat(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Seat {
    /// Gives the place back: this connection is counted elsewhere from now on.
    pub(super) fn give_back(&self) {
        drop(self.0.lock().take());
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone is a process that is going.
    let _ = stop.wait_for(|stop| *stop).await;
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// What comes in through either kind of listener.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Duplex>> {
        match self {
            Listener::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A socket that is gone already says so when it is read.
                let _ = stream.set_nodelay(true);
                #[cfg(target_os = "linux")]
                let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(SILENCE));
                Ok(Box::new(stream))
            }
        }
    }
}

/// One door: its own limits, so that what fills one leaves the others alone.
async fn open(listener: Listener, router: Router, stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let refusals = Arc::new(Semaphore::new(TURNED_AWAY));
    let mut connections = JoinSet::new();
    let mut stopping = pin!(stopped(stop.clone()));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopping => break,
            // Reaped as they end, or the set would grow for ever.
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, most likely: they may come back; spinning would not help.
                tracing::warn!(%error, "can't accept an admin connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Ok(place) = places.clone().try_acquire_owned() {
            connections.spawn(converse(stream, router.clone(), place, stop.clone()));
        } else if let Ok(refusal) = refusals.clone().try_acquire_owned() {
            connections.spawn(turn_away(stream, refusal));
        }
    }
    // New ones are refused from here on.
    drop(listener);
    let _ = timeout(GRACE, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

async fn converse(
    stream: Box<dyn Duplex>,
    router: Router,
    place: OwnedSemaphorePermit,
    stop: watch::Receiver<bool>,
) {
    let seat = Seat(Arc::new(Mutex::new(Some(place))));
    let kept = seat.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let router = router.clone();
        request.extensions_mut().insert(seat.clone());
        async move { Ok::<_, Infallible>(into_ok(router.oneshot(request.map(Body::new)).await)) }
    });
    let stream = TokioIo::new(Stall::new(stream, WRITE_TIMEOUT));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(MAX_HEADER)
        .max_buf_size(2 * MAX_HEADER)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection ended");
    }
    drop(kept);
}

fn into_ok<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

/// Answers a connection that is one too many, without waiting for its request.
async fn turn_away(mut stream: Box<dyn Duplex>, _refusal: OwnedSemaphorePermit) {
    let detail = format!(
        "{CONNECTIONS} connections are open on this listener; blocking drains and event streams take one \
         each. Close some, or ask again."
    );
    let body = Problem::new(Kind::TooManyConnections, detail)
        .document(None)
        .to_string();
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let told = async {
        stream.write_all(response.as_bytes()).await?;
        stream.shutdown().await?;
        // Read to the end: closing with unread data would take the answer back.
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(Duration::from_secs(1), told).await;
}
