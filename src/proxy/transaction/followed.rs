//! Follows a request for a split plan and for its trace. None of this runs for other requests.

use super::Transaction;
use super::guards::replace_fields;
use super::judge::FailedAttempt;
use super::received_request::client_address;
use super::record::{RequestEnd, RequestRecord};
use super::request_id::RequestId;
use crate::config::{Route, TraceTrust};
use crate::core::Time;
use crate::core::retry::RetryReason;
use crate::core::trace_context::{
    LONGEST_STATE, TraceDecision, TraceParent, decide_trace, is_state_valid,
};
use crate::metrics::MeteredRequest;
use crate::proxy::client::ClientConnection;
use crate::proxy::client::followed::FollowedRequest;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::h1::request::RequestHead;
use crate::proxy::h1::span::HeaderField;
use crate::registry::endpoint::Endpoint;
use crate::registry::snapshot::PoolSnapshot;
use crate::rt::clock;
use crate::telemetry::spans::record::{
    AttemptSpan, HoldReason, HoldSpan, RequestTrace, new_span_id, new_trace_id,
};

/// Maximum length of client-sent text that is recorded, in bytes.
const LONGEST_TEXT: usize = 2048;

/// Maximum number of recorded entries of one kind: attempts, and times on hold.
const MOST_CHILDREN: usize = 64;

/// Decides whether a request is traced once its head is complete, and begins the trace.
#[inline(never)]
pub(super) fn begin_trace(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &RequestHead,
    began: Time,
) {
    client.followed = None;
    let Some((share, trust)) = plane.tracer.policy() else {
        return;
    };
    // Most requests end here: they bring no trace context and are not sampled. Nothing is allocated for them.
    let random = fastrand::u64(..);
    let has_context = has_context(client.buffer.bytes(), head);
    if !has_context && !share.takes(random) {
        return;
    }
    let is_believed = match trust {
        TraceTrust::All => true,
        TraceTrust::Trusted => client.origin.trusted,
        TraceTrust::Nobody => false,
    };
    let parent = match is_believed {
        true => received_parent(client.buffer.bytes(), head),
        false => None,
    };
    let decision = decide_trace(parent, has_context, share, random);
    follow_decision(plane, client, head, began, decision, random);
}

#[cold]
#[inline(never)]
fn follow_decision(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &RequestHead,
    began: Time,
    decision: TraceDecision,
    random: u64,
) {
    let buffer = client.buffer.bytes();
    let (trace, parent) = match decision {
        TraceDecision::Absent => return,
        TraceDecision::Pass(parent) => {
            client.followed = Some(Box::new(FollowedRequest {
                trace_id: parent.trace,
                ..FollowedRequest::default()
            }));
            return;
        }
        TraceDecision::Strip => {
            client.followed = Some(Box::new(FollowedRequest {
                is_stripped: true,
                ..FollowedRequest::default()
            }));
            return;
        }
        TraceDecision::Join(parent) => (parent.trace, Some(parent)),
        TraceDecision::Begin => (new_trace_id(random), None),
    };
    let mut state = Vec::new();
    if parent.is_some() {
        join_states(buffer, head, &mut state);
    }
    let text = |bytes: &[u8]| {
        let end = bytes.len().min(LONGEST_TEXT);
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let target = head.target.of(buffer);
    let query = memchr::memchr(b'?', target).map_or(&b""[..], |at| &target[at + 1..]);
    let snapshot = plane.registry.snapshot();
    let record = RequestTrace {
        trace,
        span: new_span_id(),
        parent: parent.map(|parent| parent.span),
        flags: parent.map_or(1, |parent| parent.flags),
        state: String::from_utf8(state).unwrap_or_default(),
        began,
        method: text(head.method_span.of(buffer)),
        scheme: client.origin.scheme,
        authority: text(head.authority.of(buffer)),
        path: text(head.path.of(buffer)),
        query: text(query),
        version: match client.origin.protocol.unwrap_or(head.version.as_str()) {
            "HTTP/1.0" => "1.0",
            "HTTP/1.1" => "1.1",
            _ => "2",
        },
        client: client_address(&snapshot.config.headers, buffer, head, &client.origin)
            .map_or_else(String::new, |address| address.to_string()),
        peer: client.origin.address,
        user_agent: text(user_agent(buffer, head)),
        is_grpc: head.is_grpc,
        ..RequestTrace::default()
    };
    client.followed = Some(Box::new(FollowedRequest {
        trace_id: trace,
        trace: Some(Box::new(record)),
        ..FollowedRequest::default()
    }));
}

const PARENT: &[u8] = b"traceparent";
const STATE: &[u8] = b"tracestate";

/// Returns whether a request has a trace context header field, valid or not. Lengths are compared first: that needs
/// no access to the buffer.
fn has_context(buffer: &[u8], head: &RequestHead) -> bool {
    // The names are literals, whose lengths are known at compile time: comparing takes a few wide instructions and no
    // call.
    let is_of_context = |field: &HeaderField| match field.name.len() {
        11 => (field.name.of(buffer)).eq_ignore_ascii_case(b"traceparent"),
        10 => (field.name.of(buffer)).eq_ignore_ascii_case(b"tracestate"),
        _ => false,
    };
    head.fields.iter().any(is_of_context)
}

/// Returns a request's trace context if there is exactly one and it is well-formed (W3C Trace Context, section 3.2:
/// with two, it is unknown which one is valid).
fn received_parent(buffer: &[u8], head: &RequestHead) -> Option<TraceParent> {
    let mut parents =
        (head.fields.iter()).filter(|field| field.name.of(buffer).eq_ignore_ascii_case(PARENT));
    let (parent, None) = (parents.next()?, parents.next()) else {
        return None;
    };
    TraceParent::parse(parent.value.of(buffer))
}

/// Returns the last `User-Agent`.
fn user_agent<'a>(buffer: &'a [u8], head: &RequestHead) -> &'a [u8] {
    let is_agent = |field: &&HeaderField| {
        let name = field.name.of(buffer);
        name.eq_ignore_ascii_case(b"user-agent")
    };
    let agent = head.fields.iter().rev().find(is_agent);
    agent.map_or(&[], |agent| agent.value.of(buffer))
}

