//! What backends do that they should, must or must not: each request is delivered at most once, and each client gets
//! what is due.

use std::time::Duration;

use super::fake::{
    CANCEL, Event, Fake, HTTP2, INTERNAL_ERROR, MAX_STREAMS, NO_ERROR, REFUSED_STREAM, rig,
};
use bytes::Bytes;
use lameduck_rig::h2_client::{Answer, Client, answer, get, post};
use tokio::task::JoinHandle;

/// `POST /` with this body, on its way.
async fn send(client: &mut Client, body: &str) -> JoinHandle<Answer> {
    let (response, mut stream) = client.begin(post("/"), false).await;
    let body = Bytes::copy_from_slice(body.as_bytes());
    stream.send_data(body, true).unwrap();
    tokio::spawn(answer(response))
}

#[lameduck_rig::test]
async fn streams_beyond_goaway_are_repeated_and_the_others_finish() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = Client::new(&rig).await;
    let one = send(&mut client, "one").await;
    let mut old = Fake::accept(&listeners[0], &[]).await;
    assert_eq!(old.request().await, (1, "one".into()));
    let two = send(&mut client, "two").await;
    assert_eq!(old.request().await, (3, "two".into()));
    old.go_away(1, NO_ERROR).await;
    let mut new = Fake::accept(&listeners[0], &[]).await;
    let (id, body) = new.request().await;
    assert_eq!(body, "two");
    new.answer(id, "new").await;
    assert_eq!(two.await.unwrap().text(), "new");
    old.answer(1, "old").await;
    assert_eq!(one.await.unwrap().text(), "old");
    old.goodbye().await;
    // What comes later goes to the new one.
    let three = send(&mut client, "three").await;
    let (id, body) = new.request().await;
    assert_eq!(body, "three");
    new.answer(id, "three").await;
    assert_eq!(three.await.unwrap().text(), "three");
    let log = rig.access_log(3).await;
    let retried: Vec<_> = log.iter().filter(|line| line["attempts"] == 2).collect();
    assert_eq!(retried.len(), 1, "{log:#?}");
    assert_eq!(retried[0]["retry_reason"], "goaway");
}

#[lameduck_rig::test]
async fn a_refused_stream_is_repeated_whatever_its_method() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = Client::new(&rig).await;
    let response = send(&mut client, "one").await;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    for _ in 0..3 {
        let (id, body) = backend.request().await;
        assert_eq!(body, "one");
        backend.reset(id, REFUSED_STREAM).await;
    }
    let (id, body) = backend.request().await;
    assert_eq!((id, body.as_str()), (7, "one"));
    backend.answer(id, "at last").await;
    assert_eq!(response.await.unwrap().text(), "at last");
    assert_eq!(rig.access_log(1).await[0]["retry_reason"], "refused_stream");
}

/// What may have been delivered is repeated where that does no harm, and nowhere else.
#[lameduck_rig::test]
async fn reset_or_closed_stream_is_not_sent_again() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = Client::new(&rig).await;
    for dies in [false, true] {
        let response = send(&mut client, "once").await;
        let mut backend = Fake::accept(&listeners[0], &[]).await;
        let (id, _) = backend.request().await;
        if !dies {
            backend.reset(id, INTERNAL_ERROR).await;
            assert_eq!(response.await.unwrap().status(), 502);
            let response = client.get("/").await;
            let (id, _) = backend.request().await;
            backend.reset(id, INTERNAL_ERROR).await;
            let (id, _) = backend.request().await;
            backend.answer(id, "twice").await;
            assert_eq!(answer(response).await.text(), "twice");
            backend.go_away(id, NO_ERROR).await;
            backend.goodbye().await;
        } else {
            drop(backend);
            assert_eq!(response.await.unwrap().status(), 502);
        }
    }
}

#[lameduck_rig::test]
async fn one_stream_at_a_time_means_as_many_sessions() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = Client::new(&rig).await;
    let mut sessions = Vec::new();
    for n in 0..3 {
        let body = format!("request {n}");
        let response = send(&mut client, &body).await;
        let mut session = Fake::accept(&listeners[0], &[(MAX_STREAMS, 1)]).await;
        let (id, seen) = session.request().await;
        assert_eq!((id, &seen), (1, &body));
        sessions.push((session, id, body, response));
    }
    for (mut session, id, body, response) in sessions {
        session.answer(id, &body).await;
        assert_eq!(response.await.unwrap().text(), body);
    }
}

