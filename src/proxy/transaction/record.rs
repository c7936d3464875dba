//! What is recorded of a request for its log line and the metrics; and the log lines of connections without a
//! request.
//!
//! The steps of a request record here what they learn. Status and times of an attempt replace those of the attempt
//! before; bytes and attempts add up. At the end, the record becomes the fields of a log line, see
//! `src/telemetry/access_log/record.rs`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::core::Time;
use crate::core::hold::HoldRefusal;
use crate::core::retry::RetryReason;
use crate::metrics::{RouteRefusal, ServerLimit};
use crate::proxy::client::ClientConnection;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::TransferStats;
use crate::proxy::forward::changed_fields::ChangedFields;
use crate::proxy::forward::forwarded;
use crate::proxy::forward::headers::incoming_request_id;
use crate::proxy::forward::tunnel::{TunnelBytes, TunnelEnd};
use crate::proxy::h1::fields::FieldKind;
use crate::proxy::h1::request::RequestHead;
use crate::proxy::refusal::ClientRefusal;
use crate::proxy::transaction::changes::{KeptValues, MessageChanges};
use crate::proxy::transaction::guards::RouteAdmission;
use crate::proxy::transaction::request_id::RequestId;
use crate::proxy::transaction::restarts::BrokenAttempts;
use crate::registry::endpoint::Endpoint;
use crate::registry::routes::RouteRule;
use crate::registry::snapshot::PoolSnapshot;
use crate::rt::clock;
use crate::telemetry::access_log::AccessRecord;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestEnd {
    /// Without an error.
    Well,
    /// Its stream or tunnel was closed in the way that its protocol prescribes.
    ClosedOrderly,
    /// The client disconnected.
    ClientClosed,
    /// The backend closed its connection before it answered.
    UpstreamDied,
    /// The backend did not answer in time.
    Timeout,
    /// It was cut at the deadline of a drain, or at the end of the process.
    Cut,
    /// The backend's response was invalid.
    BadResponse,
    /// The client's request can't be forwarded.
    BadRequest,
    /// The response had begun and was cut off.
    Truncated,
    /// A limit of `[server]` was exceeded.
    Limited(ServerLimit),
    /// No backend became ready while it waited.
    NotReady(HoldRefusal),
    /// Its pool was paused, and answered with a page.
    Paused,
    /// Its tunnel ended.
    Tunnel(TunnelEnd),
    /// A panic ended it.
    Panicked,
    /// Its route refused it.
    Refused(RouteRefusal),
}

impl RequestEnd {
    /// Returns the name for the access log; empty for a request without an error.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Well => "",
            Self::ClosedOrderly => "closed_orderly",
            Self::ClientClosed => "client_closed",
            Self::UpstreamDied => "upstream_died",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::BadResponse => "bad_response",
            Self::BadRequest => "bad_request",
            Self::Truncated => "truncated",
            Self::Limited(limit) => limit.key(),
            Self::NotReady(refusal) => refusal.key(),
            Self::Paused => "paused",
            Self::Tunnel(end) => end.as_str(),
            Self::Panicked => "panic",
            Self::Refused(reason) => reason.as_str(),
        }
    }
}

/// What is recorded of a request.
#[derive(Debug)]
pub struct RequestRecord {
    /// Time of its first byte.
    pub began: Time,
    /// Time at which its head was complete.
    pub complete: Time,
    /// Total time on hold.
    pub held: Duration,
    /// Number of backends or connections tried.
    pub attempts: u32,
    /// Why it was retried, or not retried.
    pub retry_reason: Option<RetryReason>,
    /// Attempts that broke, and the restarts by which they are counted; `None`: none broke.
    pub(super) broken: Option<Box<BrokenAttempts>>,
    /// State of its session: `new`, `kept` or `moved`; empty if the pool has no sessions.
    pub session: &'static str,
    /// Number of the request id generated here; `None`: the client sent an id.
    pub made_id: Option<u64>,
    /// The last backend tried.
    pub backend: Option<Arc<Endpoint>>,
    /// Its route, unless the route consists of a pool only.
    pub rule: Option<Arc<RouteRule>>,
    /// Values computed for the changes of its route.
    pub(super) made: KeptValues,
    /// Values from its route's guards, which admitted it.
    pub admission: Option<Box<RouteAdmission>>,
    /// The user, if a password was checked.
    pub user: Option<Arc<str>>,
    /// How it ended.
    pub end: RequestEnd,
    /// Why the proxy answered by itself.
    pub cause: Cow<'static, str>,
    /// Body bytes read from the client.
    pub bytes_in: u64,
    /// Bytes in the client's buffer that belong to this request.
    pub occupied: usize,
    pub(super) status: u16,
    pub(super) bytes_out: u64,
    pub(super) answered: Option<Time>,
}

