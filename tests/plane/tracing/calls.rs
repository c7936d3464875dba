//! Traces of gRPC calls: from HTTP/2 to HTTP/2, with the status that the trailers say.

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use lameduck_rig::collector::{Collector, Mood, attribute};
use lameduck_rig::h2_client::{Answer, Client, answer, soon};
use lameduck_rig::proxy::{Rig, Setup};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{CALLER, TRACE, hex, one};
use lameduck::core::trace_context::TraceParent;

/// A message of gRPC.
const MESSAGE: &[u8] = b"\0\0\0\0\x02hi";

const ERROR: i32 = 2;

/// Answers each call as its method's name says; tells of the heads that it got.
async fn serve(listener: TcpListener, heads: mpsc::UnboundedSender<HeaderMap>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let heads = heads.clone();
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                let (parts, mut body) = request.into_parts();
                heads.send(parts.headers).unwrap();
                let method = parts.uri.path().rsplit('/').next().unwrap().to_owned();
                tokio::spawn(async move {
                    while body.data().await.is_some() {}
                    reply(&method, respond).await;
                });
            }
        });
    }
}

async fn reply(method: &str, mut respond: SendResponse<Bytes>) {
    let head = Response::builder().header("content-type", "application/grpc");
    let trailers = |code: &'static str| {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(code));
        trailers
    };
    // What stands before an app may know nothing of calls.
    if method == "Unwell" {
        let head = Response::builder().status(503).body(()).unwrap();
        let mut down = respond.send_response(head, false).unwrap();
        down.send_data(Bytes::from_static(b"busy"), true).unwrap();
        return;
    }
    // A call that fails at once has no body.
    if method == "Missing" {
        let head = head.header("grpc-status", "5").body(()).unwrap();
        respond.send_response(head, true).unwrap();
        return;
    }
    let mut down = respond
        .send_response(head.body(()).unwrap(), false)
        .unwrap();
    down.send_data(Bytes::from_static(MESSAGE), method == "Cut")
        .unwrap();
    match method {
        "Add" => down.send_trailers(trailers("0")).unwrap(),
        "Broken" => down.send_trailers(trailers("13")).unwrap(),
        "Cut" => {}
        // For as long as it likes.
        _ => std::future::pending().await,
    }
}

async fn rig(collector: &Collector) -> (Rig, mpsc::UnboundedReceiver<HeaderMap>) {
    let tables = collector.tables("sample = 0.0\n[[route]]\nhost = [\"a\"]\npool = \"app\"");
    let mut rig = Rig::new(Setup {
        pool: "[pool.upstream]\nhttp2 = true\n[pool.drain]\nclose_spread = \"2500ms\"\n",
        tables: format!("http2 = true\n{tables}").leak(),
        ..Setup::default()
    })
    .await;
    let listener = rig.backends[0].take_listener();
    let (sender, heads) = mpsc::unbounded_channel();
    tokio::spawn(serve(TcpListener::from_std(listener).unwrap(), sender));
    (rig, heads)
}

