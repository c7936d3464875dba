//! Sessions with backends: opened when there is none with room, driven by a task of their own, and closed with
//! GOAWAY.
//!
//! A session is a connection of its epoch like any other: it holds a ticket, so "drained" waits until it is closed.
//! When its epoch is over it takes no new streams and closes the instant the last one ends.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Ping, PingPong, Reason};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::config;
use crate::core::Time;
use crate::net::connect_fault::ConnectFault;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::h2::client_stream::ClientStream;
use crate::proxy::h2::session_watch::{SessionExcess, SessionWatch, WatchedSession};
use crate::proxy::h2::sieve::{HeadSender, HeadSieve, SievedStream};
use crate::proxy::h2::wire::SessionWire;
use crate::proxy::memory::{self, SessionMemory};
use crate::proxy::upstream::ProxiedAddrs;
use crate::proxy::upstream::connect::{ConnectError, dial};
use crate::registry::endpoint::{
    BackendSession, ConnectionTicket, Endpoint, IdleConnection, Permit, SessionStream,
};
use crate::rt::clock::{sleep, timeout};
use crate::rt::panics;
use crate::rt::shutdown_signal::ShutdownLevel;
use crate::tls::upstream::Alpn;

/// Windows that were made narrow stay so for so long: each change is a frame that the backend has to acknowledge.
const STAYS_NARROW: Duration = Duration::from_secs(5);

/// Streams that were reset and are remembered for a second: what the backend had sent by then is thrown away. For one that
/// is not remembered, the `h2` crate would answer each frame with a reset, as if the backend were at fault.
const RESET_STREAMS: usize = 1024;

/// What is kept of a request until it can be written.
const SEND_BUFFER: usize = 64 * 1024;

/// Largest head of a response, in bytes. `max_header` is looked at when it is read.
const MAX_HEAD: u32 = 1024 * 1024;

/// How long the last frames of a session may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// At a drain's deadline, the streams are cut first, so that each knows why.
const LAST_RESETS: Duration = Duration::from_millis(50);

/// From one PING to the next, while there are streams: gRPC servers take more than one in 5 minutes for abuse. The
/// kernel's own keep-alive sees a host that is gone much sooner.
const PING: Duration = Duration::from_secs(310);

/// A stream on a session that is open already, if there is one with room.
pub fn reuse(permit: &Permit) -> Option<Box<IdleConnection>> {
    let (endpoint, epoch) = (permit.endpoint(), permit.epoch());
    if endpoint.epoch() != epoch {
        return None;
    }
    let entered = endpoint.sessions.enter(epoch)?;
    Some(connection(endpoint, entered))
}

/// A stream on a session; on a new one, if need be.
///
/// # Errors
/// As for [`super::connect::open_connection`]; nothing was sent.
pub async fn connect(
    plane: &DataPlane,
    permit: &Permit,
    upstream: &config::UpstreamConfig,
) -> Result<Box<IdleConnection>, ConnectError> {
    let (endpoint, epoch) = (permit.endpoint(), permit.epoch());
    let sessions = &endpoint.sessions;
    loop {
        if let Some(connection) = reuse(permit) {
            return Ok(connection);
        }
        let failed = sessions.failed.load(Ordering::Acquire);
        let opening = sessions.opening.lock().await;
        if let Some(connection) = reuse(permit) {
            return Ok(connection);
        }
        if endpoint.epoch() != epoch {
            return Err(ConnectError::Moved);
        }
        if sessions.failed.load(Ordering::Acquire) != failed {
            // The session that this one waited for has failed; the request that opened it has reported that.
            return match sessions.enter_any(epoch) {
                Some(entered) => Ok(connection(endpoint, entered)),
                None => Err(ConnectError::Ignored),
            };
        }
        if let Err(error) = open(plane, permit, upstream).await {
            if !matches!(error, ConnectError::Moved) {
                sessions.failed.fetch_add(1, Ordering::AcqRel);
            }
            // A busy one is better than none.
            return match sessions.enter_any(epoch) {
                Some(entered) => Ok(connection(endpoint, entered)),
                None => Err(error),
            };
        }
        drop(opening);
        if endpoint.epoch() != epoch {
            return Err(ConnectError::Moved);
        }
    }
}

