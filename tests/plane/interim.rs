//! 1xx responses (RFC 9110 §15.2).

use std::time::Duration;

use lameduck_rig::proxy::{GET, Rig};
use lameduck_rig::wire::has;

const EXPECTING: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

/// RFC 9110 §10.1.1: the expectation goes to the backend, its 100 to the client, and then the body.
#[lameduck_rig::test]
async fn a_100_continue_goes_end_to_end() {
    let rig = Rig::one().await;
    let mut client = rig.ask(EXPECTING).await;
    let mut backend = rig.backends[0].accept().await;
    assert!(has(&backend.head().await, "Expect: 100-continue"));
    client.quiet(Duration::from_millis(50)).await;
    backend.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("body").await;
    backend.expect("body").await;
    backend.answer("done").await;
    assert_eq!(client.response().await.text(), "done");
    client.send(GET).await;
    backend.head().await;
}

/// RFC 9110 §10.1.1: a backend may answer without ever wanting the body; then the connection ends.
#[lameduck_rig::test]
async fn an_expectation_may_be_refused() {
    let rig = Rig::one().await;
    let mut client = rig.ask(EXPECTING).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend
        .send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(response.status(), 417);
    assert!(response.has("Connection: close"));
    client.closed().await;
    backend.gone().await;
}

/// RFC 8297: early hints reach the client at once.
#[lameduck_rig::test]
async fn early_hints_go_through() {
    let rig = Rig::one().await;
    let (mut client, mut backend) = rig.get().await;
    backend
        .send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
        .await;
    let hints = client.head().await;
    assert!(hints.starts_with("HTTP/1.1 103 "));
    assert!(has(&hints, "Link: </a.css>; rel=preload"));
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// Interim responses and the final one may come in one piece, and in pieces.
#[lameduck_rig::test]
async fn interim_responses_may_be_split_anywhere() {
    let rig = Rig::one().await;
    let stream = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (mut client, mut backend) = rig.get().await;
    for size in [stream.len(), 7, 1] {
        backend.send_in_pieces(stream, size).await;
        assert!(client.head().await.starts_with("HTTP/1.1 100 "));
        assert!(client.head().await.starts_with("HTTP/1.1 103 "));
        assert_eq!(client.response().await.text(), "ok");
        client.send(GET).await;
        backend.head().await;
    }
}

/// RFC 9110 §15.2: a client of HTTP/1.0 gets none.
#[lameduck_rig::test]
async fn http_1_0_gets_no_interim_response() {
    let rig = Rig::one().await;
    let mut client = rig.ask("GET / HTTP/1.0\r\n\r\n").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend
        .send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        .await;
    backend.answer("x").await;
    assert_eq!(client.response().await.text(), "x");
}

/// Endless interim responses are an error, not a way to keep a request busy.
#[lameduck_rig::test]
async fn too_many_interim_responses_are_a_502() {
    let rig = Rig::one().await;
    let mut client = rig.ask("GET / HTTP/1.0\r\n\r\n").await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend
        .send("HTTP/1.1 102 Processing\r\n\r\n".repeat(17))
        .await;
    assert_eq!(client.response().await.status(), 502);
    backend.gone().await;
}

/// An interim response is a part of the answer: another backend's would begin in the middle of it.
#[lameduck_rig::test]
async fn death_behind_an_interim_response_is_repeated_only_where_none_was_passed_on() {
    for interim in [
        "103 Early Hints\r\nLink: x",
        "100 Continue",
        "102 Processing",
    ] {
        for version in ["1.1", "1.0"] {
            let rig = Rig::of(2).await;
            let request = format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n");
            let mut client = rig.ask(request).await;
            let (index, mut backend) = rig.first().await;
            backend.head().await;
            backend.send(format!("HTTP/1.1 {interim}\r\n\r\n")).await;
            if version == "1.1" {
                let head = client.head().await;
                assert!(
                    head.starts_with(&format!("HTTP/1.1 {}", &interim[..3])),
                    "{head}"
                );
                drop(backend);
                assert_eq!(client.response().await.status(), 502, "{interim}");
                let line = &rig.access_log(1).await[0];
                assert_eq!(line["attempts"], 1, "{line}");
                assert_eq!(line["end"], "upstream_died", "{line}");
                assert_eq!(line["retry_reason"], "response_begun", "{line}");
            } else {
                // Its client got none.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                drop(backend);
                let mut other = rig.backends[1 - index].accept().await;
                other.head().await;
                other.answer("x").await;
                assert_eq!(client.response().await.text(), "x");
            }
        }
    }
}