fn call(host: &str, method: &str) -> Request<()> {
    Request::post(format!("http://{host}/shop.Cart/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .header("tracestate", "a=1")
        .header("tracestate", "b=2")
        .body(())
        .unwrap()
}

async fn begin(client: &mut Client, host: &str, method: &str) -> h2::client::ResponseFuture {
    let (response, mut upload) = client.begin(call(host, method), false).await;
    upload.send_data(Bytes::from_static(MESSAGE), true).unwrap();
    response
}

async fn ask(client: &mut Client, host: &str, method: &str) -> Answer {
    let response = begin(client, host, method).await;
    answer(response).await
}

/// What is said of a call: its status, the error's type, and whether the span has failed.
fn said(span: &Span) -> (String, String, bool) {
    let text = |key: &str| attribute(span, key).unwrap_or_default();
    let is_error = span
        .status
        .as_ref()
        .is_some_and(|status| status.code == ERROR);
    (text("rpc.status_code"), text("error.type"), is_error)
}

fn expected(status: &str, error: &str) -> (String, String, bool) {
    (status.to_owned(), error.to_owned(), !error.is_empty())
}

/// Clients' errors are not those of a server (OpenTelemetry's conventions for gRPC).
#[lameduck_rig::test]
async fn status_of_a_call_is_in_its_spans_and_judged_by_either_side() {
    let collector = Collector::new(Mood::Good).await;
    let (rig, mut heads) = rig(&collector).await;
    let mut client = Client::new(&rig).await;
    let mut count = 0;
    for (method, status, of_server, of_client) in [
        ("Add", "OK", "", ""),
        ("Missing", "NOT_FOUND", "", "NOT_FOUND"),
        ("Broken", "INTERNAL", "INTERNAL", "INTERNAL"),
        // It ends without a status, which clients take for UNKNOWN.
        ("Cut", "UNKNOWN", "UNKNOWN", "UNKNOWN"),
        ("Unwell", "", "503", "503"),
    ] {
        ask(&mut client, "a", method).await;
        let head = soon(heads.recv()).await.unwrap();
        count += 2;
        let mut spans = collector.spans(count).await.split_off(count - 2);
        spans.retain(|span| hex(&span.trace_id) == TRACE);
        let (server, attempt) = (one(&spans, SpanKind::Server), one(&spans, SpanKind::Client));
        assert_eq!(
            said(server),
            expected(status, of_server),
            "{method}: {server:#?}"
        );
        assert_eq!(
            said(attempt),
            expected(status, of_client),
            "{method}: {attempt:#?}"
        );
        for span in [server, attempt] {
            let text = |key: &str| attribute(span, key).unwrap_or_default();
            assert_eq!(text("rpc.system.name"), "grpc");
            assert_eq!(text("rpc.method"), format!("shop.Cart/{method}"));
            let http = if method == "Unwell" { "503" } else { "200" };
            assert_eq!(text("http.response.status_code"), http);
        }
        assert_eq!(attribute(server, "network.protocol.version").unwrap(), "2");
        assert_eq!(hex(&server.parent_span_id), CALLER);
        // The backend has one context, which is the attempt's.
        let told: Vec<_> = head.get_all("traceparent").iter().collect();
        assert_eq!(told.len(), 1, "{head:?}");
        let told = TraceParent::parse(told[0].as_bytes()).unwrap();
        assert_eq!(told.span.to_be_bytes()[..], attempt.span_id[..]);
        let states: Vec<_> = head.get_all("tracestate").iter().collect();
        assert_eq!(states, ["a=1,b=2"]);
    }
}

/// An answer of lameduck's own to a call is 200 on the wire, and so it is in the trace.
#[lameduck_rig::test]
async fn call_that_lameduck_answers_or_ends_has_the_status_that_its_client_was_told() {
    let collector = Collector::new(Mood::Good).await;
    let (rig, mut heads) = rig(&collector).await;
    let mut client = Client::new(&rig).await;
    let refused = ask(&mut client, "elsewhere", "Add").await;
    assert_eq!(refused.field("grpc-status"), Some("12"));
    let spans = collector.spans(1).await;
    let server = one(&spans, SpanKind::Server);
    assert_eq!(said(server), expected("UNIMPLEMENTED", "UNIMPLEMENTED"));
    let status = attribute(server, "http.response.status_code").unwrap();
    assert_eq!(status, "200");

    let response = begin(&mut client, "a", "Watch").await;
    soon(heads.recv()).await.unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    lameduck_rig::h2_client::piece(&mut body).await;
    rig.begin_drain(0, "3s", "resumed").await;
    let (_, trailers) = lameduck_rig::h2_client::rest(body).await.unwrap();
    assert_eq!(trailers.unwrap()["grpc-status"], "14");
    let spans = collector.spans(3).await.split_off(1);
    let (server, attempt) = (one(&spans, SpanKind::Server), one(&spans, SpanKind::Client));
    assert_eq!(said(server), expected("UNAVAILABLE", "UNAVAILABLE"));
    let end = attribute(server, "lameduck.end").unwrap();
    assert_eq!(end, "closed_orderly");
    // The backend has said nothing, and has not failed.
    assert_eq!(said(attempt), expected("", ""), "{attempt:#?}");
    let state = attribute(attempt, "lameduck.backend.state").unwrap();
    assert_eq!(state, "draining");
}
