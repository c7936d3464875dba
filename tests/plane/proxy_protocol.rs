//! Listeners behind a proxy that says, by the PROXY protocol, for whom it connects.

use std::time::Duration;

use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::{Message, Wire};

/// In front of the tables of `[headers]` that each test has: the key of the rig's listener.
macro_rules! tables {
    ($headers:literal) => {
        concat!("proxy_protocol = true\n[headers]\n", $headers)
    };
}

/// The proxy in front is this machine.
const LOOPBACK: &str = tables!("trusted = [\"127.0.0.0/8\"]");

async fn rig(server: &'static str, tables: &'static str) -> Rig {
    Rig::new(Setup {
        server,
        tables,
        pool: "[pool.upstream]\nidle_timeout = \"60s\"",
        ..Setup::default()
    })
    .await
}

/// A header of version 2 for 192.0.2.9:4660.
fn binary(tlvs: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    bytes.extend((12 + tlvs.len() as u16).to_be_bytes());
    bytes.extend([192, 0, 2, 9, 10, 0, 0, 1, 0x12, 0x34, 0, 80]);
    bytes.extend(tlvs);
    bytes
}

const TEXT: &[u8] = b"PROXY TCP4 192.0.2.9 10.0.0.1 4660 80\r\n";

/// What the app gets for the request that a client has sent.
async fn forwarded(rig: &Rig, client: &mut Wire) -> Message {
    let (_, mut backend) = rig.first().await;
    let request = backend.request().await;
    backend
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        .await;
    assert_eq!(client.response().await.text(), "ok");
    request
}

/// Both versions, at once with the request and byte by byte: the app and the log hear of the client, and what was read
/// beyond the header is the request.
#[lameduck_rig::test]
async fn the_client_is_who_the_header_names() {
    let rig = rig("", LOOPBACK).await;
    let long = binary(&[&[4, 3, 232][..], &[0; 1000]].concat());
    let headers = [TEXT.to_vec(), binary(&[]), binary(&[4, 0, 1, 0]), long];
    for header in &headers {
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nwhole";
        for piece in [1 << 16, 7, 1] {
            let mut client = rig.client().await;
            let all = [header, post.as_bytes()].concat();
            if piece == 1 && all.len() > 500 {
                continue;
            }
            client.send_in_pieces(&all, piece).await;
            let request = forwarded(&rig, &mut client).await;
            assert!(
                request.has("X-Forwarded-For: 192.0.2.9"),
                "{}",
                request.head
            );
            assert_eq!(request.text(), "whole");
            // The header is the connection's, not the request's.
            client.send(GET).await;
            let request = forwarded(&rig, &mut client).await;
            assert!(
                request.has("X-Forwarded-For: 192.0.2.9"),
                "{}",
                request.head
            );
        }
    }
    let log = rig.access_log(22).await;
    assert!(
        log.iter().all(|line| line["client"] == "192.0.2.9"),
        "{log:#?}"
    );
}

