//! One attempt of one request on one upstream connection, with both directions live at once.
//!
//! The client may still be sending while the response arrives (early responses, 100-continue, bidirectional streams),
//! so neither side waits for the other: each wake-up moves whatever can move.
//!
//! [`forward_once`] makes the attempt. `request` sends the request and `response` the response (`compressed` if the
//! body is compressed, `events` for event streams), with [`headers`] for the heads of both; `deadline` has the
//! timeouts, `outcome` the ways in which an attempt ends. `grpc_call` and `handshake` handle the special cases of
//! gRPC calls and WebSockets, [`tunnel`] carries the bytes after a 101, and `watched` reports results to pools that
//! judge their backends by attempts (outlier detection, or balancing by response time).

pub mod changed_fields;
mod compressed;
mod deadline;
pub mod events;
mod followed;
pub mod forwarded;
mod grpc_call;
mod handshake;
pub mod headers;
pub mod min_rate;
mod outcome;
pub mod passes;
mod request;
mod response;
pub mod scratch;
pub mod session_lines;
pub mod tunnel;
mod watched;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora::protocols::Stream;

use events::{RestingEvents, StreamTurn};
pub use grpc_call::answer_timeout;
pub use outcome::{ForwardEnd, ForwardFailure, ResponseTruncation};
use response::ResponseProgress;

use super::buffer::Buffer;
use crate::config;
use crate::core::Time;
use crate::core::outlier::AttemptError;
use crate::metrics::ServerLimit;
use crate::proxy::client::ClientConnection;
use crate::proxy::client::heard::ClientLooks;
use crate::proxy::client::upload::RequestUpload;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::min_rate::MinRatePace;
use crate::proxy::forward::scratch::AttemptScratch;
use crate::proxy::h1::request::{RequestBody, RequestHead};
use crate::proxy::h1::response::{ResponseBody, ResponseHead};
use crate::proxy::h2::client_stream::ClientStream;
use crate::proxy::memory::MemoryCharge;
use crate::registry::endpoint::outcomes::AttemptWatch;
use crate::registry::endpoint::{CarriedRequest, IdleConnection, StreamGuard};
use crate::registry::routes::RouteRule;
use crate::rt::coop::yield_to_reactor;
use crate::rt::shutdown_signal::ShutdownLevel;
use changed_fields::ChangedFields;
use session_lines::SessionAnswer;

/// Maximum number of bytes that one exchange moves before the thread turns to other tasks: some tens of microseconds.
/// Otherwise a large body between two fast peers would occupy its thread for milliseconds, and short requests would
/// have to wait.
const TURN: usize = 128 * 1024;

/// State of sending the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Active,
    Done,
    /// The backend accepts no more data; it may still have answered.
    Refused,
}

/// What the exchange needs to know about the request.
pub struct ForwardParams<'a> {
    /// The client's request.
    pub request: &'a RequestHead,
    /// Start of the attempt, as the proxy saw it.
    pub began: Time,
    /// Start of the request.
    pub since: Time,
    /// The request's route, if it consists of more than a pool.
    pub rule: Option<&'a RouteRule>,
    /// The `[server]` section of the configuration.
    pub server: &'a config::ServerConfig,
    /// Longest silence of the backend.
    pub read_timeout: Duration,
    /// The responses that are replaced by an error page, if the route says so.
    pub intercept: Option<InterceptedAnswers<'a>>,
    /// End of `total_timeout`, if there is one.
    pub ends: Option<Time>,
    /// The changes that the route makes to the response head.
    pub changes: Option<ChangedFields<'a>>,
    /// How the response may be compressed.
    pub compression: Option<&'a config::CompressionConfig>,
    /// Watches the attempt, for pools that judge their backends by attempts.
    pub watch: Option<AttemptWatch<'a>>,
    /// What the response tells the client about its session.
    pub session: Option<SessionAnswer<'a>>,
}

