//! Answers that are none in HTTP/2 (RFC 9113 §8.1.1): each fails its own request, and nobody else's.

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::fake::{Event, Fake, HTTP2, rig, rig_of};
use lameduck_rig::h2_client::{Answer, Client, answer, piece, post, rest, soon};
use lameduck_rig::proxy::{Rig, Setup};

type Fields = &'static [(&'static str, &'static str)];

/// Heads that are none.
const BAD_HEADS: [Fields; 12] = [
    &[(":status", "200"), ("x-a", "a\u{1}b")],
    &[(":status", "200"), ("x-a", "a\u{7f}b")],
    &[(":status", "200"), ("x-a", "a\0b")],
    &[(":status", "200"), ("x-a", "a\r\nb")],
    &[(":status", "200"), ("X-A", "a")],
    &[(":status", "200"), ("", "a")],
    &[(":status", "200"), ("x(a)", "a")],
    &[(":status", "200"), ("connection", "close")],
    &[(":status", "200"), (":path", "/")],
    &[(":status", "101")],
    &[(":status", "2000")],
    &[("x-a", "no status")],
];

/// Four requests in flight on one session, one of which is about to be answered badly.
struct Flight {
    rig: Rig,
    client: Client,
    backend: Fake,
    good: Vec<(u32, JoinHandle<Answer>)>,
    _listeners: Vec<TcpListener>,
}

impl Flight {
    async fn new() -> Self {
        Self::with("").await
    }

    /// With these keys of `[server]`.
    async fn with(server: &'static str) -> Self {
        let (rig, listeners) = rig_of(Setup {
            pool: HTTP2,
            server,
            ..Setup::default()
        })
        .await;
        let mut client = Client::new(&rig).await;
        let mut good = Vec::new();
        let mut backend = None;
        for _ in 0..3 {
            let (response, mut body) = client.begin(post("/"), false).await;
            body.send_data("good".into(), true).unwrap();
            let answer = tokio::spawn(answer(response));
            if backend.is_none() {
                backend = Some(Fake::accept(&listeners[0], &[]).await);
            }
            let (id, _) = backend.as_mut().unwrap().request().await;
            good.push((id, answer));
        }
        Self {
            rig,
            client,
            backend: backend.unwrap(),
            good,
            _listeners: listeners,
        }
    }

    /// The others get their answers, on the same session.
    async fn land(mut self) {
        for (id, answer) in self.good {
            self.backend.answer(id, "good").await;
            assert_eq!(soon(answer).await.unwrap().text(), "good");
        }
        let one_more = self.client.get("/more").await;
        let (id, _) = self.backend.request().await;
        self.backend.answer(id, "more").await;
        assert_eq!(answer(one_more).await.text(), "more");
    }
}

#[lameduck_rig::test]
async fn malformed_head_fails_its_own_request_once_and_no_other() {
    for fields in BAD_HEADS {
        let mut flight = Flight::new().await;
        let bad = flight.client.get("/bad").await;
        let (id, _) = flight.backend.request().await;
        flight.backend.block(id, fields, false).await;
        let bad = answer(bad).await;
        assert_eq!(bad.status(), 502, "{fields:?}");
        flight.backend.reset_of(id).await;
        let line = &flight.rig.access_log(1).await[0];
        assert_eq!(line["end"], "bad_response", "{fields:?}: {line}");
        assert_eq!(line["attempts"], 1, "{fields:?}: {line}");
        assert_eq!(line["cause"], "malformed HTTP/2 response", "{line}");
        flight.land().await;
    }
}

#[lameduck_rig::test]
async fn malformed_trailers_cut_their_own_response_and_no_other() {
    for fields in [&[("x-a", "a\u{1}b")][..], &[("X-A", "a")], &[("", "")]] {
        let mut flight = Flight::new().await;
        let bad = flight.client.get("/bad").await;
        let (id, _) = flight.backend.request().await;
        flight.backend.head(id, &[], false).await;
        flight.backend.data(id, b"half", false).await;
        let mut body = soon(bad).await.unwrap().into_body();
        assert_eq!(&piece(&mut body).await[..], b"half");
        flight.backend.block(id, fields, true).await;
        rest(body).await.unwrap_err();
        let line = &flight.rig.access_log(1).await[0];
        assert_eq!(line["end"], "truncated", "{line}");
        assert_eq!(line["cause"], "malformed HTTP/2 response", "{line}");
        flight.land().await;
    }
}

