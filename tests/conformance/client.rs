//! The client's side of a case: does what it says, and keeps what it gets.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use super::backend::{Backend, OWN};
use super::case::{Act, Case, Upstream};

/// How long an end is waited for: longer than the proxies' own timeouts, which are 5 s at most.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long something is waited for that may never come.
const WHILE: Duration = Duration::from_secs(1);

/// How the client's connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Closed,
    Reset,
    /// We have ended it ourselves.
    Left,
    /// It didn't.
    Hangs,
}

/// What the client got.
#[derive(Debug, Clone)]
pub struct Got {
    pub bytes: Vec<u8>,
    pub ended: Ended,
}

/// The request behind a case's own.
pub fn after() -> Vec<u8> {
    format!("GET {OWN} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Plays the client of a case.
pub async fn play(address: SocketAddr, backend: &Backend, case: &Case) -> Got {
    let mut acts = case.client.clone();
    if case.goes_on {
        // In one piece with what comes before: what one request leaves behind is the other's.
        match acts.last_mut() {
            Some(Act::Send(bytes)) => bytes.extend(after()),
            _ => acts.push(Act::Send(after())),
        }
    }
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (reading, mut writing) = stream.into_split();
    let mut got = Collecting {
        stream: reading,
        bytes: Vec::new(),
        ended: None,
    };
    let mut before = 0;
    for act in acts {
        match act {
            // A proxy that has closed already takes no more; that is no failure of the case.
            Act::Send(bytes) => {
                before = got.bytes.len();
                let sending = writing.write_all(&bytes);
                tokio::pin!(sending);
                loop {
                    tokio::select! {
                        biased;
                        _ = &mut sending => break,
                        () = got.more(), if got.ended.is_none() => {}
                    }
                }
            }
            Act::UntilForwarded => {
                let most = match case.upstream {
                    Upstream::Nothing => WHILE,
                    _ => PATIENCE,
                };
                // Who answers at once may never forward it.
                let refused = async {
                    while got.bytes.len() == before && got.ended.is_none() {
                        got.more().await;
                    }
                    tokio::time::sleep(WHILE).await;
                };
                tokio::select! {
                    () = backend.until_heard(most) => {}
                    () = refused => {}
                }
            }
            Act::UntilAnswered => {
                if got.bytes.len() == before && got.ended.is_none() {
                    let _ = tokio::time::timeout(WHILE, got.more()).await;
                }
            }
            Act::HalfClose => {
                let _ = writing.shutdown().await;
            }
            Act::Reset => {
                let socket = socket2::SockRef::from(writing.as_ref());
                let _ = socket.set_linger(Some(Duration::ZERO));
                return Got {
                    bytes: got.bytes,
                    ended: Ended::Left,
                };
            }
        }
    }
    got.all(PATIENCE).await
}

/// Asks for this on a connection of its own; what it got.
pub async fn ask(address: SocketAddr, request: &[u8]) -> Got {
    let stream = TcpStream::connect(address).await.unwrap();
    let (reading, mut writing) = stream.into_split();
    let _ = writing.write_all(request).await;
    let got = Collecting {
        stream: reading,
        bytes: Vec::new(),
        ended: None,
    };
    got.all(PATIENCE).await
}

struct Collecting {
    stream: OwnedReadHalf,
    bytes: Vec<u8>,
    ended: Option<Ended>,
}

impl Collecting {
    async fn more(&mut self) {
        match self.stream.read_buf(&mut self.bytes).await {
            Ok(0) => self.ended = Some(Ended::Closed),
            Ok(_) => {}
            Err(_) => self.ended = Some(Ended::Reset),
        }
    }

    async fn all(mut self, patience: Duration) -> Got {
        let end = async {
            while self.ended.is_none() {
                self.more().await;
            }
        };
        let _ = tokio::time::timeout(patience, end).await;
        Got {
            bytes: self.bytes,
            ended: self.ended.unwrap_or(Ended::Hangs),
        }
    }
}