/// The app's responses that are replaced by an error page.
#[derive(Debug, Clone, Copy)]
pub struct InterceptedAnswers<'a> {
    /// Has the error pages for all routes.
    pub config: &'a config::Config,
    /// Has the error pages of this route.
    pub route: &'a config::Route,
}

impl InterceptedAnswers<'_> {
    /// Returns whether responses with this status are replaced by a page.
    pub fn intercept_status(&self, status: u16) -> bool {
        self.config.error_page(status, Some(self.route)).is_some()
    }
}

/// What the access log and the counters need to know about a transfer.
#[derive(Debug, Default, Clone, Copy)]
pub struct TransferStats {
    /// Final status, once it is known.
    pub status: u16,
    /// Bytes written to the client.
    pub bytes_out: u64,
    /// Bytes written to the client that belong to heads.
    pub head_out: u64,
    /// Bytes written to the backend.
    pub bytes_up: u64,
    /// Time at which the response head was complete.
    pub answered: Option<Time>,
    /// Whether the proxy ended the stream in the way that its protocol prescribes.
    pub ended_orderly: bool,
    /// The error of the backend that the response shows, if any.
    pub error: Option<AttemptError>,
    /// Whether the app has ended the client's session.
    pub ends_session: bool,
}

/// Makes one attempt on `connection`, to its end: sends the head that is in `scratch`, and then forwards the bytes of
/// both sides. Bytes read beyond the head of a 101 are returned as the buffer.
pub async fn forward_once(
    params: ForwardParams<'_>,
    plane: &DataPlane,
    client: &mut ClientConnection,
    upload: &mut RequestUpload,
    connection: &mut IdleConnection,
    scratch: &mut AttemptScratch,
) -> (Result<ForwardEnd, ForwardFailure>, TransferStats, Buffer) {
    let mut exchange = Exchange::new(params, plane, client, upload, connection, scratch);
    let mut end = poll_fn(|cx| exchange.poll(cx)).await;
    if exchange.outgoing_sent > 0 && end.is_err_and(ForwardFailure::is_clean) {
        end = Err(ForwardFailure::Truncated(ResponseTruncation::InterimBroken));
    }
    match end {
        Err(failure) => exchange.tell_of(failure).await,
        Ok(ForwardEnd::AtRest) => return exchange.into_rest(),
        Ok(_) => {}
    }
    if exchange.order.watch.is_some() && end.is_ok() {
        exchange.note_whole();
    }
    (end, exchange.tally, exchange.incoming)
}

/// Continues a paused event stream, in this process or a newer one: `scratch` has the response head, and the output
/// that was not yet sent. `incoming` has the bytes that were read and not processed.
pub async fn resume_events(
    params: ForwardParams<'_>,
    plane: &DataPlane,
    client: &mut ClientConnection,
    upload: &mut RequestUpload,
    connection: &mut IdleConnection,
    scratch: &mut AttemptScratch,
    incoming: Buffer,
) -> (Result<ForwardEnd, ForwardFailure>, TransferStats, Buffer) {
    let resting = scratch.resting.take().unwrap_or_default();
    let outgoing = std::mem::take(&mut scratch.outgoing);
    let mut exchange = Exchange::new(params, plane, client, upload, connection, scratch);
    exchange.come_from_rest(*resting, outgoing, incoming);
    let end = poll_fn(|cx| exchange.poll(cx)).await;
    match end {
        Ok(ForwardEnd::AtRest) => return exchange.into_rest(),
        Err(failure) => exchange.tell_of(failure).await,
        Ok(_) => exchange.note_whole(),
    }
    (end, exchange.tally, exchange.incoming)
}

