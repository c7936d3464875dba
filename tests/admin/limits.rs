//! Large, slow and stuck clients hurt nobody but themselves.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::http::Http;
use crate::server::{Doors, Server};

const MIB: usize = 1024 * 1024;

#[lameduck_rig::test]
async fn body_of_a_mebibyte_is_refused_with_413() {
    let doors = Doors {
        http: Some("127.0.0.1:0"),
        probes: true,
        ..Doors::default()
    };
    let server = Server::with(doors).await;
    let before = server.world().await;
    let body = vec![b'['; MIB];
    for (method, path) in [
        ("POST", "/v1/pools/app/backends/app-1/drain"),
        ("PUT", "/v1/pools/app/backends/new"),
        ("POST", "/v1/config/reload"),
        ("GET", "/v1/pools"),
        ("BREW", "/no/such/path"),
    ] {
        let request = || Http::new(method, path);
        let whole = request().json(&String::from_utf8(body.clone()).unwrap());
        whole
            .over_unix(&server.socket)
            .await
            .problem(413, "body-too-large");
        let chunked = request().chunked(&body);
        chunked
            .over_unix(&server.socket)
            .await
            .problem(413, "body-too-large");
        let tcp = request()
            .body(body.clone())
            .over_tcp(server.http.unwrap())
            .await;
        tcp.problem(413, "body-too-large");
        let probes = request()
            .body(body.clone())
            .over_tcp(server.probes.unwrap())
            .await;
        probes.problem(413, "body-too-large");
    }
    assert_eq!(server.world().await, before);
    server.stop().await;
}

#[lameduck_rig::test]
async fn expectation_of_a_too_large_body_is_refused_before_the_body() {
    let server = Server::start().await;
    let request = Http::new("POST", "/v1/lame-duck")
        .header("expect: 100-continue")
        .header(&format!("content-length: {MIB}"));
    request
        .over_unix(&server.socket)
        .await
        .problem(413, "body-too-large");
    server.stop().await;
}

#[lameduck_rig::test]
async fn a_large_header_is_refused() {
    let server = Server::start().await;
    let request = Http::new("GET", "/v1/pools").header(&format!("x: {}", "y".repeat(40_000)));
    // The HTTP stack answers this one, before there is a path to speak of.
    assert_eq!(request.over_unix(&server.socket).await.status, 431);
    server.stop().await;
}

#[lameduck_rig::test]
async fn request_that_is_no_http_is_refused() {
    let server = Server::start().await;
    let mut stream = UnixStream::connect(&server.socket).await.unwrap();
    stream
        .write_all(b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer:?}");
    server.stop().await;
}

#[lameduck_rig::test]
async fn a_header_that_never_ends_is_given_up_after_10_s() {
    let server = Server::start().await;
    let began = Instant::now();
    let mut stream = UnixStream::connect(&server.socket).await.unwrap();
    stream
        .write_all(b"GET /v1/pools HTTP/1.1\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let ended =
        tokio::time::timeout(Duration::from_secs(40), stream.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "still open");
    assert!(began.elapsed() > Duration::from_secs(9));
    server.stop().await;
}
