//! The HTTP/1 loop of a client's connection: reads one request head after the other and has each answered.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora::protocols::Stream;

use super::close::close;
use super::moved::offer_idle;
use crate::config::{self, Config};
use crate::core::Time;
use crate::metrics::ServerLimit;
use crate::net::socket;
use crate::proxy::buffer::{Buffer, HEAD_STEP, SMALL};
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::client_info::ClientInfo;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::error_response::write_local_response;
use crate::proxy::h1::request::{HeadLimits, HeadProgress, RequestHead};
use crate::proxy::memory::{self, LARGE_HEAD};
use crate::proxy::refusal::ClientRefusal;
use crate::proxy::transaction;
use crate::proxy::transaction::record;
use crate::rt::clock;
use crate::rt::shutdown_signal::{ConnectionInterrupt, ShutdownLevel};
use crate::tls::stream::ClientTlsStream;

/// Maximum number of bytes before the request target (method and space) at which a target that is too long is still
/// noticed early.
const METHOD: usize = 16;

/// How long a new connection may take to send its first request, even if the proxy is about to end. A client on a
/// busy machine, or far away, can take a second; connections that browsers open in advance delay the exit by no more
/// than this.
pub const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// How long a connection that is to be closed, and was in use within [`REST`], stays open for one more request. Its
/// response says `Connection: close`; a close without that header field could cross the next request of a busy
/// client.
const ONCE_MORE: Duration = Duration::from_millis(100);

/// Idle time after which a connection frees all memory that only requests need. A busy connection never reaches it,
/// and has no cost from it.
const REST: Duration = Duration::from_secs(1);

impl From<&config::ServerConfig> for HeadLimits {
    fn from(server: &config::ServerConfig) -> Self {
        Self {
            max_header: server.max_header,
            max_uri: server.max_uri,
        }
    }
}

/// Serves a client until its connection ends.
pub async fn serve(
    plane: &Arc<DataPlane>,
    stream: Stream,
    origin: ClientInfo,
    interrupt: Arc<ConnectionInterrupt>,
    config: &Config,
) {
    let mut client = ClientConnection::new(stream, origin, interrupt, config);
    let mut head = RequestHead::new();
    let waiting = HeadWait::new(true);
    let next = serve_requests(plane, &mut client, &mut head, &config.server, waiting).await;
    close(&mut client, next).await;
    std::mem::take(&mut client.buffer).give_back();
}

/// Tells a client why it isn't served, and closes its connection.
pub async fn turn_away(
    plane: &Arc<DataPlane>,
    stream: Stream,
    origin: ClientInfo,
    interrupt: Arc<ConnectionInterrupt>,
    config: &Config,
    refusal: ClientRefusal,
) {
    let mut client = ClientConnection::new(stream, origin, interrupt, config);
    let turned_away = plane.turn_away();
    let next = match refuse(plane, &mut client, refusal, &config.server).await {
        AfterRequest::Linger if turned_away.many => AfterRequest::Close,
        next => next,
    };
    close(&mut client, next).await;
}

/// Closes a connection without a response. Unless many connections are being refused, the close lingers, so that a
/// reset doesn't destroy the last bytes sent to the client.
pub async fn close_unserved(
    plane: &Arc<DataPlane>,
    stream: Stream,
    origin: ClientInfo,
    interrupt: Arc<ConnectionInterrupt>,
    config: &Config,
) {
    let turned_away = plane.turn_away();
    if !turned_away.many {
        let mut client = ClientConnection::new(stream, origin, interrupt, config);
        close(&mut client, AfterRequest::Linger).await;
    }
}

/// Counts and logs a client that is not served, and sends it nothing.
pub fn record_unserved(
    plane: &Arc<DataPlane>,
    stream: Stream,
    origin: ClientInfo,
    interrupt: Arc<ConnectionInterrupt>,
    config: &Config,
    refusal: ClientRefusal,
) {
    let client = ClientConnection::new(stream, origin, interrupt, config);
    record::refused(plane, &client, &refusal);
}

/// The loop of a keep-alive connection. While it waits for a request, it uses little memory.
pub(super) async fn serve_requests(
    plane: &Arc<DataPlane>,
    client: &mut ClientConnection,
    head: &mut RequestHead,
    limits: &config::ServerConfig,
    mut waiting: HeadWait,
) -> AfterRequest {
    loop {
        waiting.resting = true;
        if let Err(end) = next_request(plane, client, head, limits, &mut waiting).await {
            return end;
        }
        // Boxed, because a request in progress needs many times the memory of an idle connection.
        let requests = Box::pin(serve_busily(plane, client, head, limits));
        match requests.await {
            Ok(idle) => waiting = idle,
            Err(end) => return end,
        }
    }
}

