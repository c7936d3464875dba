//! Converts records to spans, named by OpenTelemetry's conventions for HTTP
//! (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>). Attributes that only lameduck has are named
//! `lameduck.…`.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::SystemTime;

use opentelemetry::trace::{
    Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::super::record::{AttemptSpan, HoldSpan, RequestTrace};
use crate::core::Time;
use crate::core::call_status::CallStatus;
use crate::rt::clock::ClockReading;

/// Longest text of an attribute, in bytes.
const LONGEST_TEXT: usize = 2048;

/// Methods that the conventions know; all others become `_OTHER`, because clients could invent any number of them.
const METHODS: [&str; 10] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE",
];

/// Query parameters with signatures or keys, whose values the conventions demand to leave out.
const SECRETS: [&str; 5] = [
    "AWSAccessKeyId",
    "Signature",
    "X-Amz-Signature",
    "X-Goog-Signature",
    "sig",
];

static SCOPE: LazyLock<InstrumentationScope> = LazyLock::new(|| {
    InstrumentationScope::builder("lameduck")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build()
});

/// Attributes under construction; empty ones are left out.
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn text(&mut self, key: &'static str, value: &str) {
        if !value.is_empty() {
            let mut end = value.len().min(LONGEST_TEXT);
            while !value.is_char_boundary(end) {
                end -= 1;
            }
            self.0.push(KeyValue::new(key, value[..end].to_owned()));
        }
    }

    fn put(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.push(KeyValue::new(key, value));
    }

    fn count(&mut self, key: &'static str, value: u64) {
        self.put(key, i64::try_from(value).unwrap_or(i64::MAX));
    }

    fn host(&mut self, authority: &str) {
        let (host, port) = split_authority(authority);
        self.text("server.address", host);
        if let Some(port) = port {
            self.count("server.port", port.into());
        }
    }

    /// Adds the attributes of gRPC's conventions (<https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>).
    fn call(&mut self, path: &str, status: Option<CallStatus>) {
        self.text("rpc.system.name", "grpc");
        self.text("rpc.method", path.trim_start_matches('/'));
        if let Some(status) = status {
            self.text("rpc.status_code", status.as_str());
        }
    }

    fn method(&mut self, method: &str) {
        match known_method(method) {
            Some(known) => self.text("http.request.method", known),
            None => {
                self.text("http.request.method", "_OTHER");
                self.text("http.request.method_original", method);
            }
        }
    }
}

/// All spans of a request, the server span first.
pub(super) fn make_spans(trace: &RequestTrace, reading: &ClockReading) -> Vec<SpanData> {
    let made = SpanMaker {
        trace,
        reading,
        state: trace.state.parse().unwrap_or_default(),
    };
    let holds = trace.holds.iter().map(|hold| made.hold(hold));
    let attempts = trace.attempts.iter().enumerate();
    let attempts = attempts.map(|(at, attempt)| made.attempt(at, attempt));
    std::iter::once(made.server())
        .chain(holds)
        .chain(attempts)
        .collect()
}

struct SpanMaker<'a> {
    trace: &'a RequestTrace,
    reading: &'a ClockReading,
    state: TraceState,
}

