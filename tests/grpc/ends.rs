//! How sessions and calls end: at drains, by their deadlines, and where there is no backend at all.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;

use super::fake::{Event, Fake, HTTP2, rig, rig_of};
use lameduck_rig::h2_client::{Client, answer, get, piece, rest, soon};
use lameduck_rig::proxy::Setup;

/// A message of gRPC.
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

fn call() -> Request<()> {
    Request::post("http://a/pkg.Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

#[lameduck_rig::test]
async fn a_session_ends_with_its_epoch_and_not_before_its_last_stream() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = Client::new(&rig).await;
    let response = client.begin(get("/"), true).await.0;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let (id, _) = backend.request().await;
    let drain = rig.begin_drain(0, "10s", "resumed").await;
    assert_eq!(backend.next_within(Duration::from_millis(100)).await, None);
    assert!(!drain.is_finished());
    backend.answer(id, "last").await;
    assert_eq!(answer(response).await.text(), "last");
    backend.goodbye().await;
    drop(backend);
    let end = serde_json::to_value(drain.await.unwrap()).unwrap();
    assert_eq!(end["outcome"], "drained", "{end}");
    rig.resume(0).await;
    let response = client.get("/").await;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let (id, _) = backend.request().await;
    backend.answer(id, "new").await;
    assert_eq!(answer(response).await.text(), "new");
}

#[lameduck_rig::test]
async fn an_idle_session_ends_at_once() {
    let (rig, listeners) = rig(1, HTTP2).await;
    let mut client = Client::new(&rig).await;
    let response = client.get("/").await;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let (id, _) = backend.request().await;
    backend.answer(id, "x").await;
    answer(response).await;
    let drain = rig.begin_drain(0, "10s", "resumed").await;
    backend.goodbye().await;
    drop(backend);
    let end = serde_json::to_value(drain.await.unwrap()).unwrap();
    assert_eq!(end["outcome"], "drained", "{end}");
}

#[lameduck_rig::test]
async fn an_unused_session_is_closed_after_a_while() {
    let (rig, listeners) = rig(
        1,
        "[pool.upstream]\nhttp2 = true\nidle_timeout = \"100ms\"\n",
    )
    .await;
    let mut client = Client::new(&rig).await;
    let response = client.get("/").await;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let (id, _) = backend.request().await;
    // While a stream is under way, it is not idle.
    assert_eq!(backend.next_within(Duration::from_millis(300)).await, None);
    backend.answer(id, "x").await;
    answer(response).await;
    backend.goodbye().await;
}

/// A session that nobody uses is nothing to wait for.
#[lameduck_rig::test]
async fn the_proxys_own_end_is_not_kept_up_by_an_idle_session() {
    let (mut rig, listeners) = rig_of(Setup {
        backends: 1,
        server: "lame_duck = \"0s\"",
        pool: HTTP2,
        ..Setup::default()
    })
    .await;
    let mut client = Client::new(&rig).await;
    let response = client.get("/").await;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let (id, _) = backend.request().await;
    rig.terminate();
    backend.answer(id, "last").await;
    assert_eq!(answer(response).await.text(), "last");
    let began = Instant::now();
    backend.goodbye().await;
    assert!(rig.exited().await.success());
    // Far from the session's `idle_timeout`, and from the deadline.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
}

/// Both ways at once, message by message, for as long as they like; and at the drain's deadline, orderly.
#[lameduck_rig::test]
async fn a_call_flows_both_ways_and_ends_between_two_messages() {
    let (rig, listeners) = rig(
        1,
        "[pool.upstream]\nhttp2 = true\nread_timeout = \"200ms\"\n",
    )
    .await;
    let mut client = Client::new(&rig).await;
    let (response, mut upload) = client.begin(call(), false).await;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let id = backend
        .until(|event| match event {
            Event::Request(id, false) => Some(*id),
            _ => None,
        })
        .await;
    // Silence in either direction is nobody's fault.
    tokio::time::sleep(Duration::from_millis(400)).await;
    backend
        .head(id, &[("content-type", "application/grpc")], false)
        .await;
    let mut download = soon(response).await.unwrap().into_body();
    for _ in 0..3 {
        upload
            .send_data(Bytes::from_static(MESSAGE), false)
            .unwrap();
        let data = backend.until(|event| match event {
            Event::Data(_, data, false) => Some(data.clone()),
            _ => None,
        });
        assert_eq!(data.await, MESSAGE);
        backend.data(id, MESSAGE, false).await;
        assert_eq!(piece(&mut download).await, MESSAGE);
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    // Half a message: the end has to wait for the other half.
    backend.data(id, &MESSAGE[..7], false).await;
    assert_eq!(piece(&mut download).await, MESSAGE[..7]);
    // As long as `close_spread`: the end begins at once, and there is time for it.
    let drain = rig.begin_drain(0, "5s", "resumed").await;
    assert_eq!(backend.next_within(Duration::from_millis(500)).await, None);
    backend.data(id, &MESSAGE[7..], false).await;
    let (last, trailers) = rest(download).await.unwrap();
    assert_eq!(last, MESSAGE[7..]);
    assert_eq!(trailers.unwrap()["grpc-status"], "14");
    backend.reset_of(id).await;
    backend.goodbye().await;
    drop(backend);
    let end = serde_json::to_value(drain.await.unwrap()).unwrap();
    assert_eq!(
        (&end["outcome"], &end["cut"]),
        (&"drained".into(), &0.into()),
        "{end}"
    );
}

/// Answers of our own are calls that failed, in words that gRPC clients understand.
#[lameduck_rig::test]
async fn our_own_answers_are_trailers() {
    let (rig, listeners) = rig(
        1,
        "[pool.upstream]\nhttp2 = true\nread_timeout = \"200ms\"\n[pool.hold]\non_empty = \"fail\"\n",
    )
    .await;
    let mut client = Client::new(&rig).await;
    // It broke.
    let response = client.begin(call(), true).await.0;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    backend.request().await;
    drop(backend);
    let broken = answer(response).await;
    assert_eq!(
        (broken.status(), broken.field("grpc-status")),
        (200, Some("14"))
    );
    // It took too long.
    let response = client.begin(call(), true).await.0;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    backend.request().await;
    let late = answer(response).await;
    assert_eq!((late.status(), late.field("grpc-status")), (200, Some("4")));
    assert_eq!(late.field("content-type"), Some("application/grpc"));
    // A call that gives itself longer gets it.
    let mut longer = call();
    longer
        .headers_mut()
        .insert("grpc-timeout", "20S".parse().unwrap());
    let response = client.begin(longer, true).await.0;
    let (id, _) = backend.request().await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    backend.answer(id, "in time").await;
    assert_eq!(answer(response).await.text(), "in time");
    // There is none.
    let _drain = rig.begin_drain(0, "1s", "resumed").await;
    let nobody = answer(client.begin(call(), true).await.0).await;
    assert_eq!(
        (nobody.status(), nobody.field("grpc-status")),
        (200, Some("14"))
    );
    // It breaks off in the middle.
    drop(backend);
    rig.resume(0).await;
    let response = client.begin(call(), true).await.0;
    let mut backend = Fake::accept(&listeners[0], &[]).await;
    let (id, _) = backend.request().await;
    backend
        .head(id, &[("content-type", "application/grpc")], false)
        .await;
    backend.data(id, MESSAGE, false).await;
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(piece(&mut body).await, MESSAGE);
    drop(backend);
    let (_, trailers) = rest(body).await.unwrap();
    assert_eq!(trailers.unwrap()["grpc-status"], "14");
}
