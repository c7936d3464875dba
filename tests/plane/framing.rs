//! Where messages end, and what becomes of those whose end is doubtful.

use lameduck_rig::proxy::{GET, Rig};
use lameduck_rig::wire::{Ended, Wire, field, has};

async fn answered_with(rig: &Rig, response: impl AsRef<[u8]>) -> (Wire, Wire) {
    let (client, mut backend) = rig.get().await;
    backend.send(response).await;
    (client, backend)
}

/// RFC 9112 §6.1: an HTTP/1.0 client gets chunks unpacked, ended by the close.
#[lameduck_rig::test]
async fn chunks_are_unpacked_for_http_1_0() {
    let rig = Rig::one().await;
    let mut client = rig
        .ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend
        .send_in_pieces(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5;e=1\r\nhello\r\n7\r\n, world\r\n0\r\nX: y\r\n\r\n",
            3,
        )
        .await;
    let response = client.response().await;
    assert!(response.has("Connection: close"), "{}", response.head);
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.field("trailer"), None);
    assert_eq!(response.text(), "hello, world");
    // The backend's connection is whole, and used again.
    let _next = rig.ask(GET).await;
    backend.head().await;
}

/// RFC 9112 §6.3: a body until the close stays one for HTTP/1.0.
#[lameduck_rig::test]
async fn until_close_stays_so_for_http_1_0() {
    let rig = Rig::one().await;
    let mut client = rig.ask("GET / HTTP/1.0\r\n\r\n").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.send("HTTP/1.0 200 OK\r\n\r\nuntil").await;
    backend.send(" the end").await;
    drop(backend);
    let response = client.response().await;
    assert!(response.has("Connection: close"));
    assert_eq!(response.text(), "until the end");
}

/// RFC 9112 §7.1: an HTTP/1.1 client gets it in chunks, and its connection lives on.
#[lameduck_rig::test]
async fn until_close_becomes_chunks_for_http_1_1() {
    let rig = Rig::one().await;
    let (mut client, backend) = answered_with(&rig, "HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
    drop(backend);
    let response = client.response().await;
    assert!(
        response.has("Transfer-Encoding: chunked"),
        "{}",
        response.head
    );
    assert_eq!(response.text(), "until the end");
    client.send(GET).await;
    rig.backends[0].accept().await.head().await;
}

/// RFC 9110 §9.3.2, §15.3.5, §15.4.5: HEAD, 204 and 304 have no body, whatever their fields say.
#[lameduck_rig::test]
async fn responses_without_a_body_keep_both_connections() {
    let rig = Rig::one().await;
    let mut client = rig.client().await;
    let mut backend = None;
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        ),
    ] {
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        if backend.is_none() {
            backend = Some(rig.backends[0].accept().await);
        }
        let backend = backend.as_mut().unwrap();
        backend.head().await;
        backend.send(answer).await;
        let head = client.head().await;
        assert_eq!(head.get(9..12), answer.get(9..12));
        assert_eq!(field(&head, "connection"), None, "{head}");
        let kept = answer.contains("1000");
        assert_eq!(has(&head, "Content-Length: 1000"), kept, "{head}");
    }
}

/// RFC 9110 §8.6: a length in a 204 is wrong. It does not reach the client, and the connection is not trusted.
#[lameduck_rig::test]
async fn a_204_with_a_length_is_not_believed() {
    let rig = Rig::one().await;
    let (mut client, mut backend) = answered_with(
        &rig,
        "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
    )
    .await;
    let head = client.head().await;
    assert_eq!(field(&head, "content-length"), None);
    client.send(GET).await;
    let mut second = rig.backends[0].accept().await;
    second.head().await;
    second.answer("good").await;
    assert_eq!(client.response().await.text(), "good");
    backend.gone().await;
}

/// RFC 9112 §7.1.2: trailers go through in both directions.
#[lameduck_rig::test]
async fn trailers_go_through_both_ways() {
    let rig = Rig::one().await;
    let mut client = rig
        .ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: up\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    let request = backend.request().await;
    assert_eq!(
        (request.text(), request.trailers.as_str()),
        ("abc", "X-Sum: up\r\n")
    );
    assert!(request.has("Trailer: X-Sum"));
    backend
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\ndef\r\n0\r\nX-Sum: down\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(
        (response.text(), response.trailers.as_str()),
        ("def", "X-Sum: down\r\n")
    );
}