impl SpanMaker<'_> {
    fn wall(&self, at: Time) -> SystemTime {
        self.reading.to_wall(at)
    }

    fn span(
        &self,
        id: u64,
        kind: SpanKind,
        name: Cow<'static, str>,
        times: (Time, Time),
    ) -> SpanData {
        let trace = TraceId::from(self.trace.trace);
        let is_server = id == self.trace.span;
        let parent = match is_server {
            true => self.trace.parent.unwrap_or(0),
            false => self.trace.span,
        };
        let flags = TraceFlags::new(self.trace.flags);
        SpanData {
            span_context: SpanContext::new(
                trace,
                SpanId::from(id),
                flags,
                false,
                self.state.clone(),
            ),
            parent_span_id: SpanId::from(parent),
            parent_span_is_remote: is_server && parent != 0,
            span_kind: kind,
            name,
            start_time: self.wall(times.0),
            end_time: self.wall(times.1.max(times.0)),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: SCOPE.clone(),
        }
    }

    /// The server span: the request itself.
    fn server(&self) -> SpanData {
        let trace = self.trace;
        let method = known_method(&trace.method).unwrap_or("HTTP");
        // The route's path pattern groups requests, and has no ids in it.
        let name = match (&*trace.route_pattern, &*trace.route) {
            ("", "") => Cow::Borrowed(method),
            ("", route) => format!("{method} {route}").into(),
            (pattern, _) => format!("{method} {pattern}").into(),
        };
        let mut span = self.span(
            trace.span,
            SpanKind::Server,
            name,
            (trace.began, trace.ended),
        );
        let mut all = Attributes(Vec::with_capacity(24));
        all.method(&trace.method);
        all.text("url.scheme", trace.scheme);
        all.text("url.path", &trace.path);
        all.text("url.query", &without_secrets(&trace.query));
        all.host(&trace.authority);
        all.text("http.route", &trace.route_pattern);
        all.text("network.protocol.name", "http");
        all.text("network.protocol.version", trace.version);
        all.text("client.address", &trace.client);
        if let Some(peer) = trace.peer {
            all.text(
                "network.peer.address",
                &peer.ip().to_canonical().to_string(),
            );
            all.count("network.peer.port", peer.port().into());
        }
        all.text("user_agent.original", &trace.user_agent);
        if trace.status > 0 {
            all.count("http.response.status_code", trace.status.into());
        }
        all.count("http.request.body.size", trace.bytes_in);
        all.count("http.response.body.size", trace.bytes_out);
        if trace.is_grpc {
            all.call(&trace.path, trace.call_status);
        }
        all.text("lameduck.route", &trace.route);
        all.text("lameduck.pool", &trace.pool);
        if let Some(last) = trace.attempts.last() {
            all.text("lameduck.backend", &last.backend);
        }
        all.count("lameduck.attempts", trace.attempts.len() as u64);
        all.text("lameduck.request_id", &trace.request_id);
        all.text("lameduck.retry_reason", trace.retry_reason);
        all.text("lameduck.session", trace.session);
        all.text("lameduck.end", trace.end);
        all.text("lameduck.cause", &trace.cause);
        self.judge_server(&mut span, &mut all);
        span.attributes = all.0;
        if let Some(answered) = trace.answered {
            span.events
                .events
                .push(self.event("answer", answered, Vec::new()));
        }
        for retry in trace
            .attempts
            .iter()
            .filter(|attempt| !attempt.retry_reason.is_empty())
        {
            let why = KeyValue::new("lameduck.retry_reason", retry.retry_reason);
            span.events
                .events
                .push(self.event("retry", retry.began, vec![why]));
        }
        if matches!(trace.end, "cut" | "closed_orderly") {
            span.events
                .events
                .push(self.event(trace.end, trace.ended, Vec::new()));
        }
        if trace.is_moved {
            span.events
                .events
                .push(self.event("moved", trace.ended, Vec::new()));
        }
        span
    }

    /// Sets the status: only what the server is responsible for is an error of a server span (section "Status").
    fn judge_server(&self, span: &mut SpanData, all: &mut Attributes) {
        let trace = self.trace;
        let is_broken = matches!(
            trace.end,
            "cut" | "upstream_died" | "timeout" | "bad_response" | "truncated" | "panic"
        );
        let call = trace.call_status.filter(|call| call.is_server_error());
        if let Some(call) = call {
            all.text("error.type", call.as_str());
        } else if trace.status >= 500 {
            all.text("error.type", itoa::Buffer::new().format(trace.status));
        } else if is_broken {
            all.text("error.type", trace.end);
        } else {
            return;
        }
        let why = match &*trace.cause {
            "" => trace.end,
            cause => cause,
        };
        span.status = Status::error(why.to_owned());
    }

    fn hold(&self, hold: &HoldSpan) -> SpanData {
        let times = (hold.began, hold.ended.unwrap_or(self.trace.ended));
        let mut span = self.span(hold.span, SpanKind::Internal, "hold".into(), times);
        let mut all = Attributes(Vec::with_capacity(2));
        all.text("lameduck.pool", &self.trace.pool);
        all.text("lameduck.hold.reason", hold.reason.as_str());
        span.attributes = all.0;
        span
    }

    fn attempt(&self, at: usize, attempt: &AttemptSpan) -> SpanData {
        let method = known_method(&self.trace.method).unwrap_or("HTTP");
        let times = (attempt.began, attempt.ended.unwrap_or(self.trace.ended));
        let mut span = self.span(attempt.span, SpanKind::Client, method.into(), times);
        let mut all = Attributes(Vec::with_capacity(14));
        all.method(&self.trace.method);
        match attempt.address.strip_prefix("unix:") {
            Some(path) => {
                all.text("server.address", path);
                all.text("network.transport", "unix");
            }
            None => all.host(&attempt.address),
        }
        if attempt.status > 0 {
            all.count("http.response.status_code", attempt.status.into());
        }
        if at > 0 {
            all.count("http.request.resend_count", at as u64);
        }
        if self.trace.is_grpc {
            all.call(&self.trace.path, attempt.call_status);
        }
        all.text("lameduck.pool", &self.trace.pool);
        all.text("lameduck.backend", &attempt.backend);
        all.put("lameduck.connection.reused", attempt.is_reused);
        all.text("lameduck.retry_reason", attempt.retry_reason);
        if attempt.is_draining {
            all.text("lameduck.backend.state", "draining");
        }
        if let Some(connected) = attempt.connected.filter(|_| !attempt.is_reused) {
            let took = connected.saturating_sub(attempt.began);
            all.put("lameduck.connect_ms", took.as_secs_f64() * 1000.0);
            span.events
                .events
                .push(self.event("connected", connected, Vec::new()));
        }
        if let Some(answered) = attempt.answered {
            span.events
                .events
                .push(self.event("answer", answered, Vec::new()));
        }
        // For a client span, 4xx are errors as well.
        if !attempt.failure.is_empty() {
            all.text("error.type", attempt.failure);
            span.status = Status::error(attempt.failure);
            if attempt.failure == "cut_by_drain" {
                span.events
                    .events
                    .push(self.event("cut", times.1, Vec::new()));
            }
        } else if let Some(call) = attempt.call_status.filter(|call| call.is_client_error()) {
            all.text("error.type", call.as_str());
            span.status = Status::error("");
        } else if attempt.status >= 400 {
            all.text("error.type", itoa::Buffer::new().format(attempt.status));
            span.status = Status::error("");
        }
        span.attributes = all.0;
        span
    }

    fn event(&self, name: &'static str, at: Time, attributes: Vec<KeyValue>) -> Event {
        Event::new(name, self.wall(at), attributes, 0)
    }
}

