//! HTTP/2 sessions with backends: opened when no existing one has room, driven by a task of their own, and closed
//! with GOAWAY.
//!
//! A session is a connection of its epoch like any other: it holds a ticket, so a drain is not complete before it is
//! closed. When its epoch ends, it takes no new streams and closes as soon as the last one ends.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Poll};
use std::time::Duration;

use h2::client::{self, SendRequest};
use h2::{Ping, PingPong, Reason};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use crate::config;
use crate::core::Time;
use crate::net::connect_fault::ConnectFault;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::h2::client_stream::{ClientStream, SessionLink};
use crate::proxy::h2::session_watch::{SessionExcess, SessionWatch, WatchedSession};
use crate::proxy::h2::sieve::{HeadSender, HeadSieve, SievedStream};
use crate::proxy::h2::wire::SessionWire;
use crate::proxy::memory::{self, SessionMemory, UnsentContent};
use crate::proxy::upstream::ProxiedAddrs;
use crate::proxy::upstream::connect::{ConnectError, dial};
use crate::registry::endpoint::{
    BackendSession, ConnectionTicket, Endpoint, IdleConnection, Permit, SessionStream,
};
use crate::rt::clock::{sleep, timeout};
use crate::rt::panics;
use crate::rt::shutdown_signal::ShutdownLevel;
use crate::tls::upstream::Alpn;

/// Time for which reduced windows stay reduced: each change is a frame that the backend has to acknowledge.
const STAYS_NARROW: Duration = Duration::from_secs(5);

/// Most streams that are remembered for a second after they were reset: frames that the backend had sent by then are
/// dropped. For a stream that is not remembered, the `h2` crate would answer each frame with a reset, as if the backend
/// were at fault.
const RESET_STREAMS: usize = 1024;

/// Maximum number of a request's bytes that are buffered until they can be written.
const SEND_BUFFER: usize = 64 * 1024;

/// Maximum size of a response head, in bytes. `max_header` is checked when the head is read.
const MAX_HEAD: u32 = 1024 * 1024;

/// Longest time for writing the last frames of a session.
const GOODBYE: Duration = Duration::from_secs(1);

/// Before a drain's deadline closes the connection, the streams get this time to be reset, so that each one's failure
/// has its cause.
const LAST_RESETS: Duration = Duration::from_millis(50);

/// Interval of PINGs while there are streams: gRPC servers treat more than one in 5 minutes as abuse. TCP keep-alive
/// notices a dead host much sooner.
const PING: Duration = Duration::from_secs(310);

/// Returns a stream on a session that is already open, if there is one with room.
pub fn reuse(permit: &Permit) -> Option<Box<IdleConnection>> {
    let (endpoint, epoch) = (permit.endpoint(), permit.epoch());
    if endpoint.epoch() != epoch {
        return None;
    }
    let entered = endpoint.sessions.enter(epoch)?;
    Some(connection(endpoint, entered))
}

/// Returns a stream on a session, which is opened if necessary.
///
/// # Errors
/// The same as for [`super::connect::open_connection`]; nothing was sent.
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
            // The session that this request waited for has failed; the request that opened it has reported that.
            return match sessions.enter_any(epoch) {
                Some(entered) => Ok(connection(endpoint, entered)),
                None => Err(ConnectError::Ignored),
            };
        }
        if let Err(error) = open(plane, permit, upstream).await {
            if !matches!(error, ConnectError::Moved) {
                sessions.failed.fetch_add(1, Ordering::AcqRel);
            }
            // A busy session is better than none.
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
        // Fail-open: the session ends with its last stream, or it would keep the app from stopping.
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
        // If the transport changes, the whole session is closed.
        transport: endpoint.transports(),
        expires: Time::MAX,
        safe_until: Time::MAX,
        requests: 0,
        sent: 0,
        // The backend has sent SETTINGS, so its process has accepted the connection.
        accepted: true,
        ticket,
    })
}

