//! Clients that come all at once, as they do when a load balancer or the proxy before this one has gone: their handshakes
//! take turns with everything else.

use std::io::Read as _;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use lameduck_rig::process::is_stopped;

use super::rig::{Rig, connect, until};

/// New clients; together a fifth of a second of arithmetic, or more.
const CLIENTS: usize = 500;

/// While the proxy stands still, everybody sends, and last of all a client that is there already.
#[lameduck_rig::test]
async fn a_request_does_not_wait_for_all_handshakes() {
    let mut rig = Rig::with("", "", "threads = 1").await;
    let mut good = connect(rig.address(), "localhost", rig.client())
        .await
        .unwrap();
    let mut coming = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        coming.push(TcpStream::connect(rig.address()).await.unwrap());
    }
    let process = rig.proxy.process();
    process.signal(libc::SIGSTOP).unwrap();
    until("it to stand still", async || is_stopped(process.pid())).await;
    let name = ServerName::try_from("localhost").unwrap();
    for client in &mut coming {
        let mut hello = Vec::new();
        let mut tls = ClientConnection::new(rig.client(), name.clone()).unwrap();
        tls.write_tls(&mut hello).unwrap();
        client.write_all(&hello).await.unwrap();
    }
    // Without a Host: no backend has a part in the answer.
    good.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    good.flush().await.unwrap();
    rig.proxy.process().signal(libc::SIGCONT).unwrap();
    let mut status = [0; 12];
    good.read_exact(&mut status).await.unwrap();
    // By the kernel's own times: this test may be late.
    let answered_at = last_arrival(good.get_ref().0);
    assert_eq!(&status, b"HTTP/1.1 400");
    // Nobody is forgotten.
    let mut served_at = Vec::new();
    for client in coming {
        let mut client = client.into_std().unwrap();
        client.set_nonblocking(false).unwrap();
        client.set_read_timeout(Some(super::rig::PATIENCE)).unwrap();
        client.read_exact(&mut [0; 8]).unwrap();
        served_at.push(last_arrival(&client));
    }
    let served = served_at.iter().filter(|at| **at < answered_at).count();
    assert!(served < CLIENTS / 2, "{served} handshakes went before it");
    println!("{served} of {CLIENTS} handshakes went before a request that came last");
}

/// When the last bytes of a connection have arrived, to the millisecond.
fn last_arrival(socket: &impl AsRawFd) -> Instant {
    loop {
        let began = Instant::now();
        let ago = milliseconds_since_arrival(socket.as_raw_fd());
        let now = Instant::now();
        // Both at once, as far as that goes.
        if now - began < Duration::from_millis(1) {
            return now - ago;
        }
    }
}

#[allow(unsafe_code, reason = "std doesn't ask the kernel for it")]
fn milliseconds_since_arrival(socket: RawFd) -> Duration {
    // SAFETY: a structure of integers, for which zero is a value; the kernel writes as much of it as it is told to.
    let info = unsafe {
        let mut info: libc::tcp_info = std::mem::zeroed();
        let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
        let space = (&raw mut info).cast();
        let asked = libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, space, &mut size);
        assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
        info
    };
    Duration::from_millis(info.tcpi_last_data_recv.into())
}
