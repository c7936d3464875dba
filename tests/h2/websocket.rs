//! WebSockets over HTTP/2 (RFC 8441), and how they and event streams end in order.

use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::Request;

use super::upgrade::{bare, masked, switching};
use lameduck_rig::h2_client::{Client, answer, piece, rest, rig, soon};
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::{Wire, field, has};

fn connect(protocol: &'static str) -> Request<()> {
    Request::connect("http://a/ws")
        .extension(Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap()
}

/// An open WebSocket: what the client sends, what it gets, and the backend.
async fn websocket(rig: &Rig, client: &mut Client) -> (SendStream<Bytes>, RecvStream, Wire) {
    let (response, up) = client.begin(connect("websocket"), false).await;
    let mut backend = rig.backends[0].accept().await;
    let head = backend.head().await;
    assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{head}");
    assert!(
        has(&head, "Connection: upgrade") && has(&head, "Upgrade: websocket"),
        "{head}"
    );
    assert_eq!(field(&head, "sec-websocket-version"), Some("13"));
    let key = field(&head, "sec-websocket-key").unwrap();
    assert_eq!(key.len(), 24);
    backend.send(switching(key)).await;
    let (head, down) = soon(response).await.unwrap().into_parts();
    assert_eq!(head.status, 200);
    assert!(!head.headers.contains_key("sec-websocket-accept"));
    (up, down, backend)
}

#[lameduck_rig::test]
async fn websocket_over_http2_carries_both_directions() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let (mut up, mut down, mut backend) = websocket(&rig, &mut client).await;
    for _ in 0..3 {
        up.send_data(masked(1, b"hello").into(), false).unwrap();
        backend.expect(masked(1, b"hello")).await;
        backend.send(bare(2, b"world")).await;
        assert_eq!(piece(&mut down).await, bare(2, b"world"));
    }
    // RFC 8441 §5: an end of the stream is an end of the TCP connection, both ways.
    up.send_data(Bytes::new(), true).unwrap();
    backend.closed().await;
    drop(backend);
    assert_eq!(rest(down).await.unwrap().0, b"");
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
    let line = &rig.access_log(1).await[0];
    // As the client has seen it, and all that has passed.
    let (sent, got) = (3 * masked(1, b"hello").len(), 3 * bare(2, b"world").len());
    assert_eq!(line["status"], 200, "{line}");
    assert_eq!(line["bytes_in"], sent, "{line}");
    assert_eq!(line["bytes_out"], got, "{line}");
    assert_eq!(line["version"], "HTTP/2.0", "{line}");
}

#[lameduck_rig::test]
async fn reset_of_a_websocket_stream_closes_the_backends_connection() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let (mut up, _down, mut backend) = websocket(&rig, &mut client).await;
    up.send_reset(Reason::CANCEL);
    backend.gone().await;
}

#[lameduck_rig::test]
async fn a_handshake_that_is_refused_is_an_answer() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let (response, _up) = client.begin(connect("websocket"), false).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend
        .send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        .await;
    let refused = answer(response).await;
    assert_eq!((refused.status(), refused.text()), (403, "no"));
    let (response, _up) = client.begin(connect("connect-udp"), false).await;
    assert_eq!(answer(response).await.status(), 501);
}

/// The proxy has made the key, and so has to look at the answer to it (RFC 6455 §4.1).
#[lameduck_rig::test]
async fn handshake_with_a_wrong_accept_is_a_bad_response() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let right = |key: &str| switching(key);
    let wrong: [fn(&str) -> String; 4] = [
        |_| switching("dGhlIHNhbXBsZSBub25jZQ=="),
        |key| switching(key).replace("Sec-WebSocket-Accept", "X"),
        |key| switching(key).replace("Accept: ", "Accept: x"),
        |key| switching(key).replace("Upgrade: w", "Sec-WebSocket-Accept: x\r\nUpgrade: w"),
    ];
    for answer_to in wrong {
        let mut request = connect("websocket");
        // A key of the client's own is none of the handshake that the backend sees.
        let own = "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap();
        request.headers_mut().insert("sec-websocket-key", own);
        let (response, _up) = client.begin(request, false).await;
        let mut backend = rig.backends[0].accept().await;
        let head = backend.head().await;
        let keys = head
            .to_ascii_lowercase()
            .matches("sec-websocket-key")
            .count();
        assert_eq!(keys, 1, "{head}");
        let key = field(&head, "sec-websocket-key").unwrap();
        assert_ne!(answer_to(key), right(key));
        backend.send(answer_to(key)).await;
        assert_eq!(answer(response).await.status(), 502);
        backend.gone().await;
    }
    for line in rig.access_log(4).await {
        assert_eq!(line["end"], "bad_response", "{line}");
        assert!(
            line["cause"]
                .as_str()
                .unwrap()
                .contains("Sec-WebSocket-Accept"),
            "{line}"
        );
    }
}