/// Opens a session, and waits for the backend's SETTINGS: they say how many streams it allows, and prove that it
/// speaks HTTP/2 and that its process has accepted the connection, which an accept queue alone does not.
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
        // A malformed response fails its own request and no other, however many there are: see `watch`.
        .max_local_error_reset_streams(None)
        .max_concurrent_reset_streams(RESET_STREAMS)
        // No stream before the backend's SETTINGS have arrived; a change of the number shows that they have.
        .initial_max_send_streams(0)
        .handshake::<_, UnsentContent>(stream)
        .await
        .map_err(failed)?;
    let link = SessionLink::new(sender.clone(), memory.clone());
    let session = Arc::new(BackendSession::new(epoch, link.clone()));
    let (settled, settings) = oneshot::channel();
    let driver = SessionDriver {
        connection,
        watch,
        memory,
        window,
        narrowed: None,
        session: session.clone(),
        link,
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

/// The task of a session.
struct SessionDriver {
    connection: client::Connection<SievedStream<WatchedSession<SessionWire>>, UnsentContent>,
    watch: Arc<SessionWatch>,
    memory: Arc<SessionMemory>,
    /// Flow-control window of one response, in bytes.
    window: u32,
    /// When the window was reduced.
    narrowed: Option<tokio::time::Instant>,
    session: Arc<BackendSession>,
    link: Arc<SessionLink>,
    /// Keeps the connection open as long as it exists.
    sender: Option<SendRequest<UnsentContent>>,
    endpoint: Arc<Endpoint>,
    /// The transport with which the connection was opened.
    transport: u32,
    /// Notified when the backend's SETTINGS have arrived.
    settled: Option<oneshot::Sender<()>>,
    ping: Option<PingPong>,
    /// How long the session may be without a stream before it is closed.
    idle: Duration,
    /// Number of streams used at the last check.
    uses: u64,
    /// Whether it takes no new streams.
    is_leaving: bool,
    /// Whether an excess was logged already.
    is_excess: bool,
    /// Time of the next check.
    timer: Pin<Box<Sleep>>,
    /// Time at which it is closed, whatever is in progress.
    last: Option<Pin<Box<Sleep>>>,
    pinged: tokio::time::Instant,
    is_waiting_for_pong: bool,
}

/// Runs a session to its end. The ticket is dropped last, after the descriptor is closed.
async fn drive(driver: SessionDriver, ticket: ConnectionTicket) {
    let (session, endpoint) = (driver.session.clone(), driver.endpoint.clone());
    let link = driver.link.clone();
    {
        let mut driver = pin!(driver);
        let driving = pin!(poll_fn(|cx| driver.poll(cx, &ticket)));
        // However the session ends, it must not stay in the list of sessions that take requests.
        let _ = panics::catch(driving).await;
    }
    let was_ours = session.is_closed();
    session.close();
    endpoint.sessions.remove(&session);
    link.end();
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
                    // The `h2` crate has already ended the connection for this reason.
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
            // Dropping the last handle makes the connection send GOAWAY and close.
            self.link.end();
            self.sender = None;
            self.ping = None;
            if self.last.is_none() {
                self.last = Some(Box::pin(sleep(GOODBYE)));
            }
        }
    }

    /// Sets the flow-control window of responses to what the memory allows.
    fn choose_window(&mut self) {
        let window = self.memory.window();
        let is_settled = || {
            self.narrowed
                .is_none_or(|since| since.elapsed() >= STAYS_NARROW)
        };
        if window == self.window || (window > self.window && !is_settled()) {
            return;
        }
        // Until the backend has acknowledged the last change, there is no other: then its acknowledgement comes here
        // first.
        if self.connection.set_initial_window_size(window).is_ok() {
            self.window = window;
            self.memory.set_window(window);
            self.narrowed = (window == memory::NARROW).then(tokio::time::Instant::now);
        }
    }

    /// Follows what the backend says about new streams: how many it allows, or none any more (GOAWAY).
    fn heed(&mut self, cx: &mut Context<'_>) {
        let Some(sender) = &mut self.sender else {
            return;
        };
        let streams = sender.current_max_send_streams();
        self.session.allow(streams);
        let has_settings = streams > 0;
        if has_settings && let Some(settled) = self.settled.take() {
            self.endpoint.sessions.add(&self.session);
            // A new epoch or transport may have begun meanwhile: the fence makes sure that one of the two sides sees
            // the other's change.
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

    /// Stops using a session whose backend ends streams early in large numbers, or sends many frames without content.
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
            // Before the SETTINGS nobody can use the session: `connect_timeout` limits that time.
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
