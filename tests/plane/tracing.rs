//! `[tracing]`: which trace a request belongs to, what is recorded of it, and what a collector can't do to the proxy.

mod calls;
mod contexts;
mod encrypted;
mod streams;

use std::time::{Duration, Instant};

use lameduck::core::trace_context::TraceParent;
use lameduck::tools::demo::admin;
use lameduck_rig::collector::{Collector, Mood, attribute, events};
use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::field;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

async fn rig(collector: &Collector, backends: usize, more: &str) -> Rig {
    Rig::new(Setup {
        backends,
        tables: collector.tables(more),
        server: "lame_duck = \"0s\"",
        ..Setup::default()
    })
    .await
}

/// A request with these fields, answered by the first backend; what that got.
async fn ask(rig: &Rig, fields: &str) -> String {
    let mut client = rig
        .ask(format!(
            "GET /a?b=1 HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"
        ))
        .await;
    let (_, mut backend) = rig.first().await;
    let head = backend.head().await;
    backend.answer_and_close("x").await;
    assert_eq!(client.response().await.text(), "x");
    head
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parent_of(head: &str) -> TraceParent {
    let value = field(head, "traceparent").expect("no traceparent");
    TraceParent::parse(value.as_bytes()).expect("a broken traceparent")
}

fn one(spans: &[Span], kind: SpanKind) -> &Span {
    let mut found = spans.iter().filter(|span| span.kind == kind as i32);
    let span = found
        .next()
        .unwrap_or_else(|| panic!("no {kind:?} in {spans:#?}"));
    assert!(found.next().is_none(), "more than one {kind:?}");
    span
}

/// The whole way: held by a pause, lost by the first backend, answered by the second.
#[lameduck_rig::test]
async fn request_held_retried_and_answered_is_one_trace_with_the_right_parents() {
    let collector = Collector::new(Mood::Good).await;
    let rig = rig(
        &collector,
        2,
        "sample = 0.0\nservice_name = \"edge\"\nenvironment = \"test\"",
    )
    .await;
    let pause = "/v1/pools/app/pause";
    admin::call(&rig.socket, "POST", pause, Some(&json!({"for": "1m"})))
        .await
        .unwrap();
    let request = format!(
        "GET /orders/7?a=1&sig=secret HTTP/1.1\r\nHost: shop.test:8080\r\nUser-Agent: u\r\n\
         TraceParent: 00-{TRACE}-{CALLER}-01\r\ntracestate: a=1\r\nTracestate: b=2\r\n\r\n"
    );
    let mut client = rig.ask(request).await;
    rig.until("a held request", |pool| pool.held == 1).await;
    admin::call(&rig.socket, "DELETE", pause, None)
        .await
        .unwrap();
    let (index, mut first) = rig.first().await;
    let first_head = first.head().await;
    first.reset();
    let mut second = rig.backends[1 - index].accept().await;
    let second_head = second.head().await;
    second.answer_and_close("x").await;
    assert_eq!(client.response().await.text(), "x");

    let spans = collector.spans(4).await;
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let server = one(&spans, SpanKind::Server);
    let hold = one(&spans, SpanKind::Internal);
    let attempts: Vec<_> = spans
        .iter()
        .filter(|span| span.kind == SpanKind::Client as i32)
        .collect();
    assert_eq!(attempts.len(), 2);
    assert!(
        spans
            .iter()
            .all(|span| hex(&span.trace_id) == TRACE && span.trace_state == "a=1,b=2")
    );
    assert_eq!(hex(&server.parent_span_id), CALLER);
    for child in [hold, attempts[0], attempts[1]] {
        assert_eq!(child.parent_span_id, server.span_id, "{child:#?}");
        assert!(child.start_time_unix_nano >= server.start_time_unix_nano);
        assert!(child.end_time_unix_nano <= server.end_time_unix_nano);
    }
    // Each backend was told of its own attempt.
    for (head, attempt) in [(&first_head, attempts[0]), (&second_head, attempts[1])] {
        let told = parent_of(head);
        assert_eq!(format!("{:032x}", told.trace), TRACE);
        assert_eq!(told.span.to_be_bytes()[..], attempt.span_id[..]);
        assert!(told.is_sampled());
        assert_eq!(field(head, "tracestate"), Some("a=1,b=2"));
        assert_eq!(head.to_ascii_lowercase().matches("traceparent").count(), 1);
    }
    let says = |span: &Span, key: &str| attribute(span, key).unwrap_or_default();
    assert_eq!(server.name, "GET");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("url.path", "/orders/7"),
        ("url.query", "a=1&sig=REDACTED"),
        ("server.address", "shop.test"),
        ("server.port", "8080"),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "u"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
        ("lameduck.pool", "app"),
        ("lameduck.attempts", "2"),
        ("lameduck.retry_reason", "connection_died"),
    ] {
        assert_eq!(says(server, key), value, "{key} of {server:#?}");
    }
    assert_eq!(events(server), ["answer", "retry"]);
    assert_eq!(says(hold, "lameduck.hold.reason"), "paused");
    let (lost, answered) = (attempts[0], attempts[1]);
    assert_eq!(says(lost, "lameduck.backend"), rig.backends[index].name);
    assert_eq!(says(lost, "error.type"), "connection_died");
    assert_eq!(lost.status.as_ref().unwrap().code, 2);
    assert_eq!(
        says(answered, "lameduck.backend"),
        rig.backends[1 - index].name
    );
    assert_eq!(
        says(answered, "server.port"),
        rig.backends[1 - index].address.port().to_string()
    );
    assert_eq!(says(answered, "http.request.resend_count"), "1");
    assert_eq!(says(answered, "lameduck.connection.reused"), "false");
    assert_eq!(says(answered, "http.response.status_code"), "200");
    assert_eq!(says(answered, "lameduck.retry_reason"), "connection_died");
    assert!(events(answered).contains(&"connected"), "{answered:#?}");

    let (head, resource) = collector.first();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
    assert_eq!(resource["service.name"], Value::StringValue("edge".into()));
    assert_eq!(
        resource["deployment.environment.name"],
        Value::StringValue("test".into())
    );
    let line = &rig.access_log(1).await[0];
    assert_eq!(line["trace_id"], TRACE);
    let series = "lameduck_trace_spans_total{outcome=\"exported\"}";
    rig_metric(&rig, series, 4).await;
}

