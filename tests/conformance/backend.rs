//! A backend that keeps every byte it gets, connection by connection, and answers as the case says.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::case::{Reply, echo};
use super::message::{Body, Framing, Head};

/// Targets of requests that are the test's own, not the case's.
pub const OWN: &str = "/after";
pub const CANARY: &str = "/canary-";

/// A request, as it came.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// Which connection it came on.
    pub connection: usize,
    /// Everything of it.
    pub raw: Vec<u8>,
    /// Its head; empty if it never was complete.
    pub head: Head,
    /// Its body, once it is complete.
    pub body: Option<Body>,
}

impl Received {
    /// Whether the test itself has asked for it.
    pub fn is_own(&self) -> bool {
        let target = &self.head.line[1];
        target == OWN || target.starts_with(CANARY)
    }
}

/// What the connections share.
#[derive(Default)]
struct Shared {
    script: Mutex<Vec<Reply>>,
    received: Mutex<Vec<Received>>,
    connections: Mutex<usize>,
    heard: Notify,
}

/// The backend; stops when it is dropped.
pub struct Backend {
    pub address: SocketAddr,
    shared: Rc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    /// Listens; needs a `LocalSet`.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Rc::new(Shared::default());
        let task = tokio::task::spawn_local(listen(listener, shared.clone()));
        Self {
            address,
            shared,
            task,
        }
    }

    /// A new case: its script, and nothing received.
    pub fn begin(&self, script: &[Reply]) {
        *self.shared.script.lock() = script.to_vec();
        self.shared.received.lock().clear();
    }

    /// What it has received since.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().clone()
    }

    /// Waits until it has a head of the case's, at most so long.
    pub async fn until_heard(&self, patience: Duration) {
        let heard = async {
            loop {
                let waiting = self.shared.heard.notified();
                if self.shared.received.lock().iter().any(|r| r.head.len > 0) {
                    return;
                }
                waiting.await;
            }
        };
        let _ = tokio::time::timeout(patience, heard).await;
    }
}

async fn listen(listener: TcpListener, shared: Rc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let connection = {
            let mut connections = shared.connections.lock();
            *connections += 1;
            *connections
        };
        let shared = shared.clone();
        tokio::task::spawn_local(async move {
            let mut serving = Serving {
                stream,
                shared,
                connection,
                buffer: Vec::new(),
                index: None,
                tunnel: false,
            };
            // Either side may end it at any point.
            let _ = serving.serve().await;
        });
    }
}

/// One connection.
struct Serving {
    stream: TcpStream,
    shared: Rc<Shared>,
    connection: usize,
    /// Read, and not part of a complete request yet.
    buffer: Vec<u8>,
    /// Where the request under way is among those received.
    index: Option<usize>,
    /// What comes is no HTTP any more.
    tunnel: bool,
}

/// What is left to do with a connection.
#[derive(PartialEq, Eq)]
enum Left {
    On,
    Close,
}

impl Serving {
    /// Reads more of the request under way, and notes it.
    async fn more(&mut self) -> std::io::Result<bool> {
        let count = self.stream.read_buf(&mut self.buffer).await?;
        if count > 0 {
            self.note();
        }
        Ok(count > 0)
    }

    fn note(&mut self) {
        let mut received = self.shared.received.lock();
        // A case that has begun in between has cleared the list.
        let index = match self.index.filter(|index| {
            received
                .get(*index)
                .is_some_and(|r| r.connection == self.connection)
        }) {
            Some(index) => index,
            None => {
                received.push(Received {
                    connection: self.connection,
                    ..Received::default()
                });
                received.len() - 1
            }
        };
        self.index = Some(index);
        let entry = &mut received[index];
        entry.raw = self.buffer.clone();
        if let Some(head) = Head::read(&self.buffer) {
            entry.body = Body::read(head.of_request(), &self.buffer[head.len..]);
            if let Some(body) = entry.body.as_ref().filter(|_| !self.tunnel) {
                entry.raw.truncate(head.len + body.len);
            }
            entry.head = head;
        }
        drop(received);
        self.shared.heard.notify_waiters();
    }

    async fn serve(&mut self) -> std::io::Result<()> {
        loop {
            self.index = None;
            if !self.buffer.is_empty() {
                self.note();
            }
            let head = loop {
                match Head::read(&self.buffer) {
                    Some(head) => break head,
                    None if self.more().await? => {}
                    None => return Ok(()),
                }
            };
            let target = &head.line[1];
            let script = if target == OWN || target.starts_with(CANARY) {
                vec![Reply::Body, Reply::Echo]
            } else {
                self.shared.script.lock().clone()
            };
            for reply in script {
                if self.act(reply, &head).await? == Left::Close {
                    return Ok(());
                }
            }
            let Some(length) = self.body(&head).await? else {
                return Ok(());
            };
            self.buffer.drain(..head.len + length);
            if head.closes() {
                return Ok(());
            }
        }
    }

    /// Waits until the body is complete; its length on the wire.
    async fn body(&mut self, head: &Head) -> std::io::Result<Option<usize>> {
        loop {
            let framing = head.of_request();
            if framing == Framing::Nothing {
                return Ok(Some(0));
            }
            if let Some(body) = Body::read(framing, &self.buffer[head.len..]) {
                return Ok(Some(body.len));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn act(&mut self, reply: Reply, head: &Head) -> std::io::Result<Left> {
        match reply {
            Reply::Body => {
                if self.body(head).await?.is_none() {
                    return Ok(Left::Close);
                }
            }
            Reply::Send(bytes) => self.stream.write_all(&bytes).await?,
            Reply::Accept(text) => {
                let key = head.field("sec-websocket-key").unwrap_or_default();
                let text = text.replace("{accept}", &derive_accept_key(key.as_bytes()));
                self.stream.write_all(text.as_bytes()).await?;
            }
            Reply::Echo => {
                let [method, target, _] = &head.line;
                self.stream
                    .write_all(echo(method, target, "").as_bytes())
                    .await?;
            }
            Reply::Close => return Ok(Left::Close),
            Reply::Reset => {
                socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
                return Ok(Left::Close);
            }
            Reply::Tunnel => {
                self.tunnel = true;
                self.note();
                while self.more().await? {}
                return Ok(Left::Close);
            }
        }
        Ok(Left::On)
    }
}