fn connection(endpoint: &Arc<Endpoint>, entered: SessionStream) -> Box<IdleConnection> {
    if endpoint.gate.is_closed() {
        // Fail-open: it ends with its last stream, or it would keep the app from stopping.
        entered.session().close();
    }
    let ticket = endpoint.connection_opened();
    let scheme = endpoint.transport().0.scheme();
    Box::new(IdleConnection {
        epoch: entered.session().epoch,
        stream: Box::new(ClientStream::new(
            entered,
            scheme,
            ticket.interrupt().clone(),
        )),
        // Its session is closed when the transport changes.
        transport: endpoint.transports(),
        expires: Time::MAX,
        safe_until: Time::MAX,
        requests: 0,
        sent: 0,
        // The process has accepted it: it has sent SETTINGS.
        accepted: true,
        ticket,
    })
}

/// Opens a session, and waits for the backend's SETTINGS: they say how many streams it takes, that it speaks HTTP/2 at
/// all, and that its process has accepted the connection, which a listener's queue alone does not.
async fn open(
    plane: &DataPlane,
    permit: &Permit,
    upstream: &config::UpstreamConfig,
) -> Result<(), ConnectError> {
    let (endpoint, epoch) = (permit.endpoint(), permit.epoch());
    let dialled = dial(plane, permit, upstream, ProxiedAddrs::nobody(), Alpn::H2).await?;
    let (stream, ticket) = (dialled.dressed.stream, dialled.ticket);
    let sieve = HeadSieve::new(HeadSender::Backend, MAX_HEAD as usize);
    let watch = Arc::new(SessionWatch::default());
    let resets = plane.registry.snapshot().config.server.max_stream_resets;
    let memory = Arc::<SessionMemory>::default();
    let window = memory.window();
    memory.set_window(window);
    let wire = SessionWire::new(stream);
    let stream = WatchedSession::new(wire, watch.clone(), memory.clone(), resets);
    let stream = SievedStream::new(stream, sieve);
    let failed = |error: h2::Error| {
        let fault = error
            .get_io()
            .map_or(ConnectFault::NotHttp2, ConnectFault::of);
        ConnectError::Failed(fault, format!("HTTP/2: {error}"))
    };
    let (sender, connection) = client::Builder::new()
        .initial_window_size(window)
        .initial_connection_window_size(memory::SESSION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(MAX_HEAD)
        .enable_push(false)
        // An answer that is malformed fails its own request and no other, however many there are: see `watch`.
        .max_local_error_reset_streams(None)
        .max_concurrent_reset_streams(RESET_STREAMS)
        // No stream before the backend's SETTINGS are here; the number changing shows that they are.
        .initial_max_send_streams(0)
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(failed)?;
    let session = Arc::new(BackendSession::new(epoch, sender.clone(), memory.clone()));
    let (settled, settings) = oneshot::channel();
    let driver = SessionDriver {
        connection,
        watch,
        memory,
        window,
        narrowed: None,
        session: session.clone(),
        sender: Some(sender),
        endpoint: endpoint.clone(),
        transport: dialled.transport,
        settled: Some(settled),
        ping: None,
        idle: upstream.idle_timeout / 2,
        uses: 0,
        is_leaving: false,
        is_excess: false,
        timer: Box::pin(sleep(upstream.idle_timeout / 2)),
        last: None,
        pinged: tokio::time::Instant::now(),
        is_waiting_for_pong: false,
    };
    tokio::spawn(drive(driver, ticket));
    match timeout(upstream.connect_timeout, settings).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(ConnectError::Failed(
            ConnectFault::NotHttp2,
            "it closed the connection without a word of HTTP/2 (http2 = true wants backends that speak it)".to_owned(),
        )),
        Err(_) => {
            session.close();
            Err(ConnectError::Ignored)
        }
    }
}

