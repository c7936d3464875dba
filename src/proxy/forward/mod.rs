//! One attempt of one request on one upstream connection, with both directions live at once.
//!
//! The client may still be sending while the response arrives (early responses, 100-continue, streams both
//! ways), so neither side waits for the other: each wake-up moves whatever can move.
//!
//! [`forward_once`] makes the attempt. `request` is its way up and `response` its way down (`compressed` where the body is
//! compressed, `events` for streams of events), with [`headers`] for the heads of both, `deadline` how long it waits for
//! whom, `outcome` how it ends; `grpc_call` and `handshake` know what is special about calls and WebSockets, [`tunnel`]
//! carries what follows a 101, and `watched` tells pools that judge their backends by it.

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
use crate::registry::endpoint::outcomes::AttemptWatch;
use crate::registry::endpoint::{CarriedRequest, IdleConnection, StreamGuard};
use crate::registry::routes::RouteRule;
use crate::rt::coop::yield_to_reactor;
use crate::rt::shutdown_signal::ShutdownLevel;
use changed_fields::ChangedFields;
use session_lines::SessionAnswer;

/// Bytes that one exchange moves before the thread turns to others: some tens of microseconds. A large body between
/// two fast peers would else occupy its thread for milliseconds, and quick requests would wait for it.
const TURN: usize = 128 * 1024;

/// Which half is where, upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Active,
    Done,
    /// The backend takes no more; it may still have answered.
    Refused,
}

/// What the exchange needs to know of the request.
pub struct ForwardParams<'a> {
    /// The client's request.
    pub request: &'a RequestHead,
    /// When the attempt began, as the proxy saw it.
    pub began: Time,
    /// When the request did.
    pub since: Time,
    /// The request's route, where that has more than a pool.
    pub rule: Option<&'a RouteRule>,
    /// `[server]`.
    pub server: &'a config::ServerConfig,
    /// How long the backend may be silent.
    pub read_timeout: Duration,
    /// The answers that the client does not get, if a route says so.
    pub intercept: Option<InterceptedAnswers<'a>>,
    /// When `total_timeout` is over, if there is one.
    pub ends: Option<Time>,
    /// What the route changes of the answer's head.
    pub changes: Option<ChangedFields<'a>>,
    /// How the answer may be compressed.
    pub compression: Option<&'a config::CompressionConfig>,
    /// Watches the attempt, for pools that judge their backends by it.
    pub watch: Option<AttemptWatch<'a>>,
    /// What the answer tells the client of its session.
    pub session: Option<SessionAnswer<'a>>,
}

/// Those answers of the app in whose place an error page is sent.
#[derive(Debug, Clone, Copy)]
pub struct InterceptedAnswers<'a> {
    /// Where the pages are for all routes…
    pub config: &'a config::Config,
    /// …and for this one.
    pub route: &'a config::Route,
}

impl InterceptedAnswers<'_> {
    /// Whether answers with this status are replaced by a page.
    pub fn intercept_status(&self, status: u16) -> bool {
        self.config.error_page(status, Some(self.route)).is_some()
    }
}

/// What the access log and the counters need of a transfer.
#[derive(Debug, Default, Clone, Copy)]
pub struct TransferStats {
    /// Final status, once it is known.
    pub status: u16,
    /// Bytes written to the client.
    pub bytes_out: u64,
    /// Of those, heads.
    pub head_out: u64,
    /// Bytes written to the backend.
    pub bytes_up: u64,
    /// When the response's head was complete.
    pub answered: Option<Time>,
    /// We ended it in its protocol's orderly way.
    pub ended_orderly: bool,
    /// What the answer says against the backend.
    pub error: Option<AttemptError>,
    /// The app has ended the client's session.
    pub ends_session: bool,
}

/// Makes one attempt on `connection`, to its end: sends the head that is in `scratch`, and then what comes from either side
/// to the other. What was read beyond a 101's head comes back as the buffer.
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

/// Goes on with a stream of events from a still point, here or in another process: `scratch` has the answer's head, and what
/// was not yet sent of it. What was read and not looked at is `incoming`.
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

/// An attempt under way.
struct Exchange<'a> {
    order: ForwardParams<'a>,
    /// The request's head as the backend gets it.
    head: &'a [u8],
    plane: &'a DataPlane,
    client: &'a mut ClientConnection,
    upload: &'a mut RequestUpload,
    connection: &'a mut IdleConnection,
    response: &'a mut ResponseHead,
    incoming: Buffer,
    /// Bytes of `incoming` that may go to the client as they are.
    passable: usize,
    /// What we wrote ourselves for the client: heads, and unchunked data.
    outgoing: &'a mut Vec<u8>,
    outgoing_sent: usize,
    /// Receives a stream of events that comes to a still point.
    resting: &'a mut Option<Box<RestingEvents>>,
    head_sent: usize,
    sending: Sending,
    receiving: ResponseProgress,
    interim: u32,
    begun: bool,
    /// The client gets another answer than this one.
    is_intercepted: bool,
    /// The status of the call was in its head.
    is_call_judged: bool,
    keep_alive: bool,
    /// The stream of events is to end after the event under way.
    ending: bool,
    /// Counts it among the streams, once it is one.
    lasting: Option<StreamGuard>,
    progress: Time,
    /// The client sends no slower than this…
    pace_up: MinRatePace,
    /// …and takes no slower than this.
    pace_down: MinRatePace,
    /// The backend has reset a connection that it had not closed.
    reset: bool,
    /// A peer did not take all that there was for it.
    stalled: bool,
    /// Nothing is read from the client at present.
    is_deaf: bool,
    looks: ClientLooks,
    /// How many bytes more it may move in this turn.
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
        // Each direction goes on until it has to wait, and neither waits for the other: once is enough.
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
            // A call's client can still get a status; whether the app has seen the call is unknown.
            return Err(match self.order.request.is_grpc && !self.begun {
                true => ForwardFailure::ShutDown,
                false => ForwardFailure::Truncated(ResponseTruncation::CutByShutdown),
            });
        }
        Ok(())
    }
}

impl Exchange<'_> {
    /// Why the backend's end was cut.
    #[cold]
    fn failure_of_cut(&self) -> ForwardFailure {
        if ClientStream::of(self.connection).is_some_and(ClientStream::is_ended_untaken) {
            return self.limited(ServerLimit::Memory, 503);
        }
        match self.begun {
            true => ForwardFailure::Truncated(ResponseTruncation::CutByDrain),
            false => ForwardFailure::Cut,
        }
    }

    /// Answers an inquiry about what is in flight on the backend.
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

/// A reset of an open connection. Behind the peer's close it is reported as a broken pipe instead; and over TLS a close
/// without a goodbye is an unexpected end, any other refusal of the peer's invalid data.
fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, InvalidData, UnexpectedEof};
    !matches!(error.kind(), BrokenPipe | UnexpectedEof | InvalidData)
}

/// Writes two pieces as one.
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
