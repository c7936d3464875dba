//! The client's side of a case: sends its frames, and keeps what it gets.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout_at};

use super::case::{Case, Upstream, case};
use super::plain_path;
use crate::backend::{Backend, OWN};
use crate::case::Act;
use crate::client::Ended;
use crate::message::shown;
use lameduck_rig::frames::*;
use lameduck_rig::hpack::{self, Field};

/// How long an end is waited for: longer than the proxies' own timeouts, which are 5 s at most.
pub const PATIENCE: Duration = Duration::from_secs(12);

/// How long something is waited for that may never come.
const WHILE: Duration = Duration::from_millis(700);

/// The stream of the request behind a case's own.
const NEXT: u32 = 2001;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    #[default]
    Open,
    Whole,
    Reset(u32),
}

/// What came on a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub interim: Vec<u16>,
    /// 0: no head came.
    pub status: u16,
    pub fields: Vec<Field>,
    pub body: Vec<u8>,
    pub trailers: Vec<Field>,
    pub end: End,
    /// What a server must never send.
    pub faults: Vec<String>,
}

/// What the client got.
#[derive(Debug, Clone, Default)]
pub struct Got {
    pub streams: BTreeMap<u32, Answer>,
    pub goaway: Option<u32>,
    pub ended: Option<Ended>,
    /// What isn't HTTP/2.
    pub rest: Vec<u8>,
}

impl fmt::Display for Answer {
    /// `100, 200 `body` trailers `a: b``, and how it ended if that isn't in good order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for status in &self.interim {
            write!(f, "{status}, ")?;
        }
        if self.status > 0 {
            write!(f, "{}", self.status)?;
        }
        // A proxy's own words don't matter.
        if self.status < 400 && !self.body.is_empty() {
            let mut body = shown(&self.body);
            if body.len() > 48 {
                body = format!("{} bytes", self.body.len());
            }
            write!(f, " `{body}`")?;
        }
        for (name, value) in &self.trailers {
            write!(f, " trailer `{name}: {}`", shown(value.as_bytes()))?;
        }
        for fault in &self.faults {
            write!(f, " **{fault}**")?;
        }
        match self.end {
            End::Whole => Ok(()),
            End::Open if self.status > 0 => f.write_str(" unfinished"),
            End::Open => f.write_str("no answer"),
            End::Reset(code) if self.status > 0 => write!(f, " cut by {}", code_name(code)),
            End::Reset(code) => f.write_str(&code_name(code)),
        }
    }
}

impl Got {
    /// What came on a stream.
    pub fn answer(&self, stream: u32) -> Answer {
        self.streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Whether the request behind the case's own got its answer.
    pub fn went_on(&self) -> bool {
        self.answer(NEXT).to_string() == format!("200 `answer to GET {OWN}`")
    }

    /// Whether nothing more comes on a stream.
    pub fn is_over(&self, stream: u32) -> bool {
        self.ended.is_some()
            || self
                .streams
                .get(&stream)
                .is_some_and(|answer| answer.end != End::Open)
    }
}

/// Plays the client of a case, and asks for one thing more on its connection.
pub async fn play(address: SocketAddr, backend: &Backend, case: &Case) -> Got {
    let mut client = Client::connect(address, case).await;
    for act in &case.client {
        match act {
            Act::Send(bytes) => client.send(bytes).await,
            Act::UntilForwarded => {
                let most = match case.upstream {
                    Upstream::Nothing => WHILE,
                    _ => PATIENCE,
                };
                let stream = case.stream.unwrap_or(NEXT);
                tokio::select! {
                    () = backend.until_heard(most) => {}
                    // Who answers at once may never forward it.
                    () = client.until(most, |got| got.is_over(stream)) => {}
                }
                client.settle(WHILE / 7).await;
            }
            Act::UntilAnswered => {
                let stream = case.stream.unwrap_or(NEXT);
                let begun = |got: &Got| got.is_over(stream) || got.answer(stream).status > 0;
                client.until(WHILE, begun).await;
            }
            Act::HalfClose | Act::Reset => unreachable!("not in these cases"),
        }
    }
    if let Some(stream) = case.stream {
        client.until(WHILE, |got| got.is_over(stream)).await;
    }
    if client.got.ended.is_none() {
        let block = plain_path(OWN);
        client
            .send(&frame(HEADERS, END_HEADERS | END_STREAM, NEXT, &block))
            .await;
    }
    let over =
        |got: &Got| got.is_over(NEXT) && case.stream.is_none_or(|stream| got.is_over(stream));
    client.until(PATIENCE, over).await;
    client.got
}

/// Asks for this on a connection of its own.
pub async fn ask(address: SocketAddr, path: &str) -> Answer {
    let case = case("", "");
    let mut client = Client::connect(address, &case).await;
    let block = plain_path(path);
    client
        .send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block))
        .await;
    client.until(PATIENCE, |got| got.is_over(1)).await;
    client.got.answer(1)
}

/// A connection that sends what it is given, and keeps what comes.
pub struct Client {
    reading: OwnedReadHalf,
    writing: OwnedWriteHalf,
    bytes: Vec<u8>,
    /// Blocks that CONTINUATIONs follow: the stream, its flags.
    block: Option<(u32, u8, Vec<u8>)>,
    reads: bool,
    /// Acknowledgements and credit to send.
    due: Vec<u8>,
    pub got: Got,
}