/// Answers the request that has arrived and those that follow it, until none comes for a moment.
async fn serve_busily(
    plane: &Arc<DataPlane>,
    client: &mut ClientConnection,
    head: &mut RequestHead,
    limits: &config::ServerConfig,
) -> Result<HeadWait, AfterRequest> {
    loop {
        match transaction::handle(plane, client, head).await {
            AfterRequest::KeepAlive => {}
            end => return Err(end),
        }
        client.buffer.shrink();
        let mut waiting = HeadWait::new(false);
        if !next_request(plane, client, head, limits, &mut waiting).await? {
            return Ok(waiting);
        }
    }
}

/// Waits for a request head. Returns false if none came for a moment, and the connection may free its memory.
async fn next_request(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &mut RequestHead,
    limits: &config::ServerConfig,
    waiting: &mut HeadWait,
) -> Result<bool, AfterRequest> {
    let read = loop {
        match poll_fn(|cx| poll_head(client, head, limits, waiting, cx)).await {
            // Boxed: an idle connection reserves no memory for it.
            HeadRead::AtRest if Box::pin(offer_idle(plane, client, waiting)).await => {
                return Err(AfterRequest::Moved);
            }
            HeadRead::AtRest => {}
            read => break read,
        }
    };
    match read {
        HeadRead::Request | HeadRead::AtRest => {}
        HeadRead::Pause => return Ok(false),
        HeadRead::Nothing => return Err(AfterRequest::Close),
        HeadRead::Idle => {
            plane.counters.limited(ServerLimit::IdleTimeout);
            return Err(AfterRequest::Close);
        }
        HeadRead::Bad(refusal) => return Err(refuse(plane, client, refusal, limits).await),
    }
    client.place = None;
    client.requests += 1;
    if client.requests == limits.max_requests_per_connection && head.keep_alive {
        plane.counters.limited(ServerLimit::Requests);
        head.keep_alive = false;
    }
    Ok(true)
}

enum HeadRead {
    Request,
    /// No bytes for a moment.
    Pause,
    /// The connection is to move to another process.
    AtRest,
    /// The client has disconnected, or the proxy is about to close the connection.
    Nothing,
    /// `idle_timeout` has passed.
    Idle,
    Bad(ClientRefusal),
}

/// The wait for a request.
pub(super) struct HeadWait {
    /// Start of the wait.
    pub(super) since: Time,
    /// Whether it is for the connection's first request.
    first: bool,
    /// Whether the connection has freed all memory that it can do without.
    resting: bool,
    /// Time since which the connection is to be closed.
    leaving: Option<Time>,
    /// Bytes of the head at the last attempt to parse it; 0: none yet.
    parsed: usize,
}

impl HeadWait {
    fn new(first: bool) -> Self {
        Self::continued(clock::now(), first)
    }

    /// Continues a wait that began at `since`.
    pub(super) fn continued(since: Time, first: bool) -> Self {
        Self {
            since,
            first,
            resting: false,
            leaving: None,
            parsed: 0,
        }
    }

    /// Returns whether enough bytes have arrived since the last attempt to parse the head again. Each attempt begins
    /// at the first byte, so a head that arrives byte by byte would cost the square of its length.
    fn is_worth_parsing(&self, bytes: &[u8], limits: &config::ServerConfig) -> bool {
        let Some(fresh) = bytes.get(self.parsed..) else {
            return true;
        };
        let crosses = |bound| self.parsed <= bound && bytes.len() > bound;
        self.parsed == 0
            || fresh.len() >= self.parsed / 4
            || crosses(limits.max_header)
            || crosses(limits.max_uri + METHOD)
            || memchr::memchr(b'\n', fresh).is_some()
    }

    /// Returns until when a connection that is to be closed still waits, because a request may be on its way: a new
    /// connection was opened for one, a busy client sends the next one soon, and bytes in the kernel were sent before
    /// the client could know about the close.
    fn wait_before_close(&mut self, client: &ClientConnection) -> Option<Time> {
        let now = clock::now();
        let leaving = *self.leaving.get_or_insert(now);
        let until = match self.first {
            true => self.since + FIRST_REQUEST,
            false if self.resting => leaving,
            false => leaving + ONCE_MORE,
        };
        if now < until {
            return Some(until);
        }
        // The kernel may have bytes that the runtime has not reported yet. And a part of a TLS record may have been
        // read that can't be decrypted yet.
        let tls = client.stream.as_any().downcast_ref::<ClientTlsStream>();
        (socket::has_unread(&client.stream) || tls.is_some_and(ClientTlsStream::is_within_record))
            .then(|| now + FIRST_REQUEST)
    }
}

