//! Bodies both ways: framing, trailers, and windows as backpressure.

use bytes::Bytes;
use http::HeaderMap;

use lameduck_rig::h2_client::{
    A_MOMENT, Client, answer, piece, post, rest, rig, soon, streaming_rig, try_answer,
};
use lameduck_rig::wire::{has, pattern};

use super::counts::was_limited;

#[lameduck_rig::test]
async fn a_body_with_a_length_is_passed_on_as_it_is() {
    let rig = streaming_rig().await;
    let mut client = Client::new(&rig).await;
    let mut request = post("/");
    request
        .headers_mut()
        .insert("content-length", "10".parse().unwrap());
    let (response, mut body) = client.begin(request, false).await;
    let mut backend = rig.backends[0].accept().await;
    let head = backend.head().await;
    assert!(has(&head, "content-length: 10"), "{head}");
    body.send_data("hello".into(), false).unwrap();
    backend.expect("hello").await;
    body.send_data("world".into(), true).unwrap();
    backend.expect("world").await;
    backend.answer("ok").await;
    assert_eq!(answer(response).await.text(), "ok");
}

#[lameduck_rig::test]
async fn a_body_of_unknown_length_and_its_trailers_are_chunked() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let (response, mut body) = client.begin(post("/"), false).await;
    let mut backend = rig.backends[0].accept().await;
    assert!(has(&backend.head().await, "Transfer-Encoding: chunked"));
    body.send_data("hello".into(), false).unwrap();
    backend.expect("5\r\nhello\r\n").await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    body.send_trailers(trailers).unwrap();
    backend.expect("0\r\nx-sum: 1\r\n\r\n").await;
    backend.answer("ok").await;
    assert_eq!(answer(response).await.text(), "ok");
}

/// Many clients say with an empty frame of DATA that there is no body: then there is none.
#[lameduck_rig::test]
async fn stream_that_ends_on_an_empty_frame_is_a_request_without_a_body() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    for (method, length) in [
        ("GET", None),
        ("GET", Some("0")),
        ("POST", None),
        ("POST", Some("0")),
        ("DELETE", None),
    ] {
        let mut request = http::Request::builder().method(method).uri("http://a/");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let (response, mut body) = client.begin(request.body(()).unwrap(), false).await;
        // In the same packet as the head, as far as the test can tell: the client's task has not run yet.
        body.send_data(Bytes::new(), true).unwrap();
        let mut backend = rig.backends[0].accept().await;
        let head = backend.head().await;
        assert!(
            !head.to_ascii_lowercase().contains("transfer-encoding"),
            "{head}"
        );
        let has_length = has(&head, "content-length: 0");
        assert_eq!(has_length, length.is_some() || method == "POST", "{head}");
        backend.answer("ok").await;
        assert_eq!(answer(response).await.text(), "ok");
        drop(backend);
    }
}

/// A length is kept, and the backend gets no whole request before the stream has ended.
#[lameduck_rig::test]
async fn length_of_zero_is_kept_and_its_end_waited_for() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let request = || {
        let mut request = post("/");
        let zero = "0".parse().unwrap();
        request.headers_mut().insert("content-length", zero);
        request
    };
    let (response, mut body) = client.begin(request(), false).await;
    let early = tokio::time::timeout(A_MOMENT, rig.backends[0].accept()).await;
    assert!(early.is_err(), "a request that isn't complete");
    body.send_data(Bytes::new(), true).unwrap();
    let mut backend = rig.backends[0].accept().await;
    let head = backend.head().await;
    assert!(has(&head, "content-length: 0"), "{head}");
    assert!(
        !head.to_ascii_lowercase().contains("transfer-encoding"),
        "{head}"
    );
    backend.answer("ok").await;
    assert_eq!(answer(response).await.text(), "ok");
    // Content, or trailers.
    let (response, mut body) = client.begin(request(), false).await;
    tokio::time::sleep(A_MOMENT).await;
    body.send_data("x".into(), true).unwrap();
    try_answer(response).await.unwrap_err();
    let (response, mut body) = client.begin(request(), false).await;
    body.send_trailers(HeaderMap::new()).unwrap();
    // On the connection that is kept, or on another.
    let kept = tokio::select! {
        head = backend.head_or_end() => head,
        other = rig.backends[0].accept() => {
            backend = other;
            None
        }
    };
    let head = match kept {
        Some(head) => head,
        None => backend.head().await,
    };
    assert!(has(&head, "content-length: 0"));
    backend.answer("ok").await;
    assert_eq!(answer(response).await.text(), "ok");
}