async fn rig_metric(rig: &Rig, series: &str, least: u64) -> u64 {
    for _ in 0..500 {
        match rig.metric(series).await {
            Some(value) if value >= least => return value,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    panic!("{series} never reached {least}:\n{}", rig.metrics().await);
}

/// Contexts that come, one after the other, and what becomes of them.
#[lameduck_rig::test]
async fn contexts_are_joined_passed_or_dropped() {
    let collector = Collector::new(Mood::Good).await;
    let rig = rig(&collector, 1, "sample = 0.0").await;
    // Unsampled: as it came, and nothing recorded.
    let unsampled = format!("00-{TRACE}-{CALLER}-00");
    let head = ask(
        &rig,
        &format!("traceparent: {unsampled}\r\ntracestate: a=1\r\n"),
    )
    .await;
    assert_eq!(field(&head, "traceparent"), Some(&*unsampled));
    assert_eq!(field(&head, "tracestate"), Some("a=1"));
    // Broken: nothing of it goes on.
    for broken in [
        format!("traceparent: 00-{TRACE}-{CALLER}-1\r\ntracestate: a=1\r\n"),
        format!("traceparent: 00-{TRACE}-{CALLER}-01\r\ntraceparent: 00-{TRACE}-{CALLER}-01\r\n"),
        "tracestate: a=1\r\n".to_owned(),
        "traceparent:\r\n".to_owned(),
    ] {
        let head = ask(&rig, &broken).await.to_ascii_lowercase();
        assert!(!head.contains("trace"), "{broken}: {head}");
    }
    // No context, and none begun.
    let head = ask(&rig, "").await;
    assert_eq!(field(&head, "traceparent"), None);
    // Sampled with a broken state: joined without it.
    let head = ask(
        &rig,
        &format!("traceparent: cc-{TRACE}-{CALLER}-03-later\r\ntracestate: A=1\r\n"),
    )
    .await;
    let told = parent_of(&head);
    assert_eq!(
        (format!("{:032x}", told.trace), told.flags),
        (TRACE.to_owned(), 3)
    );
    assert_eq!(field(&head, "tracestate"), None);
    let spans = collector.spans(2).await;
    assert_eq!(spans.len(), 2);
    assert_eq!(
        hex(&one(&spans, SpanKind::Client).span_id),
        format!("{:016x}", told.span)
    );
    let log = rig.access_log(7).await;
    let ids: Vec<_> = log
        .iter()
        .filter_map(|line| line["trace_id"].as_str())
        .collect();
    assert_eq!(ids, [TRACE, TRACE]);
}

/// Without `[tracing]` a context is a field like any other, broken ones too.
#[lameduck_rig::test]
async fn contexts_pass_unchanged_where_tracing_is_off() {
    let rig = Rig::one().await;
    for value in [format!("00-{TRACE}-{CALLER}-01"), "broken".to_owned()] {
        let head = ask(&rig, &format!("TraceParent: {value}\r\ntracestate: X\r\n")).await;
        assert!(
            head.contains(&format!("TraceParent: {value}\r\ntracestate: X\r\n")),
            "{head}"
        );
    }
    assert!(!rig.metrics().await.contains("lameduck_trace"));
    assert!(
        rig.access_log(2)
            .await
            .iter()
            .all(|line| line.get("trace_id").is_none())
    );
}

/// Strangers' contexts are not believed, but traces of our own begin; kept connections, and what a file of fields says.
#[lameduck_rig::test]
async fn traces_begin_here_for_strangers_and_carry_the_fields_of_a_file() {
    let collector = Collector::new(Mood::Partial(1)).await;
    let dir = tempfile::tempdir().unwrap();
    let headers = dir.path().join("headers");
    std::fs::write(
        &headers,
        "# of the tenant\nX-Scope-OrgID: shop\n\nauthorization: Bearer t\n",
    )
    .unwrap();
    let more = format!("sample = 1\ntrust = \"trusted\"\nheaders_file = {headers:?}");
    let rig = rig(&collector, 1, &more).await;
    let request =
        format!("GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{TRACE}-{CALLER}-01\r\n\r\n");
    let mut client = rig.ask(&request).await;
    let mut backend = rig.backends[0].accept().await;
    let mut traces = Vec::new();
    for _ in 0..2 {
        traces.push(parent_of(&backend.head().await).trace);
        backend.answer("x").await;
        client.response().await;
        client.send(&request).await;
    }
    backend.head().await;
    backend.answer("x").await;
    client.response().await;
    let spans = collector.spans(6).await;
    assert!(traces.iter().all(|trace| format!("{trace:032x}") != TRACE));
    let servers = spans
        .iter()
        .filter(|span| span.kind == SpanKind::Server as i32);
    assert!(
        servers.clone().all(|span| span.parent_span_id.is_empty()),
        "{spans:#?}"
    );
    assert_eq!(servers.count(), 3);
    let reused =
        |span: &&Span| attribute(span, "lameduck.connection.reused").as_deref() == Some("true");
    assert_eq!(spans.iter().filter(reused).count(), 2);
    let (head, _) = collector.first();
    let head = head.to_ascii_lowercase();
    assert!(
        head.contains("x-scope-orgid: shop\r\n") && head.contains("authorization: bearer t\r\n"),
        "{head}"
    );
    let requests = collector.requests() as u64;
    assert_eq!(
        rig_metric(
            &rig,
            "lameduck_trace_spans_total{outcome=\"rejected\"}",
            requests
        )
        .await,
        requests
    );
}

/// Whatever the collector does: requests are served, the queue stays within its bound, and losses are counted and told.
#[lameduck_rig::test]
async fn collector_at_fault_delays_no_request_and_losses_are_counted() {
    let collector = Collector::new(Mood::Silent).await;
    let more = "sample = 1\ntimeout = \"300ms\"\nqueue_spans = 6";
    let mut rig = rig(&collector, 1, more).await;
    let lost = "lameduck_trace_spans_total{outcome=\"failed\"}";
    let mut failed = 0;
    for mood in [
        Mood::Silent,
        Mood::Status(429),
        Mood::Status(503),
        Mood::Status(400),
        Mood::Garbage,
    ] {
        collector.set_mood(mood);
        let began = Instant::now();
        ask(&rig, "").await;
        // Two spans each. It has not been waited for the collector, whose time-out is what takes long.
        failed = rig_metric(&rig, lost, failed + 2).await;
        assert!(began.elapsed() < Duration::from_secs(9), "{mood:?}");
    }
    rig.logs("spans were lost on their way to the collector")
        .await;
    // More than the queue has room for, while the collector says nothing.
    collector.set_mood(Mood::Silent);
    let full = "lameduck_trace_spans_total{outcome=\"queue_full\"}";
    for _ in 0..200 {
        ask(&rig, "").await;
        if rig.metric(full).await >= Some(2) {
            break;
        }
    }
    assert!(rig_metric(&rig, full, 2).await >= 2);
    assert!(rig.metric("lameduck_trace_queue_spans").await.unwrap() <= 6);
    assert_eq!(collector.requests(), 0);
    // It comes back, and so do traces.
    collector.set_mood(Mood::Good);
    for _ in 0..200 {
        ask(&rig, "").await;
        if collector.requests() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    collector.spans(2).await;
    // At the end nobody waits for one that is away.
    collector.set_mood(Mood::Silent);
    ask(&rig, "").await;
    let began = Instant::now();
    rig.terminate();
    assert!(rig.exited().await.success());
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}

/// What was recorded just before the end is sent; a WebSocket's span lasts as long as it does.
#[lameduck_rig::test]
async fn last_spans_are_sent_at_the_end_and_a_tunnel_is_a_span() {
    let collector = Collector::new(Mood::Good).await;
    let mut rig = rig(&collector, 1, "sample = 1").await;
    let mut client = rig
        .ask("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    parent_of(&backend.head().await);
    backend
        .send("HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello")
        .await;
    client.head().await;
    client.expect("hello").await;
    let mut other = rig.ask(GET).await;
    let mut second = rig.backends[0].accept().await;
    second.head().await;
    second.answer_and_close("x").await;
    other.response().await;
    assert!(
        collector
            .all()
            .iter()
            .all(|span| attribute(span, "url.path").as_deref() != Some("/ws"))
    );
    drop(backend);
    client.gone().await;
    // Until then it is half open.
    drop(client);
    rig.terminate();
    assert!(rig.exited().await.success());
    let spans = collector.all();
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let of_tunnel =
        |span: &&Span| attribute(span, "http.response.status_code").as_deref() == Some("101");
    assert_eq!(spans.iter().filter(of_tunnel).count(), 2, "{spans:#?}");
}