/// A session's task.
struct SessionDriver {
    connection: client::Connection<SievedStream<WatchedSession<SessionWire>>, Bytes>,
    watch: Arc<SessionWatch>,
    memory: Arc<SessionMemory>,
    /// What the backend may send of one response before it was read.
    window: u32,
    /// When that became less.
    narrowed: Option<tokio::time::Instant>,
    session: Arc<BackendSession>,
    /// As long as it is here, the connection stays open.
    sender: Option<SendRequest<Bytes>>,
    endpoint: Arc<Endpoint>,
    /// The transport that the connection was opened with.
    transport: u32,
    /// To be told of the backend's SETTINGS.
    settled: Option<oneshot::Sender<()>>,
    ping: Option<PingPong>,
    /// For how long the session may be without a stream before it is closed.
    idle: Duration,
    /// Streams at the last look.
    uses: u64,
    /// It takes no new streams.
    is_leaving: bool,
    /// An excess was logged already.
    is_excess: bool,
    /// The next look.
    timer: Pin<Box<Sleep>>,
    /// When it is closed, whatever is under way.
    last: Option<Pin<Box<Sleep>>>,
    pinged: tokio::time::Instant,
    is_waiting_for_pong: bool,
}

/// Runs a session to its end. The ticket goes last: the descriptor is closed by then.
async fn drive(driver: SessionDriver, ticket: ConnectionTicket) {
    let (session, endpoint) = (driver.session.clone(), driver.endpoint.clone());
    {
        let mut driver = pin!(driver);
        let driving = pin!(poll_fn(|cx| driver.poll(cx, &ticket)));
        // However the session ends, it must not stay in the list of those that take requests.
        let _ = panics::catch(driving).await;
    }
    let was_ours = session.is_closed();
    session.close();
    endpoint.sessions.remove(&session);
    session.end();
    if !was_ours {
        endpoint.peer_closed();
    }
    drop(ticket);
}