#[lameduck_rig::test]
async fn length_of_zero_whose_end_never_comes_is_a_408() {
    let rig = rig("body_timeout = \"200ms\"").await;
    let mut client = Client::new(&rig).await;
    let mut request = post("/");
    let zero = "0".parse().unwrap();
    request.headers_mut().insert("content-length", zero);
    let (response, _body) = client.begin(request, false).await;
    assert_eq!(answer(response).await.status(), 408);
    assert_eq!(rig.access_log(1).await[0]["status"], 408);
}

/// RFC 9113 §8.1.1: what was promised and what came differ. The backend never gets a whole request.
#[lameduck_rig::test]
async fn a_body_that_belies_its_length_is_never_complete() {
    let rig = streaming_rig().await;
    let mut client = Client::new(&rig).await;
    for (first, second) in [("0123456789", "x"), ("01234", ""), ("0123456789abc", "")] {
        let mut request = post("/");
        request
            .headers_mut()
            .insert("content-length", "10".parse().unwrap());
        let (response, mut body) = client.begin(request, false).await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        body.send_data(Bytes::from_static(first.as_bytes()), second.is_empty())
            .unwrap();
        if !second.is_empty() {
            tokio::time::sleep(A_MOMENT).await;
            body.send_data(Bytes::from_static(second.as_bytes()), true)
                .unwrap();
        }
        let error = try_answer(response).await.unwrap_err();
        assert_eq!(
            error.reason(),
            Some(h2::Reason::PROTOCOL_ERROR),
            "{first} {second}"
        );
        let (got, _) = backend.rest().await;
        assert!(
            got.len() < 10,
            "{first} {second}: {}",
            String::from_utf8_lossy(&got)
        );
    }
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
}

/// Received whole first, it is not even begun.
#[lameduck_rig::test]
async fn a_short_body_that_belies_its_length_never_reaches_a_backend() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    for piece in ["01234", "0123456789abc"] {
        let mut request = post("/");
        request
            .headers_mut()
            .insert("content-length", "10".parse().unwrap());
        let (response, mut body) = client.begin(request, false).await;
        body.send_data(Bytes::from_static(piece.as_bytes()), true)
            .unwrap();
        let error = try_answer(response).await.unwrap_err();
        assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR), "{piece}");
    }
    assert!(!rig.backends[0].is_called(A_MOMENT).await);
}

#[lameduck_rig::test]
async fn large_bodies_arrive_whole_both_ways() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let data = pattern(3 << 20);
    let (response, mut body) = client.begin(post("/"), false).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    let up = async {
        let mut left = Bytes::from(data.clone());
        while !left.is_empty() {
            body.reserve_capacity(left.len());
            let room = soon(std::future::poll_fn(|cx| body.poll_capacity(cx))).await;
            let count = room.unwrap().unwrap().min(left.len());
            body.send_data(left.split_to(count), left.is_empty())
                .unwrap();
        }
    };
    let ((), (got, _)) = tokio::join!(up, backend.chunks());
    assert!(got == data);
    let down = async {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", data.len());
        backend.send(head).await;
        backend.send(&data).await;
    };
    let ((), answer) = tokio::join!(down, answer(response));
    assert!(answer.body == data);
}

/// Who doesn't read holds up its own backend, and nobody else on the same connection.
#[lameduck_rig::test]
async fn a_slow_reader_holds_up_nobody_else() {
    let rig = rig("").await;
    // A client's windows: enough for the whole connection, not for the stream.
    let windows = &mut h2::client::Builder::new();
    windows.initial_connection_window_size(1 << 20);
    let mut client = Client::with(&rig, windows).await;
    let slow = client.get("/slow").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    let data = pattern(8 << 20);
    let sent = data.clone();
    let sending = tokio::spawn(async move {
        backend
            .send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                sent.len()
            ))
            .await;
        for piece in sent.chunks(64 << 10) {
            if backend.try_send(piece).await.is_err() {
                return;
            }
        }
    });
    let mut slow = soon(slow).await.unwrap().into_body();
    // A window of 64 KiB is full, and the proxy stops reading from the backend.
    tokio::time::sleep(A_MOMENT).await;
    let before = rig.memory();
    for _ in 0..20 {
        let quick = client.get("/quick").await;
        let mut other = rig.backends[0].accept().await;
        other.head().await;
        other
            .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nquick")
            .await;
        assert_eq!(answer(quick).await.text(), "quick");
    }
    assert!(!sending.is_finished());
    assert!(
        rig.memory() < before + (4 << 20),
        "{} {before}",
        rig.memory()
    );
    let first = piece(&mut slow).await;
    let (more, _) = rest(slow).await.unwrap();
    assert!([&first[..], &more].concat() == data);
}