/// Joins all `tracestate` header fields into one list (W3C Trace Context, section 3.3.1.1); the list is empty if it is
/// invalid or too long.
fn join_states(buffer: &[u8], head: &RequestHead, out: &mut Vec<u8>) {
    for field in &head.fields {
        if !field.name.of(buffer).eq_ignore_ascii_case(STATE) {
            continue;
        }
        let value = field.value.of(buffer);
        if out.len() + value.len() > LONGEST_STATE {
            out.clear();
            return;
        }
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(value);
    }
    if !is_state_valid(out) {
        out.clear();
    }
}

impl Transaction<'_> {
    /// Counts a request that is about to go to a backend, if a split plan counts requests.
    #[cold]
    pub(super) fn begin_metering(&mut self) {
        let rule = self.account.rule.as_ref();
        let Some(split) = rule.and_then(|rule| rule.split.as_ref()) else {
            return;
        };
        let metered = split
            .meter()
            .and_then(|meter| MeteredRequest::begin(meter, &self.pool.name, clock::now()));
        if metered.is_some() {
            let followed = self.client.followed.get_or_insert_default();
            followed.metered = metered;
        }
    }

    /// Records that the request begins to wait: for a free place on a ready backend (`for_room`), or for a ready
    /// backend.
    #[cold]
    pub(super) fn follow_hold(&mut self, for_room: bool) {
        let is_paused = self.pool.pause.is_some();
        let Some(followed) = self.client.followed.as_deref_mut() else {
            return;
        };
        // Waiting for a free place means that the backends are slow, and counts as their time; waiting for a ready
        // backend doesn't.
        if let Some(metered) = followed.metered.as_mut().filter(|_| !for_room) {
            metered.hold();
        }
        if let Some(trace) = &mut followed.trace
            && trace.holds.len() < MOST_CHILDREN
        {
            trace.holds.push(HoldSpan {
                span: new_span_id(),
                began: clock::now(),
                ended: None,
                reason: match (is_paused, for_room) {
                    (true, _) => HoldReason::Paused,
                    (false, true) => HoldReason::Room,
                    (false, false) => HoldReason::NoneReady,
                },
            });
        }
    }

    /// Records that the request's wait is over.
    #[cold]
    pub(super) fn follow_release(&mut self, for_room: bool) {
        let now = clock::now();
        let Some(followed) = self.client.followed.as_deref_mut() else {
            return;
        };
        if let Some(metered) = followed.metered.as_mut().filter(|_| !for_room) {
            metered.release(now);
        }
        if let Some(trace) = &mut followed.trace
            && let Some(hold) = trace.holds.last_mut()
        {
            hold.ended.get_or_insert(now);
        }
    }

    /// Records that a connection to a backend is about to be made.
    #[cold]
    pub(super) fn follow_connect(&mut self, endpoint: &Endpoint) {
        self.begin_attempt(endpoint, false);
    }

    /// Writes the trace context of this attempt into the request head, once there is a connection.
    #[cold]
    #[inline(never)]
    pub(super) fn edit_context(&mut self, endpoint: &Endpoint, out: &mut Vec<u8>) {
        let is_begun = |trace: &RequestTrace| {
            let last = trace.attempts.last();
            last.is_some_and(|last| last.connected.is_none() && last.ended.is_none())
        };
        let followed = self.client.followed.as_ref();
        let Some(trace) = followed.and_then(|followed| followed.trace.as_ref()) else {
            if followed.is_some_and(|followed| followed.is_stripped) {
                replace_fields(out, &[PARENT, STATE], b"");
            }
            return;
        };
        if !is_begun(trace) {
            self.begin_attempt(endpoint, true);
        }
        let Some(trace) = self.recorded_trace() else {
            return;
        };
        let Some(attempt) = trace.attempts.last_mut() else {
            return;
        };
        attempt.connected = Some(clock::now());
        let span = attempt.span;
        let mut lines = b"traceparent: ".to_vec();
        lines.extend_from_slice(&trace.context(span).write());
        if !trace.state.is_empty() {
            lines.extend_from_slice(b"\r\ntracestate: ");
            lines.extend_from_slice(trace.state.as_bytes());
        }
        lines.extend_from_slice(b"\r\n");
        replace_fields(out, &[PARENT, STATE], &lines);
    }

    fn recorded_trace(&mut self) -> Option<&mut RequestTrace> {
        self.client.followed.as_mut()?.trace.as_deref_mut()
    }

    fn begin_attempt(&mut self, endpoint: &Endpoint, is_reused: bool) {
        let retry_reason = match self.account.attempts {
            0 | 1 => "",
            _ => self.account.retry_reason.map_or("", RetryReason::as_str),
        };
        let Some(trace) = self.recorded_trace() else {
            return;
        };
        if trace.attempts.len() == MOST_CHILDREN {
            return;
        }
        trace.attempts.push(AttemptSpan {
            span: new_span_id(),
            began: clock::now(),
            connected: None,
            answered: None,
            ended: None,
            backend: endpoint.name.to_string(),
            address: endpoint.address.to_string(),
            is_reused,
            status: 0,
            call_status: None,
            failure: "",
            retry_reason,
            is_draining: false,
        });
    }

    /// Records that an attempt failed.
    #[cold]
    pub(super) fn follow_failure(&mut self, failed: &FailedAttempt) {
        let why = match failed {
            FailedAttempt::Failed(failure) => failure.reason().as_str(),
            FailedAttempt::Over(_) | FailedAttempt::Final(_) => self.account.end.as_str(),
        };
        let is_draining = is_draining(self.account);
        let Some(trace) = self.recorded_trace() else {
            return;
        };
        if let Some(attempt) = trace.attempts.last_mut()
            && attempt.ended.is_none()
        {
            attempt.ended = Some(clock::now());
            attempt.failure = why;
            attempt.is_draining = is_draining;
        }
    }
}