fn known_method(method: &str) -> Option<&'static str> {
    METHODS.into_iter().find(|known| *known == method)
}

/// Host and port of `host:port`, `[::1]:80` or `host`.
fn split_authority(authority: &str) -> (&str, Option<u16>) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().ok())
        }
        _ => (authority, None),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

/// A query with `REDACTED` in place of secret values.
fn without_secrets(query: &str) -> Cow<'_, str> {
    let is_secret = |field: &&str| {
        let name = field.split_once('=').map_or("", |(name, _)| name);
        SECRETS.contains(&name)
    };
    if !query.split('&').any(|field| is_secret(&field)) {
        return Cow::Borrowed(query);
    }
    let fields = query.split('&').map(|field| match is_secret(&field) {
        true => {
            let name = field.split_once('=').map_or("", |(name, _)| name);
            Cow::Owned(format!("{name}=REDACTED"))
        }
        false => Cow::Borrowed(field),
    });
    Cow::Owned(fields.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_query_are_left_out() {
        assert_eq!(without_secrets("a=1&b=2"), "a=1&b=2");
        assert_eq!(
            without_secrets("a=1&sig=xyz&Signature=&b"),
            "a=1&sig=REDACTED&Signature=REDACTED&b"
        );
    }

    #[test]
    fn authorities_are_split() {
        for (given, host, port) in [
            ("a.example:80", "a.example", Some(80)),
            ("a.example", "a.example", None),
            ("[::1]:443", "::1", Some(443)),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("", "", None),
        ] {
            assert_eq!(split_authority(given), (host, port), "{given}");
        }
    }
}
