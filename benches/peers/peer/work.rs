//! What a load does again and again on one connection.

use std::io::{self, Read, Write};

use crate::backend::{blocks, write_chunks};
use crate::http::Reader;

/// The backend's small answer.
pub const HELLO: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Length: 13\r\n\r\nHello, world\n";
const HELLO_BODY: usize = 13;

const AGENT: &str = "User-Agent: bench/1\r\nAccept: */*\r\n";

/// What a request asks for, where that isn't the usual. A `*` in a path or host is a number below `spread`, another one
/// for each request.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `path=/…`; empty: what the work has.
    pub path: &'a str,
    /// `host=NAME`.
    pub host: &'a str,
    /// `authorization=…`, the field's value; empty: none.
    pub authorization: &'a str,
    /// `spread=N`.
    pub spread: usize,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self {
            path: "",
            host: "bench.example",
            authorization: "",
            spread: 1,
        }
    }
}

/// A message of 32 bytes, masked.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const TEXT: &[u8; 32] = b"a message of a chat, not so long";

/// One kind of exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A small request, a small answer.
    Get,
    /// The same of any app: whatever it answers, if it is a 200. Noted in the journals of `lameduck demo-app`.
    Any,
    /// A small one, from a backend that takes so many milliseconds.
    Slow(usize),
    /// A body of this size from the path that is asked for.
    Fetch(usize),
    /// A body of this size that goes out with the head.
    Post(usize),
    /// An answer of this size, with a length.
    Download(usize),
    /// The same, in chunks.
    StreamDown(usize),
    /// JSON of this size, which the proxy is to compress.
    Json(usize),
    /// A body of this size, with a length.
    Upload(usize),
    /// The same, in chunks.
    StreamUp(usize),
    /// A WebSocket message there and back.
    Message,
}

impl Work {
    pub fn parse(name: &str, size: usize) -> Option<Self> {
        Some(match name {
            "get" => Self::Get,
            "any" => Self::Any,
            "slow" => Self::Slow(size),
            "fetch" => Self::Fetch(size),
            "post" => Self::Post(size),
            "download" => Self::Download(size),
            "stream-down" => Self::StreamDown(size),
            "json" => Self::Json(size),
            "upload" => Self::Upload(size),
            "stream-up" => Self::StreamUp(size),
            "message" => Self::Message,
            _ => return None,
        })
    }

    /// Bytes of the bodies, both ways.
    pub fn bytes(self) -> usize {
        match self {
            Self::Get | Self::Any | Self::Slow(_) => HELLO_BODY,
            Self::Post(size) | Self::Download(size) | Self::StreamDown(size) => size,
            Self::Upload(size) | Self::StreamUp(size) | Self::Json(size) => size,
            Self::Fetch(size) => size,
            Self::Message => TEXT.len(),
        }
    }

    /// What requests begin with, one after the other; for small exchanges, all there is.
    pub fn openings(self, asked: &Asked<'_>) -> Vec<Vec<u8>> {
        let openings = (0..asked.spread.max(1)).map(|number| self.opening(asked, number));
        openings.collect()
    }

    fn opening(self, asked: &Asked<'_>, number: usize) -> Vec<u8> {
        let number = number.to_string();
        let host = asked.host.replace('*', &number);
        let authorization = match asked.authorization {
            "" => String::new(),
            value => format!("Authorization: {value}\r\n"),
        };
        let head = |line: &str, more: &str| {
            let line = match (asked.path, line.split_once(' ')) {
                ("", _) | (_, None) => line.to_owned(),
                (path, Some((method, _))) => format!("{method} {}", path.replace('*', &number)),
            };
            format!("{line} HTTP/1.1\r\nHost: {host}\r\n{AGENT}{authorization}{more}\r\n")
        };
        let head = match self {
            Self::Get | Self::Fetch(_) => head("GET /hello", ""),
            Self::Any => head("GET /", "X-Demo-Id: bench\r\n"),
            Self::Slow(time) => head(&format!("GET /slow/{time}"), ""),
            Self::Download(size) => head(&format!("GET /bytes/{size}"), ""),
            Self::StreamDown(size) => head(&format!("GET /stream/{size}"), ""),
            Self::Json(size) => head(&format!("GET /json/{size}"), "Accept-Encoding: gzip\r\n"),
            Self::Post(size) | Self::Upload(size) => {
                head("POST /post", &format!("Content-Length: {size}\r\n"))
            }
            Self::StreamUp(_) => head("POST /post", "Transfer-Encoding: chunked\r\n"),
            Self::Message => head(
                "GET /ws",
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            ),
        };
        let mut opening = head.into_bytes();
        if let Self::Post(size) = self {
            blocks(size).for_each(|block| opening.extend_from_slice(block));
        }
        opening
    }
}