/// Returns whether the backend that was tried last is draining.
fn is_draining(account: &RequestRecord) -> bool {
    let backend = account.backend.as_ref();
    backend.is_some_and(|endpoint| endpoint.gate.is_closed())
}

/// Completes the request's trace and its part in the split plan's figures.
#[cold]
#[inline(never)]
pub(super) fn end_following(
    plane: &DataPlane,
    client: &mut ClientConnection,
    account: &RequestRecord,
    id: &RequestId,
    pool: Option<&PoolSnapshot>,
    is_moved: bool,
) {
    let Some(followed) = client.followed.take() else {
        return;
    };
    if let Some(metered) = followed.metered.filter(|_| !is_moved) {
        // A client that disconnected, or was cut off by one of the proxy's own deadlines, says nothing about the
        // backend.
        let is_broken = matches!(
            account.end,
            RequestEnd::UpstreamDied
                | RequestEnd::Timeout
                | RequestEnd::BadResponse
                | RequestEnd::Truncated
        );
        metered.end(account.status(), account.attempts, is_broken, clock::now());
    }
    let Some(mut trace) = followed.trace else {
        return;
    };
    trace.ended = clock::now();
    trace.answered = account.answered_at();
    trace.route = account.route_name().to_owned();
    trace.route_pattern =
        (account.rule.as_ref()).map_or_else(String::new, |rule| pattern(&rule.route));
    trace.pool = pool.map_or_else(String::new, |pool| pool.name.to_string());
    trace.request_id = id.as_str().to_owned();
    // A gRPC call that the proxy answered itself has its status already.
    if trace.status == 0 {
        trace.status = account.status();
    }
    let of_backend = trace.attempts.last().and_then(|last| last.call_status);
    trace.call_status = trace.call_status.or(of_backend);
    trace.bytes_in = account.bytes_in;
    trace.bytes_out = account.bytes_out();
    trace.end = account.end.as_str();
    trace.cause = account.cause.to_string();
    trace.retry_reason = account.retry_reason.map_or("", RetryReason::as_str);
    trace.session = account.session;
    trace.is_moved = is_moved;
    if let Some(attempt) = trace.attempts.last_mut()
        && attempt.ended.is_none()
    {
        attempt.is_draining = is_draining(account);
    }
    plane.tracer.send(trace);
}

/// Returns the path pattern of a route.
fn pattern(route: &Route) -> String {
    match (&route.path, &route.path_regex, &*route.path_prefix) {
        (Some(path), ..) => path.clone(),
        (None, Some(regex), _) => regex.clone(),
        (None, None, "/" | "") => String::new(),
        (None, None, prefix) => format!("{prefix}/*"),
    }
}
