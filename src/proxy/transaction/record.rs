//! The record of a request for its log line and the metrics, and of connections that never sent one.
//!
//! The request's stations note here what they learn. What an attempt notes replaces what the one before it noted; bytes
//! and attempts add up. At the end it becomes a line's fields, as `src/telemetry/access_log/record.rs` has them.

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

/// How a request ended, where not well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestEnd {
    /// It ended well.
    Well,
    /// Its stream or tunnel was ended in the protocol's orderly way.
    ClosedOrderly,
    /// The client went away.
    ClientClosed,
    /// The backend closed its connection before it answered.
    UpstreamDied,
    /// The backend did not answer in time.
    Timeout,
    /// A deadline of a drain, or of our own end, has cut it.
    Cut,
    /// The backend's answer could not be understood.
    BadResponse,
    /// What the client sent can't be passed on.
    BadRequest,
    /// The response had begun and broke off.
    Truncated,
    /// A limit of `[server]` was reached.
    Limited(ServerLimit),
    /// It waited for a ready backend in vain.
    NotReady(HoldRefusal),
    /// Its pool was paused, and has answered with a page.
    Paused,
    /// Its tunnel ended.
    Tunnel(TunnelEnd),
    /// A panic has ended it.
    Panicked,
    /// Its route has refused it.
    Refused(RouteRefusal),
}

impl RequestEnd {
    /// For the access log; empty where it ended well.
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

/// What is remembered of a request.
#[derive(Debug)]
pub struct RequestRecord {
    /// When its first byte was read.
    pub began: Time,
    /// When its head was complete.
    pub complete: Time,
    /// How long it was on hold.
    pub held: Duration,
    /// How many backends or connections were tried.
    pub attempts: u32,
    /// Why it was tried again, or not again.
    pub retry_reason: Option<RetryReason>,
    /// Attempts that broke, with where that is counted; `None`: none did.
    pub(super) broken: Option<Box<BrokenAttempts>>,
    /// What has become of its session: `new`, `kept` or `moved`; empty where the pool has none.
    pub session: &'static str,
    /// The number of the id that it was given here; `None`: it has come with one.
    pub made_id: Option<u64>,
    /// The last backend tried.
    pub backend: Option<Arc<Endpoint>>,
    /// The route that it goes by, unless that is a pool and nothing more.
    pub rule: Option<Arc<RouteRule>>,
    /// What was made of its texts for what it changes on the way.
    pub(super) made: KeptValues,
    /// What its route's guards have let it in with.
    pub admission: Option<Box<RouteAdmission>>,
    /// The user, where a password was checked.
    pub user: Option<Arc<str>>,
    /// How it ended, where not well.
    pub end: RequestEnd,
    /// Why the proxy answered by itself.
    pub cause: Cow<'static, str>,
    /// Body bytes read from the client.
    pub bytes_in: u64,
    /// Bytes of the client's buffer that belong to this request.
    pub occupied: usize,
    pub(super) status: u16,
    pub(super) bytes_out: u64,
    pub(super) answered: Option<Time>,
}

impl RequestRecord {
    /// An account of a request whose head began and was complete then.
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

    /// Its id, as it is in the log. `buffer` has its head.
    pub(super) fn request_id(&self, buffer: &[u8], head: &RequestHead) -> Option<RequestId> {
        match self.made_id {
            Some(number) => Some(RequestId::made(number)),
            None => incoming_request_id(buffer, head).map(RequestId::given),
        }
    }

    /// Takes over what an attempt counted.
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

    /// Notes a tunnel: the `status` that the client got, and the bytes that passed.
    pub fn tunnelled(&mut self, status: u16, passed: TunnelBytes) {
        self.status = status;
        self.bytes_in += passed.from_client;
        self.bytes_out += passed.to_client;
    }

    /// An answer of our own.
    pub fn local(&mut self, status: u16, cause: Cow<'static, str>) {
        self.status = status;
        self.cause = cause;
    }

    /// Counts body bytes of an answer of our own.
    pub fn local_bytes(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }

    /// The status that the client got; 0: none.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// When the backend's answer began; failing that, when the request's head was complete.
    pub fn answered(&self) -> Time {
        self.answered.unwrap_or(self.complete)
    }

    /// When `total_timeout` is over, if there is one, by what its route has of its own.
    pub(super) fn ends(&self, config: &Config) -> Option<Time> {
        let rule = self.rule.as_ref();
        let total = match rule.and_then(|rule| rule.route.total_timeout) {
            Some(own) => Some(own).filter(|own| !own.is_zero()),
            None => config.server.total_timeout,
        };
        Some(self.complete.saturating_add(total?))
    }

    /// What its route changes on the way.
    #[inline]
    pub(super) fn changes(&self) -> Option<MessageChanges<'_>> {
        let changes = self.rule.as_ref()?.changes.as_deref()?;
        Some(MessageChanges::new(changes, self.made.get()))
    }

    /// What its route changes of the answer's head, whoever makes it.
    pub(super) fn response_changes(&self) -> Option<ChangedFields<'_>> {
        self.changes()?.response()
    }

    /// When the backend's answer began, if it did.
    pub(super) fn answered_at(&self) -> Option<Time> {
        self.answered
    }

    /// Body bytes written to the client.
    pub(super) fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    /// The name of its route, if that has one.
    pub(super) fn route_name(&self) -> &str {
        let rule = self.rule.as_ref();
        rule.and_then(|rule| rule.name.as_deref())
            .unwrap_or_default()
    }

    /// How long backends were waited for: until one answered, or all the time that was not spent on hold.
    fn upstream(&self, now: Time) -> Duration {
        let waited = match self.answered {
            Some(at) => at.saturating_sub(self.complete),
            None if self.attempts > 0 => now.saturating_sub(self.complete),
            None => Duration::ZERO,
        };
        waited.saturating_sub(self.held)
    }

    /// Counts the request and writes its line.
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
        // Once over the fields for both. Each name is a constant where it is compared: that is a few wide compares.
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

/// Counts a refusal and writes its line, with as much of a request line as there is.
pub fn refused(plane: &DataPlane, client: &ClientConnection, refusal: &ClientRefusal) {
    let seen = client.buffer.bytes();
    record_refusal(plane, &client.origin.ip, seen, client.head_began, refusal);
}

/// As [`refused`], for a connection that never became a client: `seen` is what it has sent.
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