/// What was put into HPACK's table by a bad head is still there for the next one.
#[lameduck_rig::test]
async fn table_of_a_session_outlives_a_malformed_head() {
    let mut flight = Flight::new().await;
    let bad = flight.client.get("/bad").await;
    let (id, _) = flight.backend.request().await;
    // Two fields that are kept: a bad one, and one that is referred to later.
    let block = b"\x88\x40\x03x-a\x01\x01\x40\x06x-kept\x05value";
    flight.backend.frame(1, 4, id, block).await;
    assert_eq!(answer(bad).await.status(), 502);
    for (block, expected) in [(&b"\x88\xbe"[..], Some("value")), (b"\x88\xbf", None)] {
        let response = flight.client.get("/next").await;
        let (id, _) = flight.backend.request().await;
        flight.backend.frame(1, 5, id, block).await;
        let next = answer(response).await;
        assert_eq!(next.field("x-kept"), expected);
        assert_eq!(next.status(), if expected.is_some() { 200 } else { 502 });
    }
    flight.land().await;
}

/// Without our own limit, however often: the crate would give up a session at the thousandth. With it: `early_ends`.
#[lameduck_rig::test]
async fn thousands_of_malformed_answers_without_a_limit_end_no_session() {
    let mut flight = Flight::with("max_stream_resets = 0").await;
    for _ in 0..1100 {
        let bad = flight.client.get("/bad").await;
        let (id, _) = flight.backend.request().await;
        flight.backend.block(id, &[("X", "")], true).await;
        assert_eq!(answer(bad).await.status(), 502);
    }
    flight.land().await;
}

/// As nginx and HAProxy do: RFC 9113 §8.2.1 forbids blanks around a value, and they say nothing.
#[lameduck_rig::test]
async fn blanks_around_values_are_taken_off() {
    let mut flight = Flight::new().await;
    let response = flight.client.get("/").await;
    let (id, _) = flight.backend.request().await;
    flight
        .backend
        .head(id, &[("x-a", " \tin the \t middle\t ")], false)
        .await;
    flight.backend.data(id, b"whole", false).await;
    flight.backend.trailers(id, &[("x-b", " 1 ")]).await;
    let whole = answer(response).await;
    assert_eq!((whole.status(), whole.text()), (200, "whole"));
    assert_eq!(whole.field("x-a"), Some("in the \t middle"));
    assert_eq!(whole.trailers.unwrap()["x-b"], "1");
    flight.land().await;
}

/// gRPC's clients tell an answer of trailers alone by its head: nothing is added to it.
#[lameduck_rig::test]
async fn trailers_alone_go_through_as_they_are() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = Client::new(&rig).await;
    let mut call = post("/service/method");
    let kind = "application/grpc".parse().unwrap();
    call.headers_mut().insert("content-type", kind);
    let mut backend = None;
    for own in [false, true] {
        let (response, _) = client.begin(call.clone(), true).await;
        if backend.is_none() {
            backend = Some(Fake::accept(&listeners[0], &[]).await);
        }
        let backend = backend.as_mut().unwrap();
        let (id, _) = backend.request().await;
        let fields = [
            ("content-type", "application/grpc"),
            ("grpc-status", "5"),
            ("content-length", "0"),
        ];
        backend
            .head(id, &fields[..if own { 3 } else { 2 }], true)
            .await;
        let (head, body) = soon(response).await.unwrap().into_parts();
        assert!(body.is_end_stream());
        assert_eq!(head.headers["grpc-status"], "5");
        assert_eq!(head.headers.contains_key("content-length"), own, "{head:?}");
    }
    // HTTP/1 has to be told where the response ends.
    let request =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    let mut old = rig.ask(request).await;
    let backend = backend.as_mut().unwrap();
    let (id, _) = backend.request().await;
    backend
        .head(id, &[("content-type", "application/grpc")], true)
        .await;
    let head = old.head().await;
    assert!(
        head.to_ascii_lowercase().contains("content-length: 0"),
        "{head}"
    );
}

/// A request that HTTP/2 has no words for is refused by us, and looks like it.
#[lameduck_rig::test]
async fn request_that_can_not_be_said_in_http2_is_refused_by_name() {
    let (rig, listeners) = rig_of(Setup {
        pool: HTTP2,
        server: "max_header = \"256KiB\"",
        ..Setup::default()
    })
    .await;
    // The `http` crate's names have less than 64 KiB.
    let name = "n".repeat(70_000);
    let mut client = rig
        .ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: 1\r\n\r\n"))
        .await;
    let backend = tokio::spawn(async move { Fake::accept(&listeners[0], &[]).await });
    let refused = client.response().await;
    assert_eq!(refused.status(), 400);
    let line = &rig.access_log(1).await[0];
    assert_eq!(line["end"], "bad_request", "{line}");
    assert!(line["cause"].as_str().unwrap().contains("HTTP/2"), "{line}");
    assert_eq!(line["backend"], "", "{line}");
    let mut backend = backend.await.unwrap();
    let seen = backend.next_within(lameduck_rig::h2_client::A_MOMENT).await;
    assert!(!matches!(seen, Some(Event::Request(..))), "{seen:?}");
}