impl SessionDriver {
    fn poll(&mut self, cx: &mut Context<'_>, ticket: &ConnectionTicket) -> Poll<()> {
        self.session.register(cx.waker());
        ticket.interrupt().register(cx.waker());
        if ticket.interrupt().level() == ShutdownLevel::Cut && self.last.is_none() {
            self.session.close();
            self.last = Some(Box::pin(sleep(LAST_RESETS)));
        }
        loop {
            self.choose_window();
            if let Poll::Ready(result) = Pin::new(&mut self.connection).poll(cx) {
                if let Err(error) = &result
                    && error.is_library()
                    && error.reason() == Some(Reason::ENHANCE_YOUR_CALM)
                {
                    // The `h2` crate has ended the connection for that reason already.
                    self.watch.note_flood();
                }
                self.judge_excess();
                if let Err(error) = result {
                    tracing::debug!(pool = %self.endpoint.pool, backend = %self.endpoint.name, %error, "session ended");
                }
                return Poll::Ready(());
            }
            if let Some(last) = &mut self.last
                && last.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(());
            }
            self.heed(cx);
            self.judge_excess();
            if self.poll_timer(cx).is_break() {
                return Poll::Ready(());
            }
            if !self.session.is_closed() {
                return Poll::Pending;
            }
            if !std::mem::replace(&mut self.is_leaving, true) {
                self.endpoint.sessions.remove(&self.session);
            }
            if self.session.streams() > 0 || self.sender.is_none() {
                return Poll::Pending;
            }
            // The last handle: now the connection says GOAWAY, and closes.
            self.session.end();
            self.sender = None;
            self.ping = None;
            if self.last.is_none() {
                self.last = Some(Box::pin(sleep(GOODBYE)));
            }
        }
    }

    /// Asks for as much as there is memory for, of each response.
    fn choose_window(&mut self) {
        let window = self.memory.window();
        let is_settled = || {
            self.narrowed
                .is_none_or(|since| since.elapsed() >= STAYS_NARROW)
        };
        if window == self.window || (window > self.window && !is_settled()) {
            return;
        }
        // Until the backend has acknowledged the last change, there is no other: then its acknowledgement comes here first.
        if self.connection.set_initial_window_size(window).is_ok() {
            self.window = window;
            self.memory.set_window(window);
            self.narrowed = (window == memory::NARROW).then(tokio::time::Instant::now);
        }
    }

    /// What the backend says about new streams: how many, or none any more (GOAWAY).
    fn heed(&mut self, cx: &mut Context<'_>) {
        let Some(sender) = &mut self.sender else {
            return;
        };
        let streams = sender.current_max_send_streams();
        self.session.allow(streams);
        let has_settings = streams > 0;
        if has_settings && let Some(settled) = self.settled.take() {
            self.endpoint.sessions.add(&self.session);
            // An epoch may have begun meanwhile, or another transport: of the two, one sees the other.
            fence(Ordering::SeqCst);
            let now = (self.endpoint.epoch(), self.endpoint.transports());
            if now != (self.session.epoch, self.transport) {
                self.session.close();
            }
            let _ = settled.send(());
        }
        if let Poll::Ready(Err(_)) = sender.poll_ready(cx)
            && !self.session.is_closed()
        {
            self.session.close();
            // A backend that sends GOAWAY may be stopping.
            self.endpoint.peer_closed();
        }
    }

    /// A backend that ends streams early in bulk, or sends frames that carry nothing, gets no more of them on this session.
    fn judge_excess(&mut self) {
        let Some(excess) = self.watch.excess() else {
            return;
        };
        if std::mem::replace(&mut self.is_excess, true) {
            return;
        }
        self.session.close();
        self.endpoint.sessions.note_broken();
        if !self.endpoint.may_complain() {
            return;
        }
        let (pool, backend) = (&self.endpoint.pool, &self.endpoint.name);
        match excess {
            SessionExcess::EarlyEnds => tracing::warn!(
                %pool, %backend,
                "a session of HTTP/2 with it is closed, as it ended most of the latest requests there early, by resets or \
                 by frames that break the protocol: look into its log, and at what its HTTP/2 library is"
            ),
            SessionExcess::Overhead => tracing::warn!(
                %pool, %backend,
                "a session of HTTP/2 with it is closed at once, as it sent too many frames that carry nothing (PING, \
                 SETTINGS, WINDOW_UPDATE, RST_STREAM, empty DATA and the like): look into its log, and at what its HTTP/2 \
                 library is"
            ),
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> std::ops::ControlFlow<()> {
        if self.is_waiting_for_pong
            && let Some(ping) = &mut self.ping
            && ping.poll_pong(cx).is_ready()
        {
            self.is_waiting_for_pong = false;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            // At least this long, so that the task doesn't spin.
            let next = self.idle.max(Duration::from_millis(10));
            self.timer
                .as_mut()
                .reset(tokio::time::Instant::now() + next);
            // Before its SETTINGS nobody can use it: `connect_timeout` is for that.
            let is_busy = self.settled.is_some() || self.session.streams() > 0;
            let is_unused = !is_busy && self.session.uses() == self.uses;
            if is_unused || (!is_busy && self.endpoint.gate.is_closed()) {
                self.session.close();
            }
            self.uses = self.session.uses();
            if is_busy && self.pinged.elapsed() >= PING {
                if self.is_waiting_for_pong {
                    return std::ops::ControlFlow::Break(());
                }
                if self.ping.is_none() {
                    self.ping = self.connection.ping_pong();
                }
                let sent = |ping: &mut PingPong| ping.send_ping(Ping::opaque()).is_ok();
                self.is_waiting_for_pong = self.ping.as_mut().is_some_and(sent);
                self.pinged = tokio::time::Instant::now();
            }
        }
        std::ops::ControlFlow::Continue(())
    }
}
