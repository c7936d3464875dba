//! HTTP/2 connections of clients: one task drives the `h2` crate for the connection, and each stream is served by the
//! HTTP/1 plane in a task of its own, as a connection with one request.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request};
use pingora::protocols::Stream;

use super::close::LINGER_TIME;
use super::flood_guard::{FloodWatch, WatchedConnection};
use super::opening::{self, EmptyEnd};
use super::serve::FIRST_REQUEST;
use super::serve_one::{WrittenHead, serve_one};
use crate::config::{self, Config};
use crate::core::Time;
use crate::metrics::ServerLimit;
use crate::proxy::buffer::Buffer;
use crate::proxy::client::bounded_wait::BoundedWait;
use crate::proxy::client::timer::Timer;
use crate::proxy::client_info::ClientInfo;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::h1::request::MAX_FIELDS;
use crate::proxy::h2::headers;
use crate::proxy::h2::headers::BodyForm;
use crate::proxy::h2::server_stream::ServerStream;
use crate::proxy::h2::sieve::{HeadSender, HeadSieve, SievedStream};
use crate::proxy::memory::{ConnectionMemory, StreamMemory, UnsentContent};
use crate::rt::clock;
use crate::rt::shutdown_signal::{ConnectionInterrupt, InterruptSet, ShutdownLevel};

/// Flow-control windows for the body of one request, and for all bodies of a connection together, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

/// Maximum number of bytes of one response that are buffered while the client accepts no more: two frames.
const SEND_BUFFER: usize = 32 * 1024;

/// Number of streams that a connection begins before the thread turns to other tasks: a client may send hundreds of
/// requests at once, and each costs a pick, a connection and a response.
const STREAMS_A_TURN: u64 = 8;

/// How long a client without streams may take to react to a GOAWAY.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a connection is ended whose frames are too expensive, as a metric's label.
const EXCESS: &str = "too many HTTP/2 frames without use";

/// Why a stream is reset whose head, content or trailers violate HTTP/2, as a metric's label.
const MALFORMED: &str = "malformed HTTP/2 request";

/// Serves an HTTP/2 client until its connection ends.
pub async fn serve(
    plane: &Arc<DataPlane>,
    stream: Stream,
    origin: ClientInfo,
    interrupt: Arc<ConnectionInterrupt>,
    config: &Arc<Config>,
) {
    let watch = Arc::new(FloodWatch::default());
    let resets = config.server.max_stream_resets;
    let stream_memory = Arc::<StreamMemory>::default();
    let watched = WatchedConnection::new(stream, watch.clone(), resets, stream_memory.clone());
    let sieve = HeadSieve::new(HeadSender::Client, config.server.max_header * 2);
    let watched = SievedStream::new(watched, sieve);
    let streams = Arc::new(Streams::default());
    if let Some(connection) = shake_hands(watched, &interrupt, &config.server).await {
        let mut session = ClientSession {
            plane,
            config,
            connection,
            watch,
            interrupt,
            streams: streams.clone(),
            origin: ClientInfo {
                protocol: Some("HTTP/2.0"),
                ..origin
            },
            accepted: 0,
            raised: (ShutdownLevel::Run, Time::ZERO),
            idle_since: clock::now(),
            written: 0,
            leaving: None,
            abandoned: None,
            timer: Timer::default(),
            memory: ConnectionMemory::new(config.server.max_memory_per_connection),
            stream_memory,
        };
        session.serve_streams().await;
    }
    // The descriptor is closed; the work of the streams ends now, and the connection counts until it has.
    streams.ended().await;
}

/// Returns the maximum decoded size of one header block for the crate. A header field counts 32 bytes more here than
/// in HTTP/1, whose own limit is the one that is reported and counted; a block that exceeds only this one is never a
/// valid request.
fn most_decoded(limits: &config::ServerConfig) -> u32 {
    let fields = 32 * (MAX_FIELDS + 8);
    u32::try_from(limits.max_header + limits.max_header / 8 + fields).unwrap_or(u32::MAX)
}

async fn shake_hands(
    watched: SievedStream<WatchedConnection>,
    interrupt: &ConnectionInterrupt,
    limits: &config::ServerConfig,
) -> Option<Connection<SievedStream<WatchedConnection>, UnsentContent>> {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(limits.max_concurrent_streams)
        // This limit covers only streams that are opened and reset within one read, which are few on a busy
        // connection. The meter counts all resets.
        .max_pending_accept_reset_streams(limits.max_concurrent_streams as usize)
        .max_header_list_size(most_decoded(limits))
        .enable_connect_protocol();
    let mut handshake = pin!(builder.handshake::<_, UnsentContent>(watched));
    let (since, mut wait) = (clock::now(), BoundedWait::new(interrupt));
    let shaken = poll_fn(|cx| {
        let polled = handshake.as_mut().poll(cx);
        wait.poll_or(cx, polled, (), |level| match level {
            ShutdownLevel::Run => (since + limits.header_timeout, ()),
            _ => (since + FIRST_REQUEST, ()),
        })
    });
    shaken.await.ok()?.ok()
}

