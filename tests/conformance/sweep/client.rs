//! A client of either protocol that asks for one target after the other, on one connection as long as that lasts.

use std::fmt;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::front::Protocol;
use crate::h2::case::{PLAIN, case};
use crate::h2::client::{Client, End, PATIENCE};
use crate::message::{Body, Head};
use lameduck_rig::frames::{END_HEADERS, END_STREAM, HEADERS, code_name, frame};
use lameduck_rig::hpack::literal;

/// What a question got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetAnswer {
    Status(u16),
    /// An error of the stream.
    Reset(u32),
    /// The connection's end, or nothing.
    Nothing,
}

impl fmt::Display for TargetAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Reset(code) => f.write_str(&code_name(*code)),
            Self::Nothing => f.write_str("no answer"),
        }
    }
}

/// The client.
pub struct TargetAsker {
    address: SocketAddr,
    connection: Connection,
    /// What no proxy should do.
    pub faults: Vec<String>,
}

enum Connection {
    Http1(Option<TcpStream>),
    /// With the number of its next stream.
    Http2(Option<(Client, u32)>),
}

impl TargetAsker {
    /// It connects with the first question.
    pub fn new(address: SocketAddr, protocol: Protocol) -> Self {
        Self {
            address,
            connection: match protocol {
                Protocol::H1 => Connection::Http1(None),
                Protocol::H2 => Connection::Http2(None),
            },
            faults: Vec::new(),
        }
    }

    /// Asks for a target with GET.
    pub async fn ask(&mut self, target: &[u8]) -> TargetAnswer {
        let (answer, is_dead) = match &mut self.connection {
            Connection::Http1(kept) => {
                let stream = match kept.take() {
                    Some(stream) => stream,
                    None => TcpStream::connect(self.address).await.unwrap(),
                };
                let (answer, next) = ask_http1(stream, target).await;
                *kept = next;
                let is_dead = answer == TargetAnswer::Nothing;
                (answer, is_dead)
            }
            Connection::Http2(kept) => {
                if kept.is_none() {
                    let client = Client::connect(self.address, &case("", "")).await;
                    *kept = Some((client, 1));
                }
                let (client, stream) = kept.as_mut().unwrap();
                let answer = ask_http2(client, *stream, target).await;
                *stream += 2;
                let is_dead = client.got.ended.is_some() || client.got.goaway.is_some();
                if is_dead {
                    *kept = None;
                }
                (answer, is_dead)
            }
        };
        if is_dead {
            let target = target.escape_ascii();
            self.faults
                .push(format!("the client's connection died of {target}"));
        }
        answer
    }
}

/// The answer, and the connection if it can be used again.
async fn ask_http1(mut stream: TcpStream, target: &[u8]) -> (TargetAnswer, Option<TcpStream>) {
    let request = [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
    let mut bytes = Vec::new();
    let answer = timeout(PATIENCE, async {
        stream.write_all(&request).await.ok()?;
        loop {
            if let Some(head) = Head::read(&bytes)
                && Body::read(head.of_response("GET"), &bytes[head.len..]).is_some()
            {
                return Some(head);
            }
            match stream.read_buf(&mut bytes).await {
                Ok(count) if count > 0 => {}
                _ => return None,
            }
        }
    });
    match answer.await.ok().flatten() {
        Some(head) => {
            let status = TargetAnswer::Status(head.status());
            (status, (!head.closes()).then_some(stream))
        }
        None => (TargetAnswer::Nothing, None),
    }
}

async fn ask_http2(client: &mut Client, stream: u32, target: &[u8]) -> TargetAnswer {
    let fields = PLAIN.map(|(name, value)| match name {
        ":path" => literal(name.as_bytes(), target),
        _ => literal(name.as_bytes(), value.as_bytes()),
    });
    let flags = END_HEADERS | END_STREAM;
    let request = frame(HEADERS, flags, stream, &fields.concat());
    client.send(&request).await;
    client.until(PATIENCE, |got| got.is_over(stream)).await;
    let answer = client.got.answer(stream);
    match answer.end {
        End::Reset(code) => TargetAnswer::Reset(code),
        End::Whole => TargetAnswer::Status(answer.status),
        End::Open => TargetAnswer::Nothing,
    }
}