impl RequestRecord {
    /// Creates the record of a request whose first byte and complete head came at these times.
    pub fn new(began: Time, complete: Time) -> Self {
        Self {
            began,
            complete,
            held: Duration::ZERO,
            attempts: 0,
            retry_reason: None,
            broken: None,
            session: "",
            made_id: None,
            backend: None,
            rule: None,
            made: KeptValues::default(),
            admission: None,
            user: None,
            end: RequestEnd::Well,
            cause: Cow::Borrowed(""),
            bytes_in: 0,
            occupied: 0,
            status: 0,
            bytes_out: 0,
            answered: None,
        }
    }

    /// Returns its id as logged. `buffer` contains its head.
    pub(super) fn request_id(&self, buffer: &[u8], head: &RequestHead) -> Option<RequestId> {
        match self.made_id {
            Some(number) => Some(RequestId::made(number)),
            None => incoming_request_id(buffer, head).map(RequestId::given),
        }
    }

    /// Adds the bytes of an attempt, and takes over its status and time.
    pub fn tally(&mut self, tally: TransferStats) {
        self.status = tally.status;
        self.bytes_out += tally.bytes_out.saturating_sub(tally.head_out);
        self.answered = tally.answered;
        if tally.status > 0 {
            self.end = if tally.ended_orderly {
                RequestEnd::ClosedOrderly
            } else {
                RequestEnd::Well
            };
        }
    }

    /// Records a tunnel: the `status` that the client got, and the bytes carried.
    pub fn tunnelled(&mut self, status: u16, passed: TunnelBytes) {
        self.status = status;
        self.bytes_in += passed.from_client;
        self.bytes_out += passed.to_client;
    }

    /// Records a response that the proxy generated.
    pub fn local(&mut self, status: u16, cause: Cow<'static, str>) {
        self.status = status;
        self.cause = cause;
    }

    /// Adds body bytes of a response that the proxy generated.
    pub fn local_bytes(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }

    /// Returns the status that the client got; 0: none.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Returns when the backend's response began, or else when the request's head was complete.
    pub fn answered(&self) -> Time {
        self.answered.unwrap_or(self.complete)
    }

    /// Returns the end of `total_timeout`, if there is one, with the settings of the route.
    pub(super) fn ends(&self, config: &Config) -> Option<Time> {
        let rule = self.rule.as_ref();
        let total = match rule.and_then(|rule| rule.route.total_timeout) {
            Some(own) => Some(own).filter(|own| !own.is_zero()),
            None => config.server.total_timeout,
        };
        Some(self.complete.saturating_add(total?))
    }