/// A drain's deadline: a close frame each way, 1012 where the backend is about to be restarted.
#[lameduck_rig::test]
async fn a_drain_ends_a_websocket_with_close_frames() {
    for (until, code, reason) in [
        ("resumed", 1001u16, &b"going away"[..]),
        ("restarted", 1012, b"service restart"),
    ] {
        let rig = rig("").await;
        let mut client = Client::new(&rig).await;
        let (mut up, mut down, mut backend) = websocket(&rig, &mut client).await;
        // As long as `close_spread`: the end begins at once, and there is time for it.
        let drain = rig.drain(0, "5s", until);
        let close = bare(8, &[&code.to_be_bytes()[..], reason].concat());
        assert_eq!(piece(&mut down).await, close);
        let frame = backend.exactly(6 + 2 + reason.len()).await;
        assert_eq!(frame[0], 0x88);
        up.send_data(masked(8, &code.to_be_bytes()).into(), true)
            .unwrap();
        backend.send(bare(8, &code.to_be_bytes())).await;
        drop(backend);
        assert_eq!(rest(down).await.unwrap().0, b"");
        let drained = drain.await.unwrap();
        assert_eq!(drained.cut, 0, "{drained:?}");
    }
}

/// An event stream ends between two events, with a clean end of the stream.
#[lameduck_rig::test]
async fn a_drain_ends_an_event_stream_at_a_boundary() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let response = client.get("/events").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nf\r\ndata: 1\n\ndata: \r\n")
        .await;
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(piece(&mut body).await, "data: 1\n\ndata: ");
    // As long as `close_spread`: the end begins at once, and there is time for it.
    let drain = rig.drain(0, "5s", "resumed");
    let going_on = tokio::spawn(async move {
        // The rest of the open event and the beginning of the next one, each time.
        while backend.try_send("b\r\n2\n\ndata: 3\n\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (left, trailers) = rest(body).await.unwrap();
    let left = String::from_utf8(left).unwrap();
    assert!(
        left.starts_with("2\n\n") && left.ends_with("\n\n"),
        "{left:?}"
    );
    assert_eq!(trailers, None);
    assert_eq!(drain.await.unwrap().cut, 0);
    going_on.abort();
}

/// What comes behind an extended CONNECT that is refused reaches nobody: the backend's connection is clean.
#[lameduck_rig::test]
async fn bytes_behind_a_refused_connect_reach_nobody() {
    let rig = rig("").await;
    let mut client = Client::new(&rig).await;
    let mut backend: Option<Wire> = None;
    for (status, fields) in [
        (200, "Content-Length: 0\r\n"),
        (204, ""),
        (304, ""),
        (400, "Content-Length: 0\r\n"),
        (401, "Content-Length: 0\r\n"),
        (403, "Content-Length: 0\r\n"),
        (404, "Content-Length: 0\r\n"),
        (
            426,
            "Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n",
        ),
        (500, "Content-Length: 0\r\n"),
        (502, "Content-Length: 0\r\n"),
    ] {
        let (response, mut up) = client.begin(connect("websocket"), false).await;
        up.send_data("GET /admin HTTP/1.1\r\nHost: a\r\n\r\n".into(), false)
            .unwrap();
        let mut wire = match backend.take() {
            Some(wire) => wire,
            None => rig.backends[0].accept().await,
        };
        let head = wire.head().await;
        assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{status}: {head}");
        wire.send(format!("HTTP/1.1 {status} X\r\n{fields}\r\n"))
            .await;
        assert_eq!(answer(response).await.status(), status);
        backend = Some(wire);
    }
    // The next one's head is the next thing that the backend gets.
    let response = client.get("/clean").await;
    let mut wire = backend.unwrap();
    let head = wire.head().await;
    assert!(head.starts_with("GET /clean HTTP/1.1\r\n"), "{head}");
    wire.answer("ok").await;
    assert_eq!(answer(response).await.text(), "ok");
}
