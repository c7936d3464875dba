//! Record of one request: plain data, which the exporter converts to spans.
//!
//! `src/proxy/transaction/followed.rs` fills it. Times are those of [`crate::rt::clock`]; they are converted to the
//! wall clock when they are sent.

use crate::core::Time;
use crate::core::call_status::CallStatus;
use crate::core::trace_context::TraceParent;

/// Server span of a request, and its children.
#[derive(Debug, Clone, Default)]
pub struct RequestTrace {
    /// Trace id.
    pub trace: u128,
    /// Id of the server span.
    pub span: u64,
    /// Id of the caller's span; `None`: the trace begins here.
    pub parent: Option<u64>,
    /// Trace flags, which are passed on.
    pub flags: u8,
    /// The caller's `tracestate`; empty: none, or a malformed one.
    pub state: String,
    /// Time at which the request's first byte was read.
    pub began: Time,
    /// Time at which the request ended.
    pub ended: Time,
    /// Time at which the backend's answer began.
    pub answered: Option<Time>,
    /// The method, as sent.
    pub method: String,
    /// Scheme of the client's connection: `http` or `https`.
    pub scheme: &'static str,
    /// Host and port of the request.
    pub authority: String,
    /// The path, without the query.
    pub path: String,
    /// The query, without its `?`.
    pub query: String,
    /// Protocol version, such as `1.1` or `2`.
    pub version: &'static str,
    /// Client's IP address; behind trusted proxies, the one that they report.
    pub client: String,
    /// Address of the connection's peer, if it has one.
    pub peer: Option<std::net::SocketAddr>,
    /// Value of `User-Agent`.
    pub user_agent: String,
    /// Whether it is a gRPC call.
    pub is_grpc: bool,
    /// Name of the route.
    pub route: String,
    /// Path pattern of the route.
    pub route_pattern: String,
    /// Name of the pool.
    pub pool: String,
    /// Value of `X-Request-Id`, as the app sees it.
    pub request_id: String,
    /// Status that was sent; 0: none.
    pub status: u16,
    /// gRPC status that the client got; `None`: none.
    pub call_status: Option<CallStatus>,
    /// Body bytes read from the client.
    pub bytes_in: u64,
    /// Body bytes written to the client.
    pub bytes_out: u64,
    /// How the request ended, unless it ended well.
    pub end: &'static str,
    /// Why lameduck answered itself, instead of a backend.
    pub cause: String,
    /// Why the request was tried again, or was not.
    pub retry_reason: &'static str,
    /// State of a sticky session.
    pub session: &'static str,
    /// Whether the request was moved to another process.
    pub is_moved: bool,
    /// Waits for a backend.
    pub holds: Vec<HoldSpan>,
    /// Attempts on backends.
    pub attempts: Vec<AttemptSpan>,
}

/// Time in which a request waited for a backend.
#[derive(Debug, Clone)]
pub struct HoldSpan {
    /// Id of its span.
    pub span: u64,
    /// Time of its start.
    pub began: Time,
    /// Time of its end; `None`: it ended with the request.
    pub ended: Option<Time>,
    /// What the request waited for.
    pub reason: HoldReason,
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldReason {
    /// A ready backend.
    NoneReady,
    /// Room on a ready backend.
    Room,
    /// The end of a pause.
    Paused,
}

impl HoldReason {
    /// Value of the attribute.
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
    /// Id of its span, which the backend receives as its parent.
    pub span: u64,
    /// Time of its start.
    pub began: Time,
    /// Time at which the connection was open; `None`: there was none.
    pub connected: Option<Time>,
    /// Time at which the backend's answer began.
    pub answered: Option<Time>,
    /// Time of its end; `None`: it ended with the request.
    pub ended: Option<Time>,
    /// Name of the backend.
    pub backend: String,
    /// Address of the backend, as configured.
    pub address: String,
    /// Whether a kept connection was used.
    pub is_reused: bool,
    /// Status of the answer; 0: none.
    pub status: u16,
    /// gRPC status that the backend sent; `None`: none.
    pub call_status: Option<CallStatus>,
    /// How the attempt failed; empty: it didn't.
    pub failure: &'static str,
    /// Reason for this attempt if it is not the first: how the one before it failed.
    pub retry_reason: &'static str,
    /// Whether the backend was draining when the attempt ended.
    pub is_draining: bool,
}

impl RequestTrace {
    /// Trace context for the backend, with `span` as the parent.
    pub fn context(&self, span: u64) -> TraceParent {
        TraceParent {
            trace: self.trace,
            span,
            flags: self.flags,
        }
    }

    /// Number of spans for this request.
    pub fn span_count(&self) -> usize {
        1 + self.holds.len() + self.attempts.len()
    }

    /// Approximate memory of this record, in bytes.
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

/// A new span id: random, and never zero, which means none.
pub fn new_span_id() -> u64 {
    fastrand::u64(..).max(1)
}

/// A new trace id, likewise. Its lower half is `random`, which also decides whether there is a trace at all; so the
/// upper half is made only if there is.
pub fn new_trace_id(random: u64) -> u128 {
    (u128::from(fastrand::u64(..)) << 64 | u128::from(random)).max(1)
}
