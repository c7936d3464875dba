//! A backend of either protocol that answers everything with 200, and says which targets it was asked for.

use std::net::SocketAddr;
use std::rc::Rc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::backend::Backend;
use crate::case::Reply;
use crate::front::Protocol;
use lameduck_rig::frames::{
    ACK, CONTINUATION, END_HEADERS, END_STREAM, Frame, HEADERS, PING, PREFACE, SETTINGS, frame,
    settings,
};
use lameduck_rig::hpack::{DynamicTable, block, read_raw};

/// The backend; stops when it is dropped.
pub enum EchoBackend {
    Http1(Backend),
    Http2(Http2Backend),
}

impl EchoBackend {
    /// Listens; needs a `LocalSet`.
    pub async fn start(protocol: Protocol) -> Self {
        match protocol {
            Protocol::H1 => {
                let backend = Backend::start().await;
                backend.begin(&[Reply::Body, Reply::Echo]);
                Self::Http1(backend)
            }
            Protocol::H2 => Self::Http2(Http2Backend::start().await),
        }
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Http1(backend) => backend.address,
            Self::Http2(backend) => backend.address,
        }
    }

    /// Forgets what it was asked for.
    pub fn forget(&self) {
        match self {
            Self::Http1(backend) => backend.begin(&[Reply::Body, Reply::Echo]),
            Self::Http2(backend) => backend.shared.asked.lock().clear(),
        }
    }

    /// The targets that it was asked for since.
    pub fn asked(&self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1(backend) => {
                let received = backend.received();
                received.iter().map(|one| target(&one.raw)).collect()
            }
            Self::Http2(backend) => backend.shared.asked.lock().clone(),
        }
    }

    /// How many HTTP/2 connections it has had.
    pub fn connections(&self) -> usize {
        match self {
            Self::Http1(_) => 0,
            Self::Http2(backend) => *backend.shared.connections.lock(),
        }
    }
}

/// What stands between the first blank of a request line and its version.
fn target(raw: &[u8]) -> Vec<u8> {
    let line = raw.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = line.strip_suffix(b" HTTP/1.1").unwrap_or(line);
    let blank = line.iter().position(|byte| *byte == b' ');
    line[blank.map_or(0, |at| at + 1)..].to_vec()
}

#[derive(Default)]
struct Shared {
    asked: Mutex<Vec<Vec<u8>>>,
    connections: Mutex<usize>,
}

/// The one of HTTP/2, by prior knowledge.
pub struct Http2Backend {
    address: SocketAddr,
    shared: Rc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Http2Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Http2Backend {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Rc::new(Shared::default());
        let sharing = shared.clone();
        let task = tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Either side may end it at any point.
                tokio::task::spawn_local(serve(stream, sharing.clone()));
            }
        });
        Self {
            address,
            shared,
            task,
        }
    }
}

async fn serve(mut stream: TcpStream, shared: Rc<Shared>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    assert_eq!(preface, PREFACE, "not HTTP/2");
    *shared.connections.lock() += 1;
    stream.write_all(&settings(&[])).await?;
    let mut table = DynamicTable::default();
    let mut bytes = Vec::new();
    let mut open = Vec::new();
    let answer = block(&[(":status", "200"), ("content-length", "0")]);
    loop {
        while let Some((piece, length)) = Frame::read(&bytes) {
            bytes.drain(..length);
            let out = match piece.kind {
                SETTINGS if !piece.has(ACK) => frame(SETTINGS, ACK, 0, b""),
                PING if !piece.has(ACK) => frame(PING, ACK, 0, &piece.payload),
                HEADERS | CONTINUATION => {
                    open.extend_from_slice(piece.content());
                    if !piece.has(END_HEADERS) {
                        continue;
                    }
                    let fields = read_raw(&std::mem::take(&mut open), &mut table).unwrap();
                    let path = fields.into_iter().find(|(name, _)| name == b":path");
                    shared.asked.lock().push(path.unwrap().1);
                    frame(HEADERS, END_HEADERS | END_STREAM, piece.stream, &answer)
                }
                _ => continue,
            };
            stream.write_all(&out).await?;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}