/// One connection that does its work.
pub struct Worker<'a, S> {
    stream: S,
    reader: Reader,
    work: Work,
    openings: &'a [Vec<u8>],
    /// Which of them is next.
    next: usize,
    open: bool,
}

impl<'a, S: Read + Write> Worker<'a, S> {
    /// `next`: which of the openings comes first.
    pub fn new(stream: S, work: Work, openings: &'a [Vec<u8>], next: usize) -> Self {
        Self {
            stream,
            reader: Reader::new(),
            work,
            openings,
            next,
            open: false,
        }
    }

    /// Once more; an error unless the answer is the right one.
    pub fn turn(&mut self) -> io::Result<()> {
        self.send()?;
        self.receive()
    }

    /// The first half of a turn.
    pub fn send(&mut self) -> io::Result<()> {
        if self.work == Work::Message {
            return self.send_message();
        }
        // One that shares no factor with the usual numbers: neighbours in a table are not asked for one after the other.
        self.next += 7919;
        self.stream
            .write_all(&self.openings[self.next % self.openings.len()])?;
        match self.work {
            Work::Upload(size) => blocks(size).try_for_each(|part| self.stream.write_all(part))?,
            Work::StreamUp(size) => write_chunks(&mut self.stream, size)?,
            _ => {}
        }
        self.stream.flush()
    }

    /// The second half.
    pub fn receive(&mut self) -> io::Result<()> {
        if self.work == Work::Message {
            let answer = self.reader.exactly(&mut self.stream, 2 + TEXT.len())?;
            return match answer[2..] == *TEXT {
                true => Ok(()),
                false => Err(io::Error::other("another message came back")),
            };
        }
        let Some(answer) = self.reader.message(&mut self.stream)? else {
            return Err(io::Error::other("the connection was closed"));
        };
        let expected = match self.work {
            Work::Download(size) | Work::StreamDown(size) | Work::Fetch(size) => size,
            Work::Any => answer.body,
            // How small it gets is the proxy's business; not at all would be an error.
            Work::Json(size) if answer.body < size / 2 => answer.body,
            Work::Json(_) => 0,
            _ => HELLO_BODY,
        };
        if !answer.line.starts_with("HTTP/1.1 200") || answer.body != expected {
            return Err(io::Error::other(format!(
                "{} and {} bytes, not 200 and {expected}",
                answer.line, answer.body
            )));
        }
        Ok(())
    }

    fn send_message(&mut self) -> io::Result<()> {
        if !self.open {
            self.stream.write_all(&self.openings[0])?;
            let answer = self.reader.message(&mut self.stream)?;
            if !answer.is_some_and(|answer| answer.line.starts_with("HTTP/1.1 101")) {
                return Err(io::Error::other("the upgrade was refused"));
            }
            self.open = true;
        }
        let mut frame = [0; 6 + TEXT.len()];
        frame[0] = 0x81;
        frame[1] = 0x80 | TEXT.len() as u8;
        frame[2..6].copy_from_slice(&MASK);
        for (index, byte) in TEXT.iter().enumerate() {
            frame[6 + index] = byte ^ MASK[index % 4];
        }
        self.stream.write_all(&frame)
    }
}