fn poll_head(
    client: &mut ClientConnection,
    head: &mut RequestHead,
    limits: &config::ServerConfig,
    waiting: &mut HeadWait,
    cx: &mut Context<'_>,
) -> Poll<HeadRead> {
    let sizes = HeadLimits::from(limits);
    if waiting.resting && client.buffer.is_empty() {
        client.buffer = Buffer::take();
    }
    loop {
        let bytes = client.buffer.bytes();
        if !bytes.is_empty() && waiting.is_worth_parsing(bytes, limits) {
            match head.parse(bytes, &sizes) {
                Ok(HeadProgress::Complete) => return Poll::Ready(HeadRead::Request),
                Ok(HeadProgress::Partial) => waiting.parsed = bytes.len(),
                Err(error) => return Poll::Ready(HeadRead::Bad(error.into())),
            }
        }
        // The parser refuses a head that exceeds `max_header`, so there is always room for one more byte.
        let most = limits.max_header + SMALL;
        let growth = client.buffer.growth(most, HEAD_STEP);
        if client.buffer.surplus() + growth > LARGE_HEAD
            && growth > 0
            && !memory::may_head_become_large()
        {
            cx.waker().wake_by_ref();
            break;
        }
        if growth > 0 && !client.may_grow(growth) {
            let detail = "no memory is left for a request header of this size";
            let refusal = ClientRefusal::limited(ServerLimit::Memory, 503, detail);
            return Poll::Ready(HeadRead::Bad(refusal));
        }
        let stream = &mut client.stream;
        match client.buffer.poll_fill_by(cx, stream, most, HEAD_STEP) {
            Poll::Ready(Ok(count)) if count > 0 => {}
            Poll::Ready(_) => return Poll::Ready(HeadRead::Nothing),
            Poll::Pending => break,
        }
    }
    if waiting.resting && client.buffer.is_empty() {
        std::mem::take(&mut client.buffer).give_back();
    }
    client.interrupt.register(cx.waker());
    let level = client.interrupt.level();
    if level != ShutdownLevel::Run {
        match level {
            ShutdownLevel::Cut => return Poll::Ready(HeadRead::Nothing),
            ShutdownLevel::Move => return Poll::Ready(HeadRead::AtRest),
            _ => {}
        }
    }
    if client.poll_head_evicted(cx) {
        let detail = "the request's head was incomplete, and its memory was needed";
        let refusal = ClientRefusal::limited(ServerLimit::Memory, 408, detail);
        return Poll::Ready(HeadRead::Bad(refusal));
    }
    let (deadline, end) = if !client.buffer.is_empty() {
        let begun = *client.head_began.get_or_insert_with(clock::now);
        let detail = "the request's head took too long";
        let late = ClientRefusal::limited(ServerLimit::HeaderTimeout, 408, detail);
        (begun + limits.header_timeout, HeadRead::Bad(late))
    } else if level < ShutdownLevel::Finish {
        if waiting.resting || limits.idle_timeout <= REST {
            (waiting.since + limits.idle_timeout, HeadRead::Idle)
        } else {
            (waiting.since + REST, HeadRead::Pause)
        }
    } else if let Some(reprieve) = waiting.wait_before_close(client) {
        (reprieve, HeadRead::Nothing)
    } else {
        return Poll::Ready(HeadRead::Nothing);
    };
    client.timer.poll(cx, deadline).map(|()| end)
}

/// Sends an error response, counts and logs it, and closes the connection.
pub(super) async fn refuse(
    plane: &DataPlane,
    client: &mut ClientConnection,
    refusal: ClientRefusal,
    limits: &config::ServerConfig,
) -> AfterRequest {
    let mut out = Vec::with_capacity(256);
    write_local_response(&mut out, refusal.status, refusal.detail, true, false, None);
    record::refused(plane, client, &refusal);
    // The rest of the request is not read, and the client may take long to read the response.
    client.place = None;
    client.buffer.clear();
    client.buffer.shrink();
    plane.counters.answered(refusal.status);
    match client
        .write_all(&out, clock::now() + limits.header_timeout)
        .await
    {
        Ok(()) => AfterRequest::Linger,
        Err(_) => AfterRequest::Abort,
    }
}
