//! What is recorded of one request: plain data, of which the exporter makes spans.
//!
//! `src/proxy/transaction/followed.rs` fills it. Times are the clock's, and become the wall clock's when they are sent.

use crate::core::Time;
use crate::core::call_status::CallStatus;
use crate::core::trace_context::TraceParent;

/// A request's server span, and its children.
#[derive(Debug, Clone, Default)]
pub struct RequestTrace {
    /// The trace.
    pub trace: u128,
    /// The server span.
    pub span: u64,
    /// The caller's span; `None`: the trace begins here.
    pub parent: Option<u64>,
    /// The flags that go on.
    pub flags: u8,
    /// The caller's `tracestate`; empty: none, or a broken one.
    pub state: String,
    /// When the request's first byte was read.
    pub began: Time,
    /// When it was over.
    pub ended: Time,
    /// When the backend's answer began.
    pub answered: Option<Time>,
    /// The method, as sent.
    pub method: String,
    /// `http` or `https`: how the client came.
    pub scheme: &'static str,
    /// Host and port, as the request has them.
    pub authority: String,
    /// The path, without the query.
    pub path: String,
    /// The query, without its `?`.
    pub query: String,
    /// `1.1`, `2` and so on.
    pub version: &'static str,
    /// The client's IP address; behind trusted proxies, the one that they tell of.
    pub client: String,
    /// The address of the connection, if it has one.
    pub peer: Option<std::net::SocketAddr>,
    /// `User-Agent`.
    pub user_agent: String,
    /// Whether it is a call of gRPC.
    pub is_grpc: bool,
    /// The name of its route.
    pub route: String,
    /// What its route says of the path.
    pub route_pattern: String,
    /// Its pool.
    pub pool: String,
    /// `X-Request-Id`, as the app sees it.
    pub request_id: String,
    /// The status that was sent; 0: none.
    pub status: u16,
    /// The gRPC status that the client got; `None`: none.
    pub call_status: Option<CallStatus>,
    /// Body bytes read from the client.
    pub bytes_in: u64,
    /// Body bytes written to the client.
    pub bytes_out: u64,
    /// How it ended, where not well.
    pub end: &'static str,
    /// Why it was answered here.
    pub cause: String,
    /// Why it was tried again, or was not.
    pub retry_reason: &'static str,
    /// What has become of its session.
    pub session: &'static str,
    /// Another process goes on with it.
    pub is_moved: bool,
    /// When it was waited for a backend.
    pub holds: Vec<HoldSpan>,
    /// Each attempt on a backend.
    pub attempts: Vec<AttemptSpan>,
}

/// A time that a request has waited.
#[derive(Debug, Clone)]
pub struct HoldSpan {
    /// The span.
    pub span: u64,
    /// When it began.
    pub began: Time,
    /// When it was over; `None`: with the request.
    pub ended: Option<Time>,
    /// What was waited for.
    pub reason: HoldReason,
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldReason {
    /// A backend that is ready.
    NoneReady,
    /// Room on one that is.
    Room,
    /// The end of a pause.
    Paused,
}

impl HoldReason {
    /// As an attribute.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoneReady => "none_ready",
            Self::Room => "room",
            Self::Paused => "paused",
        }
    }
}

/// An attempt on a backend.
#[derive(Debug, Clone)]
pub struct AttemptSpan {
    /// The span's id, which the backend gets.
    pub span: u64,
    /// When it began.
    pub began: Time,
    /// When there was a connection; `None`: there never was one.
    pub connected: Option<Time>,
    /// When the backend's answer began.
    pub answered: Option<Time>,
    /// When it was over; `None`: with the request.
    pub ended: Option<Time>,
    /// The backend's name.
    pub backend: String,
    /// Its address, as configured.
    pub address: String,
    /// Whether it was a kept connection.
    pub is_reused: bool,
    /// The status of the answer; 0: none.
    pub status: u16,
    /// What the backend has said of a call; `None`: nothing.
    pub call_status: Option<CallStatus>,
    /// How it failed; empty: it didn't.
    pub failure: &'static str,
    /// Why the attempt was made, where it is not the first: how the one before it failed.
    pub retry_reason: &'static str,
    /// The backend was draining when the attempt ended.
    pub is_draining: bool,
}

impl RequestTrace {
    /// The trace context for the backend, whose parent is `span`.
    pub fn context(&self, span: u64) -> TraceParent {
        TraceParent {
            trace: self.trace,
            span,
            flags: self.flags,
        }
    }

    /// How many spans it makes.
    pub fn span_count(&self) -> usize {
        1 + self.holds.len() + self.attempts.len()
    }

    /// The memory that it takes, in bytes, about.
    pub fn size(&self) -> usize {
        let texts: usize = [
            &self.state,
            &self.method,
            &self.authority,
            &self.path,
            &self.query,
            &self.client,
            &self.user_agent,
            &self.route,
            &self.route_pattern,
            &self.pool,
            &self.request_id,
            &self.cause,
        ]
        .iter()
        .map(|text| text.len())
        .sum();
        let attempts = self.attempts.iter();
        let of_attempts: usize = attempts
            .map(|attempt| size_of::<AttemptSpan>() + attempt.backend.len() + attempt.address.len())
            .sum();
        size_of::<Self>() + texts + of_attempts + self.holds.len() * size_of::<HoldSpan>()
    }
}

/// A span's id: random, and never zero, which stands for none.
pub fn new_span_id() -> u64 {
    fastrand::u64(..).max(1)
}

/// A trace's id, likewise, of which the lower half is `random`: by that it is decided whether there is to be a trace, so
/// the rest is made only where there is.
pub fn new_trace_id(random: u64) -> u128 {
    (u128::from(fastrand::u64(..)) << 64 | u128::from(random)).max(1)
}