/// An attempt in progress.
struct Exchange<'a> {
    order: ForwardParams<'a>,
    /// The request head for the backend.
    head: &'a [u8],
    plane: &'a DataPlane,
    client: &'a mut ClientConnection,
    upload: &'a mut RequestUpload,
    connection: &'a mut IdleConnection,
    response: &'a mut ResponseHead,
    incoming: Buffer,
    /// Bytes of `incoming` that may be sent to the client unchanged.
    passable: usize,
    /// Output for the client that the proxy wrote itself: heads, and data taken out of chunks.
    outgoing: &'a mut Vec<u8>,
    outgoing_sent: usize,
    /// The share of `max_memory` that a large output uses.
    outgoing_charge: MemoryCharge,
    /// Receives an event stream that is paused to move to another process.
    resting: &'a mut Option<Box<RestingEvents>>,
    head_sent: usize,
    sending: Sending,
    receiving: ResponseProgress,
    interim: u32,
    begun: bool,
    /// Whether the client gets an error page instead of this response.
    is_intercepted: bool,
    /// Whether the call's status was in the response head.
    is_call_judged: bool,
    keep_alive: bool,
    /// Whether the event stream is to end after the current event.
    ending: bool,
    /// Counts the exchange among the streams, once it is one.
    lasting: Option<StreamGuard>,
    progress: Time,
    /// Minimum rate at which the client has to send.
    pace_up: MinRatePace,
    /// Minimum rate at which the client has to receive.
    pace_down: MinRatePace,
    /// Whether the backend has reset a connection that it had not closed.
    reset: bool,
    /// Whether a peer did not accept all the data that there was for it.
    stalled: bool,
    /// Whether reading from the client is suspended.
    is_deaf: bool,
    looks: ClientLooks,
    /// How many more bytes it may move in this turn.
    turn: usize,
    unflushed_up: bool,
    unflushed_down: bool,
    tally: TransferStats,
}

