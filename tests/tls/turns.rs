//! Clients that come all at once, as they do when a load balancer or the proxy before this one has gone: their handshakes
//! take turns with everything else.

use std::io::Read as _;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use lameduck_rig::process::is_stopped;

use super::rig::{Rig, connect, until};

/// New clients; together a fifth of a second of arithmetic, or more.
const CLIENTS: usize = 500;

/// While the proxy stands still, everybody sends, and last of all a client that is there already.
#[tokio::test]
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
    let mut served = 0;
    let mut waiting = Vec::new();
    for client in coming {
        let mut client = client.into_std().unwrap();
        match client.read(&mut [0; 8]) {
            Ok(count) => {
                assert_eq!(count, 8);
                served += 1;
            }
            Err(_) => waiting.push(client),
        }
    }
    assert_eq!(&status, b"HTTP/1.1 400");
    assert!(served < CLIENTS / 2, "{served} handshakes went before it");
    println!("{served} of {CLIENTS} handshakes went before a request that came last");
    // Nobody is forgotten.
    for mut client in waiting {
        client.set_nonblocking(false).unwrap();
        client.set_read_timeout(Some(super::rig::PATIENCE)).unwrap();
        client.read_exact(&mut [0; 8]).unwrap();
    }
}
