//! The proxy's own end, and those of connections: GOAWAY in two steps.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::client::Builder;

use lameduck_rig::h2_client::{A_MOMENT, Client, answer, piece, rest, rig, soon, try_answer};
use lameduck_rig::proxy::Rig;
use lameduck_rig::wait::until;

use super::counts::was_limited;

async fn wait_until_lame(rig: &Rig) {
    until("it to be lame", async || {
        let ready =
            lameduck::tools::demo::admin::request(&rig.socket, "GET", "/-/ready", None).await;
        matches!(ready, Ok((503, _)))
    })
    .await;
}

/// While lame: new connections are accepted, their first request is served, and they are told to go.
#[lameduck_rig::test]
async fn a_lame_duck_serves_and_says_goaway() {
    // Nobody waits for its end.
    let rig = rig("lame_duck = \"60s\"").await;
    let mut before = Client::new(&rig).await;
    let served = before.get("/").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("x").await;
    answer(served).await;
    rig.terminate();
    wait_until_lame(&rig).await;
    for mut client in [before, Client::new(&rig).await] {
        let response = client.get("/").await;
        backend.head().await;
        backend.answer("served").await;
        let answer = answer(response).await;
        assert_eq!(answer.text(), "served");
        assert_eq!(answer.field("connection"), None);
        // It was told: nothing more can be begun, and the connection ends in good order.
        client.ended().await.unwrap();
    }
}

/// It finishes what is in flight, closes what is idle, and is gone the instant nothing is left.
#[lameduck_rig::test]
async fn proxy_exits_when_no_stream_is_left() {
    let mut rig = rig("lame_duck = \"0s\"\ndeadline = \"60s\"").await;
    let idle = Client::new(&rig).await;
    let mut client = Client::new(&rig).await;
    let response = client.get("/").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    rig.terminate();
    idle.ended().await.unwrap();
    tokio::time::sleep(A_MOMENT).await;
    backend.answer("to the end").await;
    let began = Instant::now();
    assert_eq!(answer(response).await.text(), "to the end");
    client.ended().await.unwrap();
    assert!(rig.exited().await.success());
    // Nothing else is waited for, neither a turn of a clock nor the deadline.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// A client that takes long to take its response still gets all of it.
#[lameduck_rig::test]
async fn what_a_slow_client_has_yet_to_take_is_waited_for() {
    let mut rig = rig("lame_duck = \"0s\"\ndeadline = \"60s\"").await;
    let windows = &mut Builder::new();
    windows.initial_window_size(1024);
    let mut client = Client::with(&rig, windows).await;
    let response = client.get("/").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    let data = lameduck_rig::wire::pattern(20_000);
    backend
        .send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            data.len()
        ))
        .await;
    backend.send(&data).await;
    let mut body = soon(response).await.unwrap().into_body();
    let first = piece(&mut body).await;
    rig.terminate();
    // Longer than a client without streams is waited for.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (more, _) = rest(body).await.unwrap();
    assert!([&first[..], &more].concat() == data);
    client.ended().await.unwrap();
    assert!(rig.exited().await.success());
}

/// At the deadline a stream that still waits is reset.
#[lameduck_rig::test]
async fn stream_that_is_open_at_the_deadline_is_cut() {
    let mut rig = rig("lame_duck = \"0s\"\ndeadline = \"500ms\"").await;
    let mut client = Client::new(&rig).await;
    let waiting = client.get("/").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    let reading = client.get("/").await;
    let mut sending = rig.backends[0].accept().await;
    sending.head().await;
    sending
        .send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    let mut body = soon(reading).await.unwrap().into_body();
    assert_eq!(piece(&mut body).await, "half");
    let began = Instant::now();
    rig.terminate();
    assert!(try_answer(waiting).await.is_err());
    assert!(rest(body).await.is_err());
    let took = began.elapsed();
    assert!(took > Duration::from_millis(400), "{took:?}");
    rig.exited().await;
}

/// Streams that were on their way when the client was told to go are served (RFC 9113 §6.8).
#[lameduck_rig::test]
async fn a_request_that_crosses_the_goaway_is_served() {
    let mut rig = rig("lame_duck = \"0s\"\ndeadline = \"60s\"").await;
    for _ in 0..1 {
        let mut client = Client::new(&rig).await;
        let first = client.get("/").await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        rig.terminate();
        let mut crossing = Vec::new();
        // The client begins requests until it hears of it.
        while let Ok((response, _)) = client
            .try_begin(lameduck_rig::h2_client::get("/"), true)
            .await
        {
            crossing.push(response);
            tokio::task::yield_now().await;
            if crossing.len() == 50 {
                break;
            }
        }
        let served = tokio::spawn(async move {
            let mut answers = 0;
            for response in crossing {
                answers += usize::from(try_answer(response).await.is_ok());
            }
            answers
        });
        backend
            .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")
            .await;
        assert_eq!(answer(first).await.text(), "x");
        for _ in 0..200 {
            if served.is_finished() {
                break;
            }
            tokio::select! {
                mut backend = rig.backends[0].accept() => {
                    if backend.head_or_end().await.is_some() {
                        backend.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\ny").await;
                    }
                }
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
        assert!(soon(served).await.unwrap() > 0);
        client.ended().await.unwrap();
    }
    assert!(rig.exited().await.success());
}

/// `max_requests_per_connection` and `idle_timeout` end a connection in good order.
#[lameduck_rig::test]
async fn limits_end_a_connection_in_good_order() {
    let rig = rig("max_requests_per_connection = 2\nidle_timeout = \"1s\"").await;
    let mut client = Client::new(&rig).await;
    let mut backend = None;
    for _ in 0..2 {
        let response = client.get("/").await;
        if backend.is_none() {
            backend = Some(rig.backends[0].accept().await);
        }
        let backend = backend.as_mut().unwrap();
        backend.head().await;
        backend.answer("x").await;
        assert_eq!(answer(response).await.text(), "x");
    }
    client.ended().await.unwrap();
    was_limited(&rig, "max_requests_per_connection", 1).await;
    // Not while a stream is open.
    let mut idle = Client::new(&rig).await;
    let response = idle.get("/").await;
    let backend = backend.as_mut().unwrap();
    backend.head().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    backend.answer("late").await;
    assert_eq!(answer(response).await.text(), "late");
    idle.ended().await.unwrap();
    was_limited(&rig, "idle_timeout", 1).await;
}

/// `body_timeout`: a body that doesn't come, and a window that is never opened.
#[lameduck_rig::test]
async fn a_stream_without_progress_ends() {
    let rig = rig("body_timeout = \"300ms\"").await;
    let windows = &mut Builder::new();
    windows.initial_window_size(10);
    let mut client = Client::with(&rig, windows).await;
    let (response, mut body) = client
        .begin(lameduck_rig::h2_client::post("/"), false)
        .await;
    body.send_data(Bytes::from_static(b"x"), false).unwrap();
    let late = soon(response).await.unwrap();
    assert_eq!(late.status(), 408);
    let response = client.get("/").await;
    let mut backend = None;
    // The first one was of the request that was late.
    for _ in 0..2 {
        let mut wire = rig.backends[0].accept().await;
        if wire
            .head_or_end()
            .await
            .is_some_and(|head| head.starts_with("GET"))
        {
            backend = Some(wire);
            break;
        }
    }
    let mut backend = backend.unwrap();
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n")
        .await;
    backend.send(vec![b'x'; 200_000]).await;
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap().len(), 10);
    let error = loop {
        match soon(body.data()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("a clean end"),
        }
    };
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    was_limited(&rig, "body_timeout", 2).await;
}