/// Chunks of any size become DATA frames, and a backend that ends its body by closing ends the stream.
#[lameduck_rig::test]
async fn chunked_response_is_passed_on_without_its_chunks() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let response = client.get("/").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let mut body = soon(response).await.unwrap().into_body();
    backend
        .send_in_pieces("5\r\nhello\r\n1\r\n \r\n5;x\r\nworld\r\n0\r\n\r\n", 3)
        .await;
    assert_eq!(rest(body).await.unwrap(), (b"hello world".to_vec(), None));
    let response = client.get("/").await;
    backend.head().await;
    backend.send("HTTP/1.1 200 OK\r\n\r\nuntil").await;
    body = soon(response).await.unwrap().into_body();
    assert_eq!(&piece(&mut body).await[..], b"until");
    drop(backend);
    assert_eq!(rest(body).await.unwrap(), (Vec::new(), None));
}

/// `max_body`: by the length, and by what comes.
#[lameduck_rig::test]
async fn a_body_that_is_too_large_is_refused() {
    let rig = rig("max_body = \"1KiB\"").await;
    let mut client = Client::new(&rig).await;
    let mut request = post("/");
    request
        .headers_mut()
        .insert("content-length", "2048".parse().unwrap());
    let (response, _body) = client.begin(request, false).await;
    assert_eq!(answer(response).await.status(), 413);
    let (response, mut body) = client.begin(post("/"), false).await;
    body.send_data(Bytes::from(vec![0; 2048]), false).unwrap();
    assert_eq!(answer(response).await.status(), 413);
    was_limited(&rig, "max_body", 2).await;
}

/// An end that comes by itself, as an empty DATA frame, is passed on once: a canary on the same upstream connection is
/// the next thing that the backend reads.
#[lameduck_rig::test]
async fn empty_last_frame_ends_the_request_once() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let mut kept = None;
    for round in 0..100 {
        let (response, mut body) = client.begin(post("/"), false).await;
        let backend = match &mut kept {
            Some(backend) => backend,
            none => none.insert(rig.backends[0].accept().await),
        };
        backend.head().await;
        let mut frames = vec!["", "hello", ""];
        frames.truncate(round % 4);
        for frame in &frames {
            body.send_data(Bytes::from_static(frame.as_bytes()), false)
                .unwrap();
        }
        if frames.contains(&"hello") {
            backend.expect("5\r\nhello\r\n").await;
        }
        body.send_data(Bytes::new(), true).unwrap();
        backend.expect("0\r\n\r\n").await;
        backend.answer("ok").await;
        assert_eq!(answer(response).await.text(), "ok");
        let canary = client.get("/canary").await;
        let head = backend.head().await;
        assert!(head.starts_with("GET /canary HTTP/1.1\r\n"), "{head}");
        backend.answer("alive").await;
        assert_eq!(answer(canary).await.text(), "alive");
    }
}

/// As over HTTP/1: trailers are judged by the same list, whatever brings them.
#[lameduck_rig::test]
async fn forged_field_in_a_trailer_never_reaches_the_backend() {
    let rig = streaming_rig().await;
    let mut client = Client::new(&rig).await;
    for name in [
        "x-client-cert-verified",
        "x_client_cert_subject",
        "client-cert",
        "client_cert_chain",
        "x-forwarded-for",
        "content-length",
        "host",
    ] {
        let (response, mut body) = client.begin(post("/"), false).await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        body.send_data("hello".into(), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert(
            http::HeaderName::from_static(name),
            "forged".parse().unwrap(),
        );
        body.send_trailers(trailers).unwrap();
        // Some of them the `h2` crate refuses itself, with a reset.
        if let Ok(answer) = lameduck_rig::h2_client::try_answer(response).await {
            assert_eq!(answer.status(), 400, "{name}");
        }
        let (got, _) = backend.rest().await;
        let got = String::from_utf8_lossy(&got).into_owned();
        assert!(!got.contains("forged"), "{name}: {got}");
    }
}
