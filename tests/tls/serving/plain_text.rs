//! Plain HTTP beside TLS: redirects, and what comes to the wrong port.

use super::super::rig::{PATIENCE, Rig, ask, fetch, get, read_to_end};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// On a connection of its own, whatever else is kept alive.
#[lameduck_rig::test]
async fn plain_http_on_a_tls_port_is_told_so() {
    let rig = Rig::new("").await;
    let mut stream = TcpStream::connect(rig.address()).await.unwrap();
    let answer = ask(&mut stream, &get("/")).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(answer.contains("Content-Type: text/plain"), "{answer}");
    assert!(answer.ends_with("use https://\n"), "{answer}");
    let plain = "lameduck_tls_handshakes_total{outcome=\"plain_http\"}";
    rig.counts(plain, 1.0).await;
    let refused = "lameduck_refused_total{reason=\"plain_http\"}";
    rig.counts(refused, 1.0).await;
}

#[lameduck_rig::test]
async fn what_is_no_tls_at_all_ends_soon_and_harms_nobody() {
    let rig = Rig::new("").await;
    for noise in [
        &b"\x16"[..],
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05hello",
        b"\x80\x2e\x01\x00\x02",
        b"\0\0\0\0",
        b"",
    ] {
        let mut stream = TcpStream::connect(rig.address()).await.unwrap();
        stream.write_all(noise).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        // A reset is as good an end as any for what is no TLS.
        let _ = end.expect("the connection stays open");
    }
    assert!(
        fetch(&rig, rig.client())
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
}

#[lameduck_rig::test]
async fn http_is_redirected() {
    let rig = Rig::new("").await;
    let config = std::fs::read_to_string(rig.proxy.config()).unwrap();
    let plain = "[[listener]]\naddress = \"127.0.0.1:0\"\nredirect_https = 8443\n\n[[pool]]";
    std::fs::write(
        rig.proxy.config(),
        config
            .replacen("[[pool]]", plain, 1)
            .replacen("127.0.0.1:0", "127.0.0.2:0", 1),
    )
    .unwrap();
    rig.reload().await.unwrap();
    let listeners =
        lameduck::tools::demo::admin::call(rig.proxy.socket(), "GET", "/v1/listeners", None)
            .await
            .unwrap();
    let listeners: Vec<_> = listeners.as_array().unwrap().clone();
    let plain = listeners
        .iter()
        .find(|listener| listener["certificates"].is_null())
        .unwrap();
    let address: std::net::SocketAddr = plain["address"].as_str().unwrap().parse().unwrap();
    for (request, status, location) in [
        (
            "GET /a/b?c=d HTTP/1.1\r\nHost: shop.example.org:8080\r\n",
            301,
            "https://shop.example.org:8443/a/b?c=d",
        ),
        (
            "HEAD / HTTP/1.1\r\nHost: [::1]:80\r\n",
            301,
            "https://[::1]:8443/",
        ),
        (
            "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n",
            308,
            "https://h:8443/x",
        ),
        (
            "GET http://other/y HTTP/1.1\r\nHost: h\r\n",
            301,
            "https://other:8443/y",
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n", 308, "https://h:8443/"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request}Connection: close\r\n\r\n");
        let answer = ask(&mut stream, &request).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}\n{answer}"
        );
        assert!(
            answer.contains(&format!("\r\nLocation: {location}\r\n")),
            "{request}\n{answer}"
        );
        assert!(!answer.contains("Strict-Transport"), "{answer}");
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    let answer = ask(&mut stream, "GET / HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // Kept alive where the client wants it.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .unwrap();
    let mut some = [0; 1024];
    let count = stream.read(&mut some).await.unwrap();
    assert!(some[..count].starts_with(b"HTTP/1.1 301"));
    stream.write_all(get("/2").as_bytes()).await.unwrap();
    let rest = read_to_end(&mut stream).await.unwrap();
    assert!(rest.contains("localhost:8443/2"), "{rest}");
}