    /// Returns the changes that its route makes.
    #[inline]
    pub(super) fn changes(&self) -> Option<MessageChanges<'_>> {
        let changes = self.rule.as_ref()?.changes.as_deref()?;
        Some(MessageChanges::new(changes, self.made.get()))
    }

    /// Returns the changes that its route makes to the response head.
    pub(super) fn response_changes(&self) -> Option<ChangedFields<'_>> {
        self.changes()?.response()
    }

    /// Returns when the backend's response began, if it did.
    pub(super) fn answered_at(&self) -> Option<Time> {
        self.answered
    }

    /// Returns the number of body bytes written to the client.
    pub(super) fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// Returns the name of its route, if the route has one.
    pub(super) fn route_name(&self) -> &str {
        let rule = self.rule.as_ref();
        rule.and_then(|rule| rule.name.as_deref())
            .unwrap_or_default()
    }

    /// Returns the time spent waiting for backends: until one answered, or otherwise all the time not spent on hold.
    fn upstream(&self, now: Time) -> Duration {
        let waited = match self.answered {
            Some(at) => at.saturating_sub(self.complete),
            None if self.attempts > 0 => now.saturating_sub(self.complete),
            None => Duration::ZERO,
        };
        waited.saturating_sub(self.held)
    }

    /// Counts the request and writes its log line.
    pub fn close(
        &self,
        plane: &DataPlane,
        client: &ClientConnection,
        head: &RequestHead,
        id: &RequestId,
        pool: Option<&PoolSnapshot>,
    ) {
        let now = clock::now();
        let duration = now.saturating_sub(self.began);
        if let Some(pool) = pool {
            let ours = if self.cause.is_empty() {
                None
            } else {
                Some(self.status)
            };
            pool.shared.counters.finished(duration, ours);
        } else if self.status > 0 {
            plane.counters.answered(self.status);
        }
        if let Some(rule) = &self.rule
            && let Some(name) = &rule.name
        {
            let requests = rule
                .requests
                .get_or_init(|| plane.counters.route_requests(name));
            requests.answered(self.status);
        }
        let restarts = match self.met_restart() {
            true => self.count_restarts(pool, now),
            false => String::new(),
        };
        if !plane.access_log.is_on() {
            return;
        }
        let buffer = client.buffer.bytes();
        // One pass over the header fields for both. Each name is a constant in its comparison, which becomes a few
        // wide instructions.
        let (mut user_agent, mut referer) = (None, None);
        for field in &head.fields {
            let name = field.name.of(buffer);
            let place = match name.len() {
                10 if name.eq_ignore_ascii_case(b"user-agent") => &mut user_agent,
                7 if name.eq_ignore_ascii_case(b"referer") => &mut referer,
                _ => continue,
            };
            if place.is_none() && field.kind == FieldKind::Other {
                *place = Some(field.value.of(buffer));
            }
        }
        let told = client.origin.trusted.then(|| {
            let config = &plane.registry.snapshot().config;
            forwarded::client(buffer, head, |address| config.headers.trusts(address))
        });
        let told = told.flatten().map(|address| address.to_string());
        plane.access_log.record(&AccessRecord {
            time: self.began,
            client: told.as_deref().unwrap_or(&client.origin.ip),
            method: head.method_span.of(buffer),
            target: head.target.of(buffer),
            host: head.authority.of(buffer),
            version: client.origin.protocol.unwrap_or(head.version.as_str()),
            status: self.status,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration,
            upstream: self.upstream(now),
            held: self.held,
            route: self.route_name(),
            user: self.user.as_deref().unwrap_or_default(),
            pool: pool.map_or("", |pool| &pool.name),
            backend: self.backend.as_ref().map_or("", |endpoint| &endpoint.name),
            attempts: self.attempts,
            retry_reason: self.retry_reason.map_or("", RetryReason::as_str),
            sticky: self.session,
            request_id: id.as_bytes(),
            user_agent: user_agent.unwrap_or_default(),
            referer: referer.unwrap_or_default(),
            end: self.end.as_str(),
            cause: &self.cause,
            restarts: &restarts,
            trace_id: client
                .followed
                .as_ref()
                .map_or(0, |followed| followed.trace_id),
        });
    }
}

/// Counts a refused client and writes a log line, with as much of the request line as has arrived.
pub fn refused(plane: &DataPlane, client: &ClientConnection, refusal: &ClientRefusal) {
    let seen = client.buffer.bytes();
    record_refusal(plane, &client.origin.ip, seen, client.head_began, refusal);
}

/// As [`refused`], for a connection that was refused before a client was set up: `seen` is what it has sent.
pub fn turned_away(plane: &DataPlane, ip: &str, seen: &[u8], refusal: &ClientRefusal) {
    record_refusal(plane, ip, seen, None, refusal);
}

fn record_refusal(
    plane: &DataPlane,
    ip: &str,
    seen: &[u8],
    began: Option<Time>,
    refusal: &ClientRefusal,
) {
    plane.counters.refused(refusal.reason);
    if let Some(limit) = refusal.limit {
        plane.counters.limited(limit);
    }
    if !plane.access_log.is_on() {
        return;
    }
    let mut lines = seen.split(|byte| matches!(byte, b'\r' | b'\n'));
    let first = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let mut words = first.splitn(3, |byte| *byte == b' ');
    let now = clock::now();
    let began = began.unwrap_or(now);
    plane.access_log.record(&AccessRecord {
        time: began,
        duration: now.saturating_sub(began),
        client: ip,
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        status: refusal.status,
        end: refusal.limit.map_or("refused", ServerLimit::key),
        cause: refusal.detail,
        ..AccessRecord::default()
    });
}
