//! Offers to switch protocols: whose are passed on, which, and what becomes of bytes behind one that is refused.

use super::upgrade::{SWITCHING, WEBSOCKET};
use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::{Wire, field, has};

fn switching(protocol: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
    )
}

/// What `docker attach` and `kubectl exec` ask with (RFC 9110 §7.8 knows no method of an upgrade).
#[lameduck_rig::test]
async fn upgrade_by_post_without_a_body_becomes_a_tunnel() {
    let rig = Rig::one().await;
    for (protocol, lengths) in [
        ("tcp", "Content-Type: text/plain\r\n"),
        ("SPDY/3.1", "Content-Length: 0\r\n"),
    ] {
        let request = format!(
            "POST /exec HTTP/1.1\r\nHost: a\r\n{lengths}Connection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        );
        let mut client = rig.ask(request).await;
        let mut backend = rig.backends[0].accept().await;
        let head = backend.head().await;
        assert!(head.starts_with("POST /exec HTTP/1.1\r\n"), "{head}");
        assert!(
            has(&head, "Connection: upgrade") && has(&head, &format!("Upgrade: {protocol}")),
            "{head}"
        );
        backend.send(switching(protocol)).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        client.send("up").await;
        backend.expect("up").await;
        backend.send("down").await;
        client.expect("down").await;
    }
}

/// A backend may answer such a request like any other.
#[lameduck_rig::test]
async fn upgrade_by_post_may_be_refused_and_the_connections_live_on() {
    let rig = Rig::one().await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    let mut client = rig.ask(request).await;
    let mut backend = rig.backends[0].accept().await;
    for _ in 0..2 {
        backend.head().await;
        backend.answer("no").await;
        assert_eq!(client.response().await.text(), "no");
        client.send(request).await;
    }
}

/// With a body, the offer goes no further: who switches before having read it would take the rest for the new protocol.
#[lameduck_rig::test]
async fn upgrade_of_a_request_with_a_body_is_not_passed_on() {
    let rig = Rig::one().await;
    let mut client = rig
        .ask("POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    let mut backend = rig.backends[0].accept().await;
    let head = backend.head().await;
    assert_eq!(field(&head, "upgrade"), None, "{head}");
    backend.expect("hi").await;
    backend.answer("ok").await;
    assert_eq!(client.response().await.text(), "ok");
}

#[lameduck_rig::test]
async fn upgrade_list_is_offered_whole_but_for_what_would_pass_unseen() {
    let rig = Rig::one().await;
    let mut client = rig
        .ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo/2, h2c, websocket\r\nUpgrade: TLS/1.0,bar\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    let head = backend.head().await;
    assert!(has(&head, "Upgrade: foo/2, websocket, bar"), "{head}");
    assert_eq!(head.matches("pgrade: ").count(), 1, "{head}");
    backend.send(switching("BAR")).await;
    let head = client.head().await;
    assert!(has(&head, "Upgrade: BAR"), "{head}");
    client.send("up").await;
    backend.expect("up").await;
}

/// RFC 9110 §7.8: nobody switches to what was not offered.
#[lameduck_rig::test]
async fn switching_to_what_was_not_offered_is_a_502() {
    let rig = Rig::one().await;
    for protocol in ["baz", "foo", "h2c", "websocket"] {
        let mut client = rig
            .ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo/2, h2c, bar\r\n\r\n")
            .await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backend.send(switching(protocol)).await;
        assert_eq!(client.response().await.status(), 502, "{protocol}");
        backend.gone().await;
    }
}

/// Refuses an upgrade with this answer, and says what the backend got next on the connection that it was on, if that
/// lives on, else on the next one.
async fn next_head(rig: &Rig, mut backend: Wire, reused: bool) -> (String, Wire) {
    if !reused {
        backend.gone().await;
        backend = rig.backends[0].accept().await;
    }
    (backend.head().await, backend)
}

/// What a client sends behind an offer is the new protocol's if it is accepted. If it is not, it is the client's next
/// request, and is judged as one: it never reaches the backend as it came, whatever the refusal says.
#[lameduck_rig::test]
async fn bytes_behind_a_refused_upgrade_are_the_next_request() {
    // Claims that the proxy would never pass on as they are.
    let early = "GET /admin HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-Client-Cert-Verified: yes\r\n\r\n";
    let empty = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    let mut refusals: Vec<(String, u16, bool)> = [
        "200 OK",
        "301 Moved",
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
    ]
    .iter()
    .map(|status| (empty(status), status[..3].parse().unwrap(), true))
    .collect();
    refusals.extend([
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), 204, true),
        ("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), 304, true),
        (
            "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n".to_owned(),
            426,
            true,
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
            200,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            200,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(),
            200,
            false,
        ),
        // These pretend to accept.
        (switching("other"), 502, false),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_owned(),
            502,
            false,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n".to_owned(),
            502,
            false,
        ),
    ]);
    for (answer, status, reused) in refusals {
        let rig = Rig::one().await;
        let mut client = rig.ask(format!("{WEBSOCKET}{early}")).await;
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        backend.send(&answer).await;
        let mut head = client.head().await;
        if head.starts_with("HTTP/1.1 100 ") {
            head = client.head().await;
        }
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}: {head}"
        );
        if status == 502 && !reused {
            client
                .exactly(field(&head, "content-length").unwrap().parse().unwrap())
                .await;
        } else if has(&head, "Transfer-Encoding: chunked") {
            client.expect("0\r\n\r\n").await;
        }
        let (next, mut backend) = next_head(&rig, backend, reused).await;
        assert!(
            next.starts_with("GET /admin HTTP/1.1\r\n"),
            "{answer}: {next}"
        );
        assert!(
            !next.contains("6.6.6.6") && !next.contains("X-Client-Cert"),
            "{answer}: {next}"
        );
        backend.answer("second").await;
        assert_eq!(client.response().await.text(), "second", "{answer}");
    }
}

/// Bytes that are no request end the client's connection. The backend's is clean, and carries the next client's.
#[lameduck_rig::test]
async fn rubbish_behind_a_refused_upgrade_reaches_nobody() {
    let rig = Rig::one().await;
    let mut client = rig.ask(format!("{WEBSOCKET}\x01\x02rubbish\r\n\r\n")).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("no").await;
    assert_eq!(client.response().await.text(), "no");
    assert_eq!(client.response().await.status(), 400);
    client.closed().await;
    let mut other = rig.ask(WEBSOCKET).await;
    let head = backend.head().await;
    assert!(head.starts_with("GET /ws HTTP/1.1\r\n"), "{head}");
    backend.send(SWITCHING).await;
    assert!(other.head().await.starts_with("HTTP/1.1 101 "));
}
