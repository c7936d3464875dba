//! Peers that vanish without a word, and tunnels in which nothing passes.

use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::upgrade::{SWITCHING, WEBSOCKET, websocket};
use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wire::Wire;

/// A connection whose end is lost: no FIN goes out. From then on nobody is there; the kernel answers the first question
/// with a reset. False: that needs the right to do so.
fn vanish(stream: TcpStream) -> bool {
    let on: libc::c_int = 1;
    #[allow(unsafe_code, reason = "socket2 knows no TCP_REPAIR")]
    // SAFETY: the kernel reads one `int` from where the pointer points.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    result == 0
}

fn skip(test: &str) {
    // Not `eprintln!`, whose text the test runner swallows when a test passes.
    let _ = writeln!(std::io::stderr(), "{test}: skipped: needs CAP_NET_ADMIN");
}

async fn watched() -> Rig {
    Rig::new(Setup {
        server: "tcp_keepalive = \"1s\"",
        ..Setup::default()
    })
    .await
}

/// A WebSocket as bare sockets: client and backend.
async fn bare_websocket(rig: &Rig) -> (TcpStream, TcpStream) {
    let exchange = async |mut wire: TcpStream, say: &str| {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(wire.read_u8().await.unwrap());
        }
        wire.write_all(say.as_bytes()).await.unwrap();
        wire
    };
    let client = TcpStream::connect(rig.address).await.unwrap();
    client.writable().await.unwrap();
    client.try_write(WEBSOCKET.as_bytes()).unwrap();
    let backend = exchange(rig.backends[0].accept_bare().await, SWITCHING).await;
    let client = exchange(client, "").await;
    (client, backend)
}

#[lameduck_rig::test]
async fn vanished_client_is_noticed_by_keepalive() {
    let rig = watched().await;
    let (client, backend) = bare_websocket(&rig).await;
    if !vanish(client) {
        return skip("vanished_client_is_noticed_by_keepalive");
    }
    let mut backend = Wire::new(backend);
    backend.gone().await;
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
}

#[lameduck_rig::test]
async fn vanished_backend_is_noticed_by_keepalive() {
    let rig = watched().await;
    let (client, backend) = bare_websocket(&rig).await;
    if !vanish(backend) {
        return skip("vanished_backend_is_noticed_by_keepalive");
    }
    Wire::new(client).gone().await;
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
}

/// Without keepalive, too: the drain's deadline ends what nobody is there to end.
#[lameduck_rig::test]
async fn vanished_client_holds_a_drain_no_longer_than_its_deadline() {
    let rig = Rig::new(Setup {
        server: "tcp_keepalive = \"0s\"",
        pool: "[pool.drain]\nclose_spread = \"100ms\"",
        ..Setup::default()
    })
    .await;
    let (client, _backend) = bare_websocket(&rig).await;
    if !vanish(client) {
        return skip("vanished_client_holds_a_drain_no_longer_than_its_deadline");
    }
    let began = Instant::now();
    let drained = rig.drain(0, "1s", "resumed").await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{drained:?}");
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
}

/// RFC 6455 §7.4.1: 1001, to both peers.
#[lameduck_rig::test]
async fn silent_websocket_is_closed_in_order_after_tunnel_timeout() {
    let rig = Rig::new(Setup {
        pool: "[pool.upstream]\ntunnel_timeout = \"1s\"",
        ..Setup::default()
    })
    .await;
    let (mut client, mut backend) = websocket(&rig).await;
    // What passes puts it off, in either direction.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        backend.send(super::upgrade::bare(1, b"x")).await;
        client.expect(super::upgrade::bare(1, b"x")).await;
    }
    let close = client.exactly(4).await;
    assert_eq!((close[0], &close[2..]), (0x88, &1001u16.to_be_bytes()[..]));
    assert_eq!(backend.exactly(2).await[0], 0x88);
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
    assert_eq!(rig.access_log(1).await[0]["end"], "tunnel_timeout");
}

#[lameduck_rig::test]
async fn silent_tunnel_is_closed_after_tunnel_timeout() {
    let rig = Rig::new(Setup {
        pool: "[pool.upstream]\ntunnel_timeout = \"300ms\"",
        ..Setup::default()
    })
    .await;
    let mut client = rig
        .ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")
        .await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend
        .send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")
        .await;
    client.head().await;
    client.closed().await;
    backend.closed().await;
    assert_eq!(rig.access_log(1).await[0]["end"], "tunnel_timeout");
}

/// Keepalive is the kernel's: a connection that is merely idle is left alone by it.
#[lameduck_rig::test]
async fn idle_connection_outlives_its_keepalive() {
    let rig = watched().await;
    let (mut client, mut backend) = websocket(&rig).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    backend.send("still here").await;
    client.expect("still here").await;
    drop((client, backend));
    let mut other = rig.ask(GET).await;
    let mut backend = rig.backends[0].accept().await;
    backend.head().await;
    backend.answer("ok").await;
    assert_eq!(other.response().await.text(), "ok");
}