impl<'a> Exchange<'a> {
    // Constructed in place, because it is large.
    #[inline(always)]
    fn new(
        order: ForwardParams<'a>,
        plane: &'a DataPlane,
        client: &'a mut ClientConnection,
        upload: &'a mut RequestUpload,
        connection: &'a mut IdleConnection,
        scratch: &'a mut AttemptScratch,
    ) -> Self {
        let AttemptScratch {
            head,
            response,
            outgoing,
            resting,
        } = scratch;
        outgoing.clear();
        let has_length = matches!(order.request.body, RequestBody::Length(_));
        Self {
            head,
            plane,
            client,
            upload,
            connection,
            response,
            incoming: Buffer::take(),
            passable: 0,
            outgoing,
            outgoing_sent: 0,
            outgoing_charge: MemoryCharge::default(),
            resting,
            head_sent: 0,
            sending: Sending::Active,
            receiving: ResponseProgress::Head,
            interim: 0,
            begun: false,
            is_intercepted: false,
            is_call_judged: false,
            keep_alive: false,
            ending: false,
            lasting: None,
            progress: order.began,
            pace_up: MinRatePace::new(order.server.body_pace(has_length)),
            pace_down: MinRatePace::new(order.server.response_pace()),
            reset: false,
            stalled: false,
            is_deaf: false,
            looks: ClientLooks::default(),
            turn: TURN,
            unflushed_up: false,
            unflushed_down: false,
            tally: TransferStats::default(),
            order,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<ForwardEnd, ForwardFailure>> {
        // Each direction goes on until it has to wait, and neither waits for the other: one pass is enough.
        self.turn = TURN;
        self.poll_up(cx)?;
        self.poll_down(cx)?;
        if let ResponseProgress::Done = self.receiving
            && self.is_delivered()
        {
            return self.poll_end(cx);
        }
        if self.turn == 0 {
            yield_to_reactor(cx);
        }
        self.watch_client(cx)?;
        self.poll_flush(cx)?;
        self.poll_interrupts(cx)?;
        match self.poll_farewell(cx) {
            StreamTurn::GoesOn => {}
            StreamTurn::Ends => return self.poll(cx),
            StreamTurn::Rests => return Poll::Ready(Ok(ForwardEnd::AtRest)),
        }
        self.poll_deadline(cx)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<ForwardEnd, ForwardFailure>> {
        match Pin::new(&mut *self.client.stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(ForwardFailure::ClientGone)),
            Poll::Pending => {
                self.poll_interrupts(cx)?;
                return self.poll_deadline(cx);
            }
        }
        if self.response.status == 101 {
            return Poll::Ready(Ok(ForwardEnd::Upgraded));
        }
        if self.is_intercepted {
            return Poll::Ready(Ok(ForwardEnd::Intercepted {
                reusable: self.response.keep_alive
                    && self.sending == Sending::Done
                    && self.is_here_whole(),
            }));
        }
        let until_close = matches!(self.response.body, ResponseBody::UntilClose);
        Poll::Ready(Ok(ForwardEnd::Complete {
            reusable: self.response.keep_alive
                && self.sending == Sending::Done
                && !self.tally.ended_orderly
                && self.incoming.is_empty()
                && !until_close,
            keep_alive: self.keep_alive && self.upload.is_complete(),
        }))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<(), ForwardFailure> {
        if self.unflushed_up {
            match Pin::new(&mut *self.connection.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed_up = false,
                Poll::Ready(Err(_)) => self.sending = Sending::Refused,
                Poll::Pending => {}
            }
        }
        if self.unflushed_down {
            match Pin::new(&mut *self.client.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed_down = false,
                Poll::Ready(Err(_)) => return Err(ForwardFailure::ClientGone),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    fn poll_interrupts(&mut self, cx: &mut Context<'_>) -> Result<(), ForwardFailure> {
        let upstream = self.connection.ticket.interrupt();
        upstream.register(cx.waker());
        if upstream.has_inquiry() {
            self.answer_inquiry();
        }
        if upstream.level() == ShutdownLevel::Cut {
            return Err(self.failure_of_cut());
        }
        self.client.interrupt.register(cx.waker());
        if self.client.interrupt.level() == ShutdownLevel::Cut {
            // The client of a gRPC call can still get a status; whether the app has seen the call is unknown.
            return Err(match self.order.request.is_grpc && !self.begun {
                true => ForwardFailure::ShutDown,
                false => ForwardFailure::Truncated(ResponseTruncation::CutByShutdown),
            });
        }
        Ok(())
    }
}

impl Exchange<'_> {
    /// The failure after the connection to the backend was cut.
    #[cold]
    fn failure_of_cut(&self) -> ForwardFailure {
        if ClientStream::of(self.connection).is_some_and(ClientStream::is_ended_unread) {
            return self.limited(ServerLimit::Memory, 503);
        }
        match self.begun {
            true => ForwardFailure::Truncated(ResponseTruncation::CutByDrain),
            false => ForwardFailure::Cut,
        }
    }

    /// Answers a request for the list of what is in flight on the backend.
    #[cold]
    fn answer_inquiry(&self) {
        let ticket = &self.connection.ticket;
        let carried = CarriedRequest {
            kind: self.lasting.as_ref().map(StreamGuard::kind),
            since: self.order.since,
            method: self.order.request.method.as_str(),
            route: self.order.rule.and_then(|rule| rule.name.as_deref()),
            path: self.order.request.path.of(self.client.buffer.bytes()),
        };
        (ticket.endpoint()).answer_inquiry(ticket.interrupt(), carried);
    }
}

/// Returns whether the error is a reset of an open connection. After the peer has closed, a reset is reported as a
/// broken pipe instead; over TLS, a close without `close_notify` is an unexpected end, and any other failure of the
/// peer is invalid data.
fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, InvalidData, UnexpectedEof};
    !matches!(error.kind(), BrokenPipe | UnexpectedEof | InvalidData)
}

/// Writes two slices as one.
fn poll_write_both(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    first: &[u8],
    second: &[u8],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(&mut **stream);
    match (first.is_empty(), second.is_empty()) {
        (false, false) => {
            stream.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
        }
        (false, true) => stream.poll_write(cx, first),
        (true, _) => stream.poll_write(cx, second),
    }
}
