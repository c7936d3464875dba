//! Serves the listeners of the admin API: accepts and limits connections, and ends them gracefully.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::ServiceExt;

use super::encrypted::{self, ShownCertificate};
use super::listen::BoundDoors;
use super::origin::HostNames;
use super::peer::AdminPeer;
use super::places::{ConnectionSlot, DoorPlaces};
use super::reserve::{DescriptorReserve, ReservedConnection};
use super::router::router;
use super::shared_answer::SharedAnswer;
use super::write_timeout::WriteStall;
use super::{AdminDoor, AdminState, AdminToken, ProxyProcess};
use crate::config::ListenAddress;
use crate::registry::RegistryHandle;
use crate::tls::server::ServerTls;

/// Time after which a TCP peer that acknowledges nothing counts as gone, and its lease with it.
const SILENCE: Duration = Duration::from_secs(10);
/// Timeout for a request's header, and for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout without progress of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause before accepting again after a failure that nothing can be done about.
const PAUSE: Duration = Duration::from_millis(20);
/// Time for responses in progress when the process stops.
const GRACE: Duration = Duration::from_secs(2);
/// Connections that are accepted before those that were accepted before get a turn.
const ACCEPTED_AT_ONCE: u32 = 32;
/// Longest time for the answer to a probe on a connection that was displaced.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// Maximum size of a header block, in bytes; the read buffer is twice as large.
const MAX_HEADER: usize = 32 * 1024;

/// Whether the admin API accepts connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorPhase {
    /// Connections are accepted.
    Open,
    /// Connections wait in the accept queues: for this process, or for the one that takes over.
    Held,
    /// Another process has the sockets. Requests that are waiting here are still answered.
    Left,
}

/// The settings of the admin API, besides its addresses.
#[derive(Default)]
pub struct DoorSettings {
    /// The token for changes over TCP.
    pub token: Option<AdminToken>,
    /// `[admin] hosts`.
    pub hosts: Vec<String>,
    /// `[admin.tls]`.
    pub tls: Option<Arc<ServerTls>>,
    /// `[admin] apps_pools`; empty: all.
    pub apps_pools: Vec<String>,
    /// Whether connections are accepted; `None`: always, until the end.
    pub phase: Option<watch::Receiver<DoorPhase>>,
}