impl Client {
    /// Connects, and says what a case's client says first.
    pub async fn connect(address: SocketAddr, case: &Case) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (reading, writing) = stream.into_split();
        let mut client = Self {
            reading,
            writing,
            bytes: Vec::new(),
            block: None,
            reads: case.reads,
            due: Vec::new(),
            got: Got::default(),
        };
        client.send(&case.hello).await;
        client
    }

    /// Sends, and takes in meanwhile what comes. A proxy that has closed takes no more; that is no failure.
    pub async fn send(&mut self, bytes: &[u8]) {
        let mut sent = 0;
        while sent < bytes.len() {
            tokio::select! {
                biased;
                written = self.writing.write(&bytes[sent..]) => match written {
                    Ok(count) if count > 0 => sent += count,
                    _ => return,
                },
                count = self.reading.read_buf(&mut self.bytes), if self.got.ended.is_none() => self.take(&count),
            }
        }
        self.acknowledge().await;
    }

    async fn acknowledge(&mut self) {
        let due = std::mem::take(&mut self.due);
        if !due.is_empty() {
            let _ = tokio::time::timeout(WHILE, self.writing.write_all(&due)).await;
        }
    }

    async fn settle(&mut self, patience: Duration) {
        self.until(patience, |got| got.ended.is_some()).await;
    }

    /// Reads until it is so, at most so long.
    pub async fn until(&mut self, patience: Duration, done: impl Fn(&Got) -> bool) {
        let deadline = Instant::now() + patience;
        while !done(&self.got) && self.got.ended.is_none() {
            let reading = self.reading.read_buf(&mut self.bytes);
            let Ok(count) = timeout_at(deadline, reading).await else {
                return;
            };
            self.take(&count);
            self.acknowledge().await;
        }
    }

    fn take(&mut self, count: &std::io::Result<usize>) {
        match count {
            Ok(0) => self.got.ended = Some(Ended::Closed),
            Err(_) => self.got.ended = Some(Ended::Reset),
            Ok(_) => {}
        }
        while let Some((frame, length)) = Frame::read(&self.bytes) {
            self.bytes.drain(..length);
            self.frame(frame);
        }
        self.got.rest.clone_from(&self.bytes);
    }

    fn frame(&mut self, frame: Frame) {
        let stream = frame.stream;
        match frame.kind {
            SETTINGS if !frame.has(ACK) => self
                .due
                .extend(lameduck_rig::frames::frame(SETTINGS, ACK, 0, b"")),
            PING if !frame.has(ACK) => {
                self.due
                    .extend(lameduck_rig::frames::frame(PING, ACK, 0, &frame.payload));
            }
            GOAWAY => self.got.goaway = Some(frame.number(4)),
            DATA => {
                let answer = self.got.streams.entry(stream).or_default();
                answer.body.extend(frame.content());
                if frame.has(END_STREAM) {
                    answer.end = End::Whole;
                }
                if self.reads && !frame.payload.is_empty() {
                    let credit = frame.payload.len() as u32;
                    self.due.extend(window_update(0, credit));
                    if !frame.has(END_STREAM) {
                        self.due.extend(window_update(stream, credit));
                    }
                }
            }
            RST_STREAM => {
                let answer = self.got.streams.entry(stream).or_default();
                // "No more of this, please", behind a whole answer (RFC 9113 §8.1).
                if answer.end == End::Open {
                    answer.end = End::Reset(frame.number(0));
                }
            }
            HEADERS => self.block(stream, frame.flags, frame.content().to_vec()),
            CONTINUATION => {
                if let Some((stream, flags, mut block)) = self.block.take() {
                    block.extend(&frame.payload);
                    self.block(stream, flags | frame.flags, block);
                }
            }
            _ => {}
        }
    }

    fn block(&mut self, stream: u32, flags: u8, block: Vec<u8>) {
        if flags & END_HEADERS == 0 {
            self.block = Some((stream, flags, block));
            return;
        }
        let answer = self.got.streams.entry(stream).or_default();
        match hpack::read(&block) {
            None => answer.faults.push("a block that can't be read".to_owned()),
            Some(fields) => answer.take(fields),
        }
        if flags & END_STREAM != 0 && answer.status > 0 {
            answer.end = End::Whole;
        }
    }
}

impl Answer {
    fn take(&mut self, fields: Vec<Field>) {
        for (name, value) in &fields {
            let specific = [
                "connection",
                "keep-alive",
                "proxy-connection",
                "transfer-encoding",
                "upgrade",
            ];
            let is_name = name.trim_start_matches(':').bytes().all(|b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b)
            });
            if !is_name
                || name.is_empty()
                || specific.contains(&name.as_str())
                || value.contains(['\r', '\n', '\0'])
            {
                self.faults.push(format!(
                    "`{}: {}`",
                    shown(name.as_bytes()),
                    shown(value.as_bytes())
                ));
            }
        }
        let status = fields.iter().find(|(name, _)| name == ":status");
        let status = status.and_then(|(_, value)| value.parse().ok());
        match status {
            None if self.status > 0 => self.trailers = fields,
            None => self.faults.push("no status".to_owned()),
            Some(status @ 100..=199) => self.interim.push(status),
            Some(status) => {
                if self.status > 0 {
                    self.faults.push("a second head".to_owned());
                }
                self.status = status;
                self.fields = fields;
            }
        }
    }
}