/// Being named by a trusted proxy makes nobody trusted; being trusted oneself does.
#[lameduck_rig::test]
async fn trust_is_judged_by_the_clients_own_address() {
    let rig = rig(
        "",
        tables!("trusted = [\"127.0.0.0/8\", \"198.51.100.0/24\"]"),
    )
    .await;
    let claim = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
    for (header, chain) in [
        (&b"PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n"[..], "192.0.2.9"),
        (
            b"PROXY TCP4 198.51.100.9 10.0.0.1 1 2\r\n",
            "6.6.6.6, 198.51.100.9",
        ),
        (b"PROXY TCP6 2001:db8::9 ::1 1 2\r\n", "2001:db8::9"),
        (
            b"PROXY TCP6 ::ffff:198.51.100.9 ::1 1 2\r\n",
            "6.6.6.6, 198.51.100.9",
        ),
        // Somebody whom the proxy doesn't know: the address is the proxy's own, its trust is not passed on.
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (b"PROXY UNKNOWN 1.1.1.1 2.2.2.2 3 4\r\n", "127.0.0.1"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x00\0\0", "127.0.0.1"),
        // The proxy itself.
        (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0", "6.6.6.6, 127.0.0.1"),
    ] {
        let mut client = rig.client().await;
        client.send([header, claim.as_bytes()].concat()).await;
        let request = forwarded(&rig, &mut client).await;
        assert_eq!(
            request.field("X-Forwarded-For"),
            Some(chain),
            "{}",
            header.escape_ascii()
        );
    }
}

/// Nobody but a trusted source is served, with a header or without one.
#[lameduck_rig::test]
async fn an_untrusted_source_is_closed_counted_and_logged() {
    let rig = rig("", tables!("trusted = [\"192.0.2.0/24\"]")).await;
    for bytes in [&[TEXT, GET.as_bytes()].concat()[..], GET.as_bytes(), b""] {
        let mut client = rig.client().await;
        // It may be closed before that is through.
        let _ = client.try_send(bytes).await;
        client.gone().await;
    }
    for line in rig.access_log(3).await {
        assert_eq!(
            (&line["client"], &line["status"]),
            (&"127.0.0.1".into(), &0.into())
        );
        let cause = line["cause"].as_str().unwrap();
        assert!(cause.contains("not in [headers] trusted"), "{line}");
        rig.counts_refused(cause, 3).await;
    }
}

/// What is no header is no client: closed, counted by what is wrong with it, and logged.
#[lameduck_rig::test]
async fn connection_without_a_proxy_header_is_closed() {
    let rig = rig("", LOOPBACK).await;
    let overlong = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
    let mut huge = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec();
    huge.extend([0; 2000]);
    let mut sum = binary(&[3, 0, 4, 1, 2, 3, 4]);
    sum.extend(GET.as_bytes());
    for (bytes, cause) in [
        (GET.as_bytes(), "no PROXY protocol header"),
        (overlong.as_bytes(), "PROXY protocol header too long"),
        (&huge, "PROXY protocol header too long"),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            "malformed PROXY protocol header (version 1)",
        ),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
            "malformed PROXY protocol header (version 2)",
        ),
        (&sum, "wrong checksum in the PROXY protocol header"),
    ] {
        let before = rig.refused(cause).await;
        let mut client = rig.ask(bytes).await;
        client.gone().await;
        rig.counts_refused(cause, before + 1).await;
    }
    let log = rig.access_log(6).await;
    let plain = log
        .iter()
        .find(|line| line["cause"] == "no PROXY protocol header");
    assert_eq!(plain.unwrap()["method"], "GET");
    // A bare connect is how load balancers ask whether we are there: nobody's fault.
    drop(rig.client().await);
    let mut half = rig.ask("PROXY TC").await;
    half.finish().await;
    half.closed().await;
    let mut client = rig.client().await;
    client.send([TEXT, GET.as_bytes()].concat()).await;
    forwarded(&rig, &mut client).await;
    assert_eq!(rig.access_log(7).await.len(), 7);
}

/// `header_timeout` holds for the header, from the accept on, however it trickles in.
#[lameduck_rig::test]
async fn a_header_that_takes_too_long_is_closed() {
    let rig = rig("header_timeout = \"300ms\"", LOOPBACK).await;
    let mut silent = rig.client().await;
    let mut slow = rig.ask("PROXY TCP4 ").await;
    for _ in 0..200 {
        if slow.try_send("1").await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    silent.gone().await;
    slow.gone().await;
    rig.counts_limited("header_timeout", 2).await;
    for line in rig.access_log(2).await {
        assert_eq!(line["end"], "header_timeout");
    }
}

/// `max_connections_per_client` counts the clients, not the proxy in front of them.
#[lameduck_rig::test]
async fn each_client_has_its_own_connections() {
    let rig = rig("max_connections_per_client = 1", LOOPBACK).await;
    let mut clients = Vec::new();
    for name in ["192.0.2.1", "192.0.2.2"] {
        let mut client = rig.client().await;
        client
            .send(format!("PROXY TCP4 {name} 10.0.0.1 1 2\r\n{GET}"))
            .await;
        forwarded(&rig, &mut client).await;
        clients.push(client);
    }
    let mut third = rig
        .ask(format!("PROXY TCP4 192.0.2.2 10.0.0.1 1 2\r\n{GET}"))
        .await;
    assert_eq!(third.response().await.status(), 429);
}

/// A shutdown waits for a header under way, and not for one that nobody begins to send.
#[lameduck_rig::test]
async fn a_shutdown_finishes_what_has_begun() {
    let mut rig = rig("lame_duck = \"0s\"\nheader_timeout = \"60s\"", LOOPBACK).await;
    let mut begun = rig.ask(&TEXT[..9]).await;
    let mut silent = rig.client().await;
    // One that is served shows that those before it have been accepted.
    let mut client = rig.client().await;
    client.send([TEXT, GET.as_bytes()].concat()).await;
    forwarded(&rig, &mut client).await;
    rig.terminate();
    client.closed().await;
    silent.gone().await;
    begun.send([&TEXT[9..], GET.as_bytes()].concat()).await;
    let request = forwarded(&rig, &mut begun).await;
    assert!(request.has("X-Forwarded-For: 192.0.2.9"));
    assert!(rig.exited().await.success());
}