/// Serves the admin API until `stop` is true (or its sender is gone), then finishes requests in progress within 2 s
/// and removes the socket's file. Must run on a runtime separate from the data plane's.
///
/// # Errors
/// If a listener can't be registered with the runtime.
pub async fn serve(
    bound: BoundDoors,
    registry: RegistryHandle,
    process: Arc<dyn ProxyProcess>,
    settings: DoorSettings,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let phase = settings
        .phase
        .unwrap_or_else(|| watch::channel(DoorPhase::Open).1);
    let (end_streams, streams_end) = watch::channel(false);
    let admin = AdminState {
        registry,
        process,
        token: settings.token.map(Arc::new),
        stop: streams_end,
        door: AdminDoor::Unix,
        hosts: None,
        apps_pools: settings.apps_pools.into(),
        scraped: SharedAnswer::default(),
        listed: SharedAnswer::default(),
    };
    let at = |door: AdminDoor| AdminState {
        door,
        ..admin.clone()
    };
    let reserve = bound.reserve;
    let mut doors = JoinSet::new();
    // Held until the end: dropping them removes the files.
    let mut socket_files = Vec::new();
    for (unix, door) in [(bound.unix, AdminDoor::Unix), (bound.apps, AdminDoor::Apps)] {
        let Some((listener, mut file)) = unix else {
            continue;
        };
        file.serve();
        let listener = AdminListener::Unix(UnixListener::from_std(listener)?);
        socket_files.push(file);
        // On the main socket all clients have the same rights; among apps, one must not shut out the others.
        let places = DoorPlaces::new(door == AdminDoor::Apps);
        let hosts = HostNames::for_socket(settings.hosts.clone());
        let router = router(AdminState {
            hosts: Some(Arc::new(hosts)),
            ..at(door)
        });
        doors.spawn(open(
            listener,
            None,
            router,
            places,
            reserve.clone(),
            (phase.clone(), stop.clone()),
        ));
    }
    if let Some(listener) = bound.http {
        let address = listener.local_addr()?;
        let ip = address.ip();
        let listener = AdminListener::Tcp(TcpListener::from_std(listener)?);
        let mut hosts = settings.hosts;
        if let Some(tls) = &settings.tls {
            hosts.extend(encrypted::names_of(tls));
            encrypted::watch_files(tls.clone(), ListenAddress::from(address));
        }
        let loopback = ip.is_loopback();
        let router = router(AdminState {
            hosts: Some(Arc::new(HostNames::new(ip, hosts))),
            ..at(AdminDoor::Http { loopback })
        });
        let places = DoorPlaces::new(true);
        doors.spawn(open(
            listener,
            settings.tls,
            router,
            places,
            reserve.clone(),
            (phase.clone(), stop.clone()),
        ));
    }
    if let Some(listener) = bound.probes {
        let listener = AdminListener::Tcp(TcpListener::from_std(listener)?);
        let router = router(at(AdminDoor::Probes));
        let places = DoorPlaces::new(true);
        let told = (phase.clone(), stop.clone());
        doors.spawn(open(listener, None, router, places, reserve, told));
    }
    tokio::select! {
        // Checked before the end, in case both apply: the files belong to another process.
        biased;
        () = reached(phase, |phase| phase == DoorPhase::Left) => {
            for file in &mut socket_files {
                file.leave();
            }
            let _ = end_streams.send(true);
            stopped(stop).await;
        }
        () = stopped(stop.clone()) => {}
    }
    let _ = end_streams.send(true);
    while doors.join_next().await.is_some() {}
    drop(socket_files);
    Ok(())
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // If the sender is gone, the process is exiting.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Waits until the phase fulfils `is_it`; for ever if the phase can't change any more.
async fn reached(mut phase: watch::Receiver<DoorPhase>, is_it: impl Fn(DoorPhase) -> bool) {
    if phase.wait_for(|phase| is_it(*phase)).await.is_err() {
        std::future::pending().await
    }
}

enum AdminListener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl AdminListener {
    async fn accept(
        &self,
        reserve: &Arc<DescriptorReserve>,
    ) -> io::Result<(ReservedConnection, AdminPeer)> {
        match self {
            AdminListener::Unix(listener) => {
                let accept = poll_fn(|cx| reserve.accept(|| listener.poll_accept(cx)));
                let (stream, _) = accept.await?;
                let peer = AdminPeer::process(&stream.peer_cred()?);
                Ok((ReservedConnection::unix(stream, reserve.clone()), peer))
            }
            AdminListener::Tcp(listener) => {
                let accept = poll_fn(|cx| reserve.accept(|| listener.poll_accept(cx)));
                let (stream, address) = accept.await?;
                // A socket that is already closed reports that when it is read.
                let _ = stream.set_nodelay(true);
                #[cfg(target_os = "linux")]
                let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(SILENCE));
                let stream = ReservedConnection::tcp(stream, reserve.clone());
                Ok((stream, AdminPeer::Address(address)))
            }
        }
    }
}

