//! The PROXY header, as a backend reads it.

use std::net::SocketAddr;

use lameduck_rig::proxy::{Rig, Setup};
use lameduck_rig::wire::Wire;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

async fn rig(version: &str) -> Rig {
    let pool = format!("[pool.upstream]\nproxy_protocol = {version:?}");
    Rig::new(Setup {
        pool: pool.leak(),
        tables: "[[listener]]\naddress = \"[::1]:0\"",
        ..Setup::default()
    })
    .await
}

/// Both of the proxy's addresses.
async fn listeners(rig: &Rig) -> Vec<SocketAddr> {
    let view = lameduck::tools::demo::admin::call(&rig.socket, "GET", "/v1/listeners", None).await;
    let view = view.unwrap();
    let addresses = view.as_array().unwrap().iter();
    let addresses = addresses.map(|listener| listener["address"].as_str().unwrap().parse());
    addresses.map(Result::unwrap).collect()
}

/// A client of its own, with its address.
async fn client(proxy: SocketAddr) -> (Wire, SocketAddr) {
    let stream = tokio::net::TcpStream::connect(proxy).await.unwrap();
    let address = stream.local_addr().unwrap();
    (Wire::new(stream), address)
}

#[lameduck_rig::test]
async fn the_line_of_text_says_who_the_client_is() {
    let rig = rig("v1").await;
    for proxy in listeners(&rig).await {
        let (mut client, address) = client(proxy).await;
        for _ in 0..2 {
            client.send(GET).await;
            // A connection for each request: on a kept one, others' requests would be this client's.
            let mut backend = rig.backends[0].accept().await;
            let family = if proxy.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!(
                "PROXY {family} {} {} {} {}\r\n",
                address.ip(),
                proxy.ip(),
                address.port(),
                proxy.port()
            );
            backend.expect(line).await;
            backend.head().await;
            backend.send(OK).await;
            assert_eq!(client.response().await.text(), "ok");
            backend.closed().await;
        }
    }
}

#[lameduck_rig::test]
async fn the_binary_header_says_who_the_client_is() {
    let rig = rig("v2").await;
    for proxy in listeners(&rig).await {
        let (mut client, address) = client(proxy).await;
        client.send(GET).await;
        let mut backend = rig.backends[0].accept().await;
        backend.expect(SIGNATURE).await;
        let mut block = Vec::new();
        let family = match (address, proxy) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                block.extend([from.ip().octets(), to.ip().octets()].concat());
                [0x21, 0x11, 0, 12]
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                block.extend([from.ip().octets(), to.ip().octets()].concat());
                [0x21, 0x21, 0, 36]
            }
            _ => unreachable!(),
        };
        block.extend(address.port().to_be_bytes());
        block.extend(proxy.port().to_be_bytes());
        assert_eq!(backend.exactly(4).await, family);
        assert_eq!(backend.exactly(block.len()).await, block);
        assert!(backend.head().await.starts_with("GET / HTTP/1.1\r\n"));
        backend.send(OK).await;
        assert_eq!(client.response().await.text(), "ok");
    }
}

/// Behind another proxy: a client whom it does not know has no address, and a request of its own has its own.
#[lameduck_rig::test]
async fn unknown_client_has_no_address() {
    for (version, text) in [("v1", true), ("v2", false)] {
        let pool = format!("[pool.upstream]\nproxy_protocol = {version:?}");
        let rig = Rig::new(Setup {
            pool: pool.leak(),
            tables: "proxy_protocol = true\n[headers]\ntrusted = [\"127.0.0.0/8\"]",
            ..Setup::default()
        })
        .await;
        let nobody: Vec<u8> = match text {
            true => b"PROXY UNKNOWN\r\n".to_vec(),
            false => [SIGNATURE, &[0x21, 0, 0, 0]].concat(),
        };
        // A unix socket's client, too: 216 bytes of paths.
        let unix = [SIGNATURE, &[0x21, 0x31, 0, 216], &[b'/'; 216]].concat();
        for unknown in [
            &b"PROXY UNKNOWN\r\n"[..],
            &b"PROXY UNKNOWN a b 1 2\r\n"[..],
            &unix,
        ] {
            let (mut client, _) = client(rig.address).await;
            client.send(unknown).await;
            client.send(GET).await;
            let mut backend = rig.backends[0].accept().await;
            backend.expect(&nobody).await;
            assert!(backend.head().await.starts_with("GET / HTTP/1.1\r\n"));
            backend.send(OK).await;
            assert_eq!(client.response().await.text(), "ok");
        }
        let (mut client, front) = client(rig.address).await;
        client.send([SIGNATURE, &[0x20, 0, 0, 0]].concat()).await;
        client.send(GET).await;
        let mut backend = rig.backends[0].accept().await;
        let port = front.port().to_be_bytes();
        if text {
            let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {}", front.port());
            assert!(backend.exactly(line.len()).await == line.as_bytes());
        } else {
            backend
                .expect([SIGNATURE, &[0x21, 0x11, 0, 12]].concat())
                .await;
            let block = backend.exactly(12).await;
            assert_eq!(
                (&block[..4], &block[8..10]),
                (&[127, 0, 0, 1][..], &port[..])
            );
        }
        backend.head().await;
        backend.send(OK).await;
        assert_eq!(client.response().await.text(), "ok");
    }
}

#[lameduck_rig::test]
async fn health_check_of_a_pool_with_proxy_protocol_has_a_header_without_client() {
    for (version, expected) in [
        ("v1", b"PROXY UNKNOWN\r\n".to_vec()),
        ("v2", [SIGNATURE, &[0x20, 0, 0, 0]].concat()),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let probed = tokio::spawn(async move {
            loop {
                let mut probe = Wire::new(listener.accept().await.unwrap().0);
                probe.expect(&expected).await;
                while let Some(head) = probe.head_or_end().await {
                    assert!(head.starts_with("GET /health HTTP/1.1\r\n"), "{head}");
                    probe.send(OK).await;
                }
            }
        });
        let pool = format!(
            "[[pool.backend]]\nname = \"b1\"\naddress = \"{address}\"\n[pool.health]\nrise = 1\n\
             fast_interval = \"10ms\"\n[pool.upstream]\nproxy_protocol = {version:?}"
        );
        let rig = Rig::start(tempfile::tempdir().unwrap(), "", "", &pool, Vec::new()).await;
        rig.until("it is ready", |pool| pool.eligible == 1).await;
        assert!(!probed.is_finished());
        probed.abort();
    }
}
