//! 1xx responses of backends that speak HTTP/2 (RFC 9113 §8.1).

use std::time::Duration;

use super::fake::{Event, Fake, HTTP2, rig};
use lameduck_rig::h2_client::{A_MOMENT, Client, answer, get, post, soon};
use lameduck_rig::wire::has;

const EXPECTING: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

/// The next request's stream; its body has not come yet.
async fn bodiless(backend: &mut Fake) -> u32 {
    let id = backend.until(|event| match event {
        Event::Request(id, false) => Some(*id),
        _ => None,
    });
    let id = id.await;
    assert_eq!(backend.next_within(A_MOMENT).await, None);
    id
}

/// RFC 8297: early hints reach clients of either protocol at once.
#[lameduck_rig::test]
async fn early_hints_go_through() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = Client::new(&rig).await;
    let mut response = client.begin(get("/"), true).await.0;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let (id, _) = backend.request().await;
    for hint in ["</a.css>; rel=preload", "</b.css>; rel=preload"] {
        backend.interim(id, "103", &[("link", hint)]).await;
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx));
        let interim = soon(interim).await.unwrap().unwrap();
        assert_eq!(interim.status(), 103);
        assert_eq!(interim.headers()["link"], hint);
    }
    backend.answer(id, "styled").await;
    assert_eq!(answer(response).await.text(), "styled");

    let mut client = rig.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (id, _) = backend.request().await;
    backend.interim(id, "103", &[("link", "</a.css>")]).await;
    let hints = client.head().await;
    assert!(hints.starts_with("HTTP/1.1 103 "), "{hints}");
    assert!(has(&hints, "link: </a.css>"), "{hints}");
    backend.answer(id, "styled").await;
    assert_eq!(client.response().await.text(), "styled");
}

/// RFC 9110 §10.1.1: the expectation goes to the backend, its 100 to the client, and then the body.
#[lameduck_rig::test]
async fn a_100_continue_goes_end_to_end() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = Client::new(&rig).await;
    let mut request = post("/");
    let expect = "100-continue".parse().unwrap();
    request.headers_mut().insert("expect", expect);
    let (mut response, mut body) = client.begin(request, false).await;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let id = bodiless(&mut backend).await;
    backend.interim(id, "100", &[]).await;
    let interim = std::future::poll_fn(|cx| response.poll_informational(cx));
    assert_eq!(soon(interim).await.unwrap().unwrap().status(), 100);
    body.send_data("body".into(), true).unwrap();
    let data = backend.until(|event| match event {
        Event::Data(_, data, true) => Some(data.clone()),
        _ => None,
    });
    assert_eq!(data.await, b"body");
    backend.answer(id, "done").await;
    assert_eq!(answer(response).await.text(), "done");

    let mut client = rig.ask(EXPECTING).await;
    let id = bodiless(&mut backend).await;
    client.quiet(Duration::from_millis(50)).await;
    backend.interim(id, "100", &[]).await;
    assert!(client.head().await.starts_with("HTTP/1.1 100 "));
    client.send("body").await;
    let data = backend.until(|event| match event {
        Event::Data(_, data, _) => Some(data.clone()),
        _ => None,
    });
    assert_eq!(data.await, b"body");
    backend.answer(id, "done").await;
    assert_eq!(client.response().await.text(), "done");
}

/// It may answer without ever wanting the body.
#[lameduck_rig::test]
async fn an_expectation_may_be_answered_at_once() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = rig.ask(EXPECTING).await;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let id = bodiless(&mut backend).await;
    backend.answer(id, "enough").await;
    let response = client.response().await;
    assert_eq!((response.status(), response.text()), (200, "enough"));
    assert!(response.has("Connection: close"));
    client.closed().await;
}

/// Endless ones are an error, not a way to keep a request busy.
#[lameduck_rig::test]
async fn too_many_interim_responses_are_a_502_of_their_stream_only() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = rig.ask("GET / HTTP/1.0\r\n\r\n").await;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let (id, _) = backend.request().await;
    for _ in 0..17 {
        backend.interim(id, "102", &[]).await;
    }
    assert_eq!(client.response().await.status(), 502);
    backend.reset_of(id).await;
    let mut client = Client::new(&rig).await;
    let response = client.get("/").await;
    let (id, _) = backend.request().await;
    backend.answer(id, "served").await;
    assert_eq!(answer(response).await.text(), "served");
}