/// Serves one listener with its own places, so that a full listener doesn't affect the others.
async fn open(
    listener: AdminListener,
    tls: Option<Arc<ServerTls>>,
    router: Router,
    places: Arc<DoorPlaces>,
    reserve: Arc<DescriptorReserve>,
    (phase, stop): (watch::Receiver<DoorPhase>, watch::Receiver<bool>),
) {
    let mut connections = JoinSet::new();
    let mut stopping = pin!(stopped(stop.clone()));
    let mut left = pin!(reached(phase.clone(), |phase| phase == DoorPhase::Left));
    let mut told = false;
    let mut is_left = false;
    let mut accepted_at_once = 0;
    loop {
        let is_open = *phase.borrow() == DoorPhase::Open;
        let changed = reached(phase.clone(), |now| (now == DoorPhase::Open) != is_open);
        let accepted = tokio::select! {
            biased;
            () = &mut stopping => break,
            () = &mut left => {
                is_left = true;
                break;
            }
            () = changed => continue,
            // Reaped as they end, or the set would grow for ever.
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(&reserve), if is_open && places.take_more() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                told = false;
                reserve.fill();
                let talk = Talk {
                    router: router.clone(),
                    slot: places.enter(peer.source()),
                    peer,
                    told: (phase.clone(), stop.clone()),
                };
                connections.spawn(converse(stream, tls.clone(), talk));
                accepted_at_once += 1;
                if accepted_at_once == ACCEPTED_AT_ONCE {
                    accepted_at_once = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "can't accept an admin connection");
                }
                // Probably out of descriptors, and the reserve is in use. Closing the oldest idle connection makes
                // room.
                if !places.push_one_out() {
                    tokio::time::sleep(PAUSE).await;
                    reserve.fill();
                }
                // Connections that were displaced close now.
                tokio::task::yield_now().await;
            }
        }
    }
    // New connections are refused from here on, unless another process has the socket.
    drop(listener);
    if is_left {
        let served = async { while connections.join_next().await.is_some() {} };
        tokio::select! {
            () = stopping => {}
            () = served => {}
        }
    }
    let _ = timeout(GRACE, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

/// What is needed to serve a connection.
struct Talk {
    router: Router,
    slot: ConnectionSlot,
    peer: AdminPeer,
    told: (watch::Receiver<DoorPhase>, watch::Receiver<bool>),
}

async fn converse(stream: ReservedConnection, tls: Option<Arc<ServerTls>>, talk: Talk) {
    let Some(tls) = tls else {
        return serve_connection(stream, false, talk).await;
    };
    let pushed_out = talk.slot.clone();
    let shaken = tokio::select! {
        shaken = timeout(HEADER_TIMEOUT, encrypted::shake_hands(&tls, stream)) => shaken,
        () = pushed_out.pushed_out() => return,
    };
    match shaken {
        Ok(Ok((stream, shown))) => serve_connection(stream, shown, talk).await,
        Ok(Err(error)) => {
            tracing::debug!(peer = %talk.peer, %error, "a TLS handshake of the admin API failed");
        }
        Err(_elapsed) => {
            tracing::debug!(peer = %talk.peer, "a TLS handshake of the admin API took too long");
        }
    }
}

/// Serves a connection. `shown`: the client has presented a certificate that is accepted.
async fn serve_connection<S>(stream: S, shown: bool, talk: Talk)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Talk {
        router,
        slot,
        peer,
        told: (phase, stop),
    } = talk;
    let kept = slot.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        let (router, slot) = (router.clone(), slot.clone());
        request.extensions_mut().insert(slot.clone());
        request.extensions_mut().insert(peer);
        if shown {
            request.extensions_mut().insert(ShownCertificate);
        }
        async move {
            let path = request.uri().path().to_owned();
            let answer = router.oneshot(request.map(Body::new));
            Ok::<_, Infallible>(into_ok(slot.answer(path, answer).await))
        }
    });
    let stream = TokioIo::new(WriteStall::new(stream, WRITE_TIMEOUT));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(MAX_HEADER)
        .max_buf_size(2 * MAX_HEADER)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        // A request that is there is read before the connection loses its place.
        biased;
        ended = connection.as_mut() => ended,
        () = kept.pushed_out() => {
            tracing::debug!(%peer, "an admin connection made room for another one");
            connection.as_mut().graceful_shutdown();
            // A probe's answer is still made, and goes as far as the client takes it at once.
            let answered = poll_fn(|cx| match connection.as_mut().poll(cx) {
                Poll::Pending if kept.is_probed() => Poll::Pending,
                _ => Poll::Ready(()),
            });
            let _ = timeout(LAST_ANSWER, answered).await;
            return;
        }
        () = stopped(stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        // A client that reconnects then reaches the process that serves.
        () = reached(phase, |phase| phase != DoorPhase::Open) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection ended");
    }
}

#[cfg(test)]
mod tests;

fn into_ok<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