/// Heads and bodies may arrive in any pieces.
#[lameduck_rig::test]
async fn every_byte_may_come_by_itself() {
    let rig = Rig::one().await;
    let mut client = rig.client().await;
    let serving = async {
        let mut backend = rig.backends[0].accept().await;
        let request = backend.request().await;
        assert_eq!(request.text(), "abcd0123456789");
        backend
            .send_in_pieces("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nb\r\n0123456789a\r\n0\r\nT: u\r\n\r\n", 1)
            .await;
        backend.head().await;
        backend
            .send_in_pieces("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 1)
            .await;
    };
    let asking = async {
        client.send_in_pieces(
            "\r\nPOST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
            1,
        )
            .await;
        assert_eq!(client.response().await.text(), "abc0123456789a");
        client.send_in_pieces(GET, 1).await;
        assert_eq!(client.response().await.text(), "hello");
    };
    tokio::join!(asking, serving);
}

/// A chunked stream cut into two pieces at every possible place is the same stream.
#[lameduck_rig::test]
async fn a_body_may_be_split_anywhere() {
    let rig = Rig::one().await;
    let body = "4\r\nabcd\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nT: u\r\n\r\n";
    let mut client = rig.client().await;
    let mut backend: Option<Wire> = None;
    for at in 1..body.len() {
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        client.send(&body[..at]).await;
        if backend.is_none() {
            backend = Some(rig.backends[0].accept().await);
        }
        let backend = backend.as_mut().unwrap();
        backend.head().await;
        backend.expect(&body[..at]).await;
        client.send(&body[at..]).await;
        backend.expect(&body[at..]).await;
        backend
            .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        let head = client.head().await;
        assert!(has(&head, "Transfer-Encoding: chunked"));
        backend.send(&body[..at]).await;
        client.expect(&body[..at]).await;
        backend.send(&body[at..]).await;
        client.expect(&body[at..]).await;
    }
}

/// RFC 9112 §6.3, §4, §5: what can't be understood is a 502, and the client's connection lives on.
#[lameduck_rig::test]
async fn malformed_responses_are_502() {
    let rig = Rig::one().await;
    let mut client = rig.client().await;
    for answer in [
        "nonsense\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 099 No\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "\0",
    ] {
        client.send(GET).await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backend.send(answer).await;
        let response = client.response().await;
        assert_eq!(response.status(), 502, "{answer:?}: {}", response.head);
        backend.gone().await;
    }
    client.send(GET).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    drop(backend);
    // Nothing came of it, so it is tried again.
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.send("HTTP/1.1 200 O").await;
    drop(backend);
    assert_eq!(
        client.response().await.status(),
        502,
        "a head that breaks off"
    );
}

/// RFC 9112 §6.3: a client must be able to tell a response that broke off, however it is framed.
#[lameduck_rig::test]
async fn a_response_that_breaks_off_is_seen_to() {
    let rig = Rig::one().await;
    for (answer, reset) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhalf", true),
    ] {
        let (mut client, backend) = answered_with(&rig, answer).await;
        client.head().await;
        if reset {
            // What was sent must have arrived before the reset overtakes it.
            let first = if answer.contains("Length") {
                "half"
            } else {
                "4\r\nhalf\r\n"
            };
            client.expect(first).await;
            backend.reset();
        } else {
            drop(backend);
        }
        let (rest, ended) = client.rest().await;
        let text = String::from_utf8_lossy(&rest).into_owned();
        assert_eq!(ended, Ended::Reset, "{answer:?}: {text:?}");
        assert!(!text.contains("0\r\n\r\n"), "{answer:?}: {text:?}");
    }
}

/// RFC 9112 §6.3: to HTTP/1.0, where only the end of the connection ends a body, a break is a reset.
#[lameduck_rig::test]
async fn a_break_is_a_reset_to_http_1_0() {
    let rig = Rig::one().await;
    for answer in [
        "HTTP/1.1 200 OK\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut client = rig.ask("GET / HTTP/1.0\r\n\r\n").await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backend.send(answer).await;
        client.head().await;
        client.expect("half").await;
        backend.reset();
        assert_eq!(client.rest().await, (Vec::new(), Ended::Reset));
    }
}