/// What is not h2 at all, and what never says a word.
#[lameduck_rig::test]
async fn a_backend_that_does_not_speak_it_gets_no_request() {
    let (rig, listeners) = rig(
        2,
        "[pool.upstream]\nhttp2 = true\nconnect_timeout = \"500ms\"\n",
    )
    .await;
    let mut client = Client::new(&rig).await;
    let [silent, good] = <[_; 2]>::try_from(listeners).unwrap();
    // Each by itself: who is in the middle of a greeting must not be given up for the other.
    let silent = tokio::spawn(async move {
        let mut calls = Vec::new();
        while let Ok((call, _)) = silent.accept().await {
            calls.push(call);
        }
    });
    let good = tokio::spawn(async move {
        while let Ok((call, _)) = good.accept().await {
            tokio::spawn(async move {
                let mut session = Fake::greet(call).await;
                session.settle(&[]).await;
                loop {
                    let (id, body) = session.request().await;
                    session.answer(id, &body).await;
                }
            });
        }
    });
    for n in 0..6 {
        let body = n.to_string();
        let response = send(&mut client, &body).await.await.unwrap();
        assert_eq!((response.status(), response.text()), (200, body.as_str()));
    }
    silent.abort();
    good.abort();
}

/// RFC 9113 §8.1: behind a whole answer a reset without an error says that the rest of the request isn't wanted. In the
/// middle of one it is a break, and the client has to see one.
#[lameduck_rig::test]
async fn a_reset_without_an_error_is_an_end_only_behind_one() {
    for whole in [true, false] {
        let (rig, listeners) = rig(1, HTTP2).await;
        let mut client = Client::new(&rig).await;
        let (response, _body) = client.begin(get("/"), true).await;
        let mut backend = Fake::accept(&listeners[0], &[]).await;
        let (id, _) = backend.request().await;
        backend.head(id, &[], false).await;
        backend.data(id, b"half", whole).await;
        backend.reset(id, NO_ERROR).await;
        let read = async {
            let mut body = response.await?.into_body();
            let mut all = Vec::new();
            while let Some(piece) = body.data().await {
                all.extend_from_slice(&piece?);
            }
            Ok::<_, h2::Error>(all)
        };
        match read.await {
            Ok(all) => assert!(whole && all == b"half", "whole: {whole}, {all:?}"),
            Err(error) => assert!(!whole, "{error}"),
        }
    }
}

#[lameduck_rig::test]
async fn cancelling_reaches_the_backend() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = Client::new(&rig).await;
    let (response, mut body) = client.begin(post("/"), false).await;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    body.send_data(Bytes::from_static(b"x"), false).unwrap();
    assert_eq!(backend.next().await, Event::Request(1, false));
    backend
        .until(|event| match event {
            Event::Data(1, data, false) if data == b"x" => Some(()),
            _ => None,
        })
        .await;
    body.send_reset(h2::Reason::CANCEL);
    drop(response);
    assert_eq!(backend.reset_of(1).await, CANCEL);
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
    // The session goes on.
    let response = client.get("/").await;
    let (id, _) = backend.request().await;
    backend.answer(id, "on").await;
    assert_eq!(answer(response).await.text(), "on");
}

/// Trailers, nothing but a head, no body.
#[lameduck_rig::test]
async fn responses_keep_their_meaning() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = Client::new(&rig).await;
    let response = client.begin(get("/"), true).await.0;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let (id, _) = backend.request().await;
    backend.head(id, &[("x-kind", "trailers")], false).await;
    backend.data(id, b"a", false).await;
    backend.data(id, b"b", false).await;
    backend.trailers(id, &[("x-sum", "ab")]).await;
    let whole = answer(response).await;
    assert_eq!(
        (whole.text(), whole.field("x-kind")),
        ("ab", Some("trailers"))
    );
    assert_eq!(whole.trailers.unwrap()["x-sum"], "ab");
    // A head alone.
    let response = client.begin(get("/"), true).await.0;
    let (id, _) = backend.request().await;
    backend.head(id, &[("grpc-status", "5")], true).await;
    let whole = answer(response).await;
    assert_eq!((whole.text(), whole.field("grpc-status")), ("", Some("5")));
    // An HTTP/1.1 client on the same session.
    let mut old = rig
        .ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        .await;
    let (id, body) = backend.request().await;
    assert_eq!(body, "abc");
    backend.head(id, &[("content-length", "2")], false).await;
    backend.data(id, b"ok", true).await;
    let response = old.response().await;
    assert_eq!((response.status(), response.text()), (200, "ok"));
    old.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (id, _) = backend.request().await;
    backend.head(id, &[("content-length", "2")], true).await;
    assert!(old.head().await.contains("content-length: 2"));
    old.quiet(Duration::from_millis(20)).await;
}