/// The open streams of a connection.
#[derive(Debug, Default)]
struct Streams {
    open: InterruptSet,
    /// The connection's task, which waits for the last stream to end, or for room for another.
    task: AtomicWaker,
    full: AtomicBool,
}

impl Streams {
    async fn ended(&self) {
        poll_fn(|cx| {
            self.task.register(cx.waker());
            match self.open.open() {
                0 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
    }
}

/// One open stream.
struct OpenStream(Arc<Streams>, Arc<ConnectionInterrupt>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.leave(&self.1);
        if self.0.open.open() == 0 || self.0.full.load(Ordering::Relaxed) {
            self.0.task.wake();
        }
    }
}

/// A request, and the handle for its response.
type ArrivedRequest = (Request<RecvStream>, SendResponse<UnsentContent>);

/// A connection in progress.
struct ClientSession<'a> {
    plane: &'a Arc<DataPlane>,
    config: &'a Arc<Config>,
    connection: Connection<SievedStream<WatchedConnection>, UnsentContent>,
    watch: Arc<FloodWatch>,
    interrupt: Arc<ConnectionInterrupt>,
    streams: Arc<Streams>,
    origin: ClientInfo,
    /// Number of streams so far.
    accepted: u64,
    /// The shutdown level that the streams got last, and its time.
    raised: (ShutdownLevel, Time),
    /// Time since which no stream is open.
    idle_since: Time,
    /// Bytes that the connection had written at the last check.
    written: u64,
    /// Time at which the client got the final GOAWAY.
    leaving: Option<Time>,
    /// Time since which nothing more is read from the client.
    abandoned: Option<Time>,
    timer: Timer,
    /// Memory that its requests use.
    memory: Arc<ConnectionMemory>,
    /// Memory that its streams use, including content that the client has not received, or nobody has read.
    stream_memory: Arc<StreamMemory>,
}

impl ClientSession<'_> {
    async fn serve_streams(&mut self) {
        while let Some((request, response)) = poll_fn(|cx| self.poll(cx)).await {
            self.accepted += 1;
            let limit = self.config.server.max_requests_per_connection;
            if limit > 0 && self.accepted == limit {
                self.plane.counters.limited(ServerLimit::Requests);
                self.leave();
            }
            self.start(request, response);
            if self.accepted.is_multiple_of(STREAMS_A_TURN) {
                // Lets the thread's other tasks run first.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Serves a stream in a task of its own, if there is memory for it.
    fn start(&mut self, request: Request<RecvStream>, mut response: SendResponse<UnsentContent>) {
        let Some(place) = self.stream_memory.open_stream() else {
            self.plane.counters.limited(ServerLimit::Memory);
            response.send_reset(Reason::REFUSED_STREAM);
            return;
        };
        let interrupt = self.streams.open.join();
        if self.raised.0 > ShutdownLevel::Run {
            interrupt.raise(self.raised.0, self.raised.1);
        }
        let open = OpenStream(self.streams.clone(), interrupt.clone());
        let began = self.watch.head_began(response.stream_id().as_u32());
        let (parts, mut body) = request.into_parts();
        let first = opening::read_first(&parts, &mut body);
        let ended = first.is_empty() && body.is_end_stream();
        let mut share = self.memory.share();
        let held = Buffer::holding(
            |out| headers::write_request(out, &parts, ended),
            |surplus| share.set(surplus),
        );
        let Some((buffer, written)) = held else {
            // A few bytes of HPACK can expand to a large header. A well-behaved client repeats the request after
            // others have ended.
            self.plane.counters.limited(ServerLimit::ConnectionMemory);
            response.send_reset(Reason::REFUSED_STREAM);
            return;
        };
        let (form, unfit) = match written {
            Ok(form) => (form, None),
            Err(error) => (BodyForm::None, Some(error.into())),
        };
        let mut head = WrittenHead {
            buffer,
            unfit,
            began,
            share,
        };
        let head_only = parts.method == Method::HEAD;
        let memory = self.stream_memory.clone();
        let unread = (!ended).then(|| {
            let stream = response.stream_id().as_u32();
            memory.open_body(stream, body.flow_control().used_capacity())
        });
        let mut stream = ServerStream::new(body, response, form, head_only, first, memory, unread);
        let (plane, config) = (self.plane.clone(), self.config.clone());
        let origin = self.origin.clone();
        tokio::spawn(async move {
            let (_open, _place) = (open, place);
            // A stream that is reset right after it was opened, by either side, causes no further work.
            if stream.is_reset().await {
                return;
            }
            if form == BodyForm::Length(0) {
                match opening::wait_for_end(&mut stream, &interrupt, &config.server).await {
                    EmptyEnd::Here => {}
                    EmptyEnd::Late(refusal) => head.unfit = Some(refusal),
                    EmptyEnd::Gone => return,
                }
            }
            let stream = Box::new(stream);
            serve_one(&plane, stream, head, origin, interrupt, &config).await;
        });
    }

    /// Tells the client, in two steps, to use another connection: what it sends before it knows is still served (RFC
    /// 9113 §6.8).
    fn leave(&mut self) {
        if self.leaving.is_none() {
            self.leaving = Some(clock::now());
            self.connection.graceful_shutdown();
        }
    }

    /// Ends the connection now, and tells the client the reason.
    fn abandon(&mut self, reason: Reason) {
        if self.abandoned.is_none() {
            self.abandoned = Some(clock::now());
            self.watch.give_up();
            self.connection.abrupt_shutdown(reason);
        }
    }

    /// Polls for the next stream; `None`: the connection has ended, or is about to end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<ArrivedRequest>> {
        loop {
            self.streams.task.register(cx.waker());
            self.interrupt.register(cx.waker());
            self.follow_interrupt();
            // Streams that the client has reset count here until their tasks have ended; the crate's limit doesn't
            // count them.
            let full = u64::from(self.streams.open.open())
                >= 2 * u64::from(self.config.server.max_concurrent_streams);
            self.streams.full.store(full, Ordering::Relaxed);
            let polled = match full {
                true => self
                    .connection
                    .poll_closed(cx)
                    .map(|closed| closed.err().map(Err)),
                false => self.connection.poll_accept(cx),
            };
            self.count_malformed();
            match polled {
                Poll::Ready(Some(Ok(arrival))) => {
                    self.idle_since = Time::ZERO;
                    return Poll::Ready(Some(arrival));
                }
                Poll::Ready(Some(Err(error))) => {
                    if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                        self.plane.counters.refused(EXCESS);
                    }
                    return Poll::Ready(None);
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            if self.watch.is_excess() && self.abandoned.is_none() {
                self.plane.counters.refused(EXCESS);
                self.abandon(Reason::ENHANCE_YOUR_CALM);
                continue;
            }
            match self.poll_deadline(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Counts malformed requests, which the `h2` crate resets without reporting them.
    fn count_malformed(&self) {
        for _ in 0..self.watch.take_malformed() {
            self.plane.counters.refused(MALFORMED);
            tracing::debug!(client = %self.origin.ip, "{MALFORMED}: its stream was reset");
        }
    }

    /// Applies the shutdown level of this connection, and the lame-duck state of the process.
    fn follow_interrupt(&mut self) {
        let level = self.interrupt.level();
        let at = self.interrupt.at();
        if level >= ShutdownLevel::Finish || (self.accepted > 0 && self.plane.is_lame()) {
            self.leave();
        }
        if level > ShutdownLevel::Finish && self.raised != (level, at) {
            self.raised = (level, at);
            self.streams.open.raise_spread(level, at, at);
        }
    }

    /// Waits for the earliest of the connection's deadlines. Ready: whether to continue.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let limits = &self.config.server;
        if self.abandoned.is_some() && self.interrupt.level() == ShutdownLevel::Cut {
            return Poll::Ready(false);
        }
        if let Some(since) = self.abandoned {
            return self.timer.poll(cx, since + LINGER_TIME).map(|()| false);
        }
        if let Some(since) = self.watch.block_since() {
            // No other frame may arrive before the block ends, so there is nothing else to wait for (RFC 9113 §6.10).
            if self
                .timer
                .poll(cx, since + limits.header_timeout)
                .is_pending()
            {
                return Poll::Pending;
            }
            self.plane.counters.limited(ServerLimit::HeaderTimeout);
            self.abandon(Reason::ENHANCE_YOUR_CALM);
            return Poll::Ready(true);
        }
        if self.streams.open.open() > 0 {
            self.idle_since = Time::ZERO;
            return Poll::Pending;
        }
        if self.interrupt.level() == ShutdownLevel::Cut {
            self.abandon(Reason::NO_ERROR);
            return Poll::Ready(true);
        }
        let now = clock::now();
        if self.idle_since == Time::ZERO {
            self.idle_since = now;
        }
        // Responses that the client has yet to receive: as long as it receives something, it isn't idle.
        let flushing = self.connection.has_streams();
        let patience = match self.leaving {
            Some(since) if !flushing => {
                return match self
                    .timer
                    .poll(cx, self.idle_since.max(since) + CLOSE_TIMEOUT)
                {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        self.abandon(Reason::NO_ERROR);
                        Poll::Ready(true)
                    }
                };
            }
            _ if flushing => limits.body_timeout,
            _ => limits.idle_timeout,
        };
        if self.timer.poll(cx, self.idle_since + patience).is_pending() {
            return Poll::Pending;
        }
        let written = self.watch.written();
        if flushing && written != self.written {
            (self.written, self.idle_since) = (written, now);
        } else if flushing {
            self.plane.counters.limited(ServerLimit::BodyTimeout);
            self.abandon(Reason::NO_ERROR);
        } else {
            self.plane.counters.limited(ServerLimit::IdleTimeout);
            self.leave();
        }
        Poll::Ready(true)
    }
}
