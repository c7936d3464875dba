//! A scripted backend.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::wire::{PATIENCE, Wire};

/// A backend: its listener is the test's, its health check answers by itself.
pub struct Backend {
    pub name: String,
    pub address: SocketAddr,
    listener: Option<TcpListener>,
    /// Nobody listens at its address, and nobody else can.
    vacant: Option<TcpSocket>,
    health: Arc<AtomicU16>,
    _healthy: Aborting,
}

struct Aborting(JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Backend {
    /// The next connection of the proxy.
    pub async fn accept(&self) -> Wire {
        Wire::new(self.accept_bare().await)
    }

    /// The same, before anybody has read of it.
    pub async fn accept_bare(&self) -> TcpStream {
        let accepting = self.listener.as_ref().unwrap().accept();
        let (stream, _) = tokio::time::timeout(PATIENCE, accepting)
            .await
            .expect("the proxy doesn't connect")
            .unwrap();
        stream
    }

    /// Whether a connection comes within `patience`.
    pub async fn is_called(&self, patience: Duration) -> bool {
        let accepting = self.listener.as_ref().unwrap().accept();
        tokio::time::timeout(patience, accepting).await.is_ok()
    }

    /// Whether connections are its own to accept.
    pub fn is_listening(&self) -> bool {
        self.listener.is_some()
    }

    /// From now on connections are refused, though the health check passes.
    pub fn refuse(&mut self) {
        self.listener = None;
        self.vacant = Some(bound(self.address));
    }

    /// The listener is the test's own from now on.
    pub fn take_listener(&mut self) -> std::net::TcpListener {
        self.listener.take().unwrap().into_std().unwrap()
    }

    /// From now on connects hang, for as long as what is returned is held: the accept queue is full, so the
    /// kernel drops what asks for more (and the other side's asks again, after a second).
    pub async fn listen_with_a_full_queue(&mut self) -> (TcpListener, Vec<TcpStream>) {
        self.listener = None;
        let listener = bound(self.address).listen(0).unwrap();
        let mut queue = Vec::new();
        for _ in 0..8 {
            let connecting = TcpStream::connect(self.address);
            match tokio::time::timeout(Duration::from_millis(100), connecting).await {
                Ok(stream) => queue.push(stream.unwrap()),
                Err(_) => return (listener, queue),
            }
        }
        panic!("the queue never fills");
    }

    /// What the health check answers from now on; 0: nothing, ever.
    pub fn set_health(&self, status: u16) {
        self.health.store(status, Ordering::SeqCst);
    }
}

/// A socket at this address at which nobody listens yet: connects are refused, and the kernel gives the port to nobody else.
fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// Serves health checks until it is aborted.
async fn healthy(listener: TcpListener, status: Arc<AtomicU16>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        tokio::spawn(check(stream, status.clone()));
    }
}

async fn check(mut stream: TcpStream, status: Arc<AtomicU16>) {
    let mut buffer = [0; 1024];
    while let Ok(count) = stream.read(&mut buffer).await
        && count > 0
    {
        let status = status.load(Ordering::SeqCst);
        if status == 0 {
            return std::future::pending().await;
        }
        let answer = format!("HTTP/1.1 {status} Health\r\nContent-Length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// `count` backends on loopback addresses of their own; their health checks share one port.
pub async fn backends(count: usize) -> (Vec<Backend>, u16) {
    for _ in 0..100 {
        if let Some(found) = try_backends(count).await {
            return found;
        }
    }
    panic!("no port is free on all of {count} loopback addresses");
}

async fn try_backends(count: usize) -> Option<(Vec<Backend>, u16)> {
    let mut port = 0;
    let mut backends = Vec::new();
    for n in 1..=count {
        let ip = [127, 0, 0, n as u8];
        let health = TcpListener::bind((std::net::Ipv4Addr::from(ip), port))
            .await
            .ok()?;
        port = health.local_addr().unwrap().port();
        let listener = TcpListener::bind((std::net::Ipv4Addr::from(ip), 0))
            .await
            .ok()?;
        let status = Arc::new(AtomicU16::new(200));
        backends.push(Backend {
            name: format!("b{n}"),
            address: listener.local_addr().unwrap(),
            listener: Some(listener),
            vacant: None,
            health: status.clone(),
            _healthy: Aborting(tokio::spawn(healthy(health, status))),
        });
    }
    Some((backends, port))
}
