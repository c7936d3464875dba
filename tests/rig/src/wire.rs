//! One end of a TCP (or unix) connection in a test's hands.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long anything that must happen may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Any stream of bytes.
pub trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes the close a reset.
    fn make_reset(&self) {}

    /// Makes the peer's next write fail, while it can go on reading. TCP has no such thing.
    fn refuse_input(&self) {}
}

impl Bytes for TcpStream {
    fn make_reset(&self) {
        socket2::SockRef::from(self)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
}

impl Bytes for tokio::net::UnixStream {
    fn refuse_input(&self) {
        let socket = socket2::SockRef::from(self);
        socket.shutdown(std::net::Shutdown::Read).unwrap();
    }
}

impl Bytes for tokio_rustls::server::TlsStream<TcpStream> {
    fn make_reset(&self) {
        self.get_ref().0.make_reset();
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By FIN.
    Closed,
    /// By RST.
    Reset,
}

/// A message as read: its head as text, its body without framing, trailers with it.
#[derive(Debug)]
pub struct Message {
    pub head: String,
    pub body: Vec<u8>,
    pub trailers: String,
}

impl Message {
    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Whether the head has this line, byte for byte.
    pub fn has(&self, line: &str) -> bool {
        has(&self.head, line)
    }

    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

/// Whether a head has this line, byte for byte.
pub fn has(head: &str, line: &str) -> bool {
    head.split("\r\n").any(|other| other == line)
}

/// A field's value.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (other, value) = line.split_once(':')?;
        other.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// One end of a connection.
pub struct Wire {
    stream: Box<dyn Bytes>,
    /// Read and not yet taken.
    seen: Vec<u8>,
    ended: Option<Ended>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream: Box::new(stream),
            seen: Vec::new(),
            ended: None,
        }
    }

    pub fn unix(stream: tokio::net::UnixStream) -> Self {
        Self {
            stream: Box::new(stream),
            seen: Vec::new(),
            ended: None,
        }
    }

    /// Over whatever it is.
    pub fn over(stream: impl Bytes + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            seen: Vec::new(),
            ended: None,
        }
    }

    pub async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    /// Sends all of it.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends all of it, or says why not.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let sending = self.stream.write_all(bytes.as_ref());
        tokio::time::timeout(PATIENCE, sending)
            .await
            .expect("it takes no bytes")
            .inspect_err(|_| {
                // The kernel reports a reset once: a read after it would look like an orderly end.
                self.ended.get_or_insert(Ended::Reset);
            })
    }

    /// Sends it in pieces that arrive one by one.
    pub async fn send_in_pieces(&mut self, bytes: impl AsRef<[u8]>, size: usize) {
        for piece in bytes.as_ref().chunks(size) {
            self.send(piece).await;
            // Without a pause the kernel, or the reader's one read, puts them together again.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn more(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        self.seen.reserve(64 * 1024);
        let reading = self.stream.read_buf(&mut self.seen);
        match tokio::time::timeout(PATIENCE, reading).await {
            Err(_) => panic!(
                "nothing more comes after {:?}",
                String::from_utf8_lossy(&self.seen)
            ),
            Ok(Ok(0)) => self.ended = Some(Ended::Closed),
            Ok(Ok(_)) => return true,
            Ok(Err(_)) => self.ended = Some(Ended::Reset),
        }
        false
    }

    /// The next head, with its blank line.
    pub async fn head(&mut self) -> String {
        self.head_or_end()
            .await
            .expect("it ended before a head was there")
    }

    /// The next head, if one comes.
    pub async fn head_or_end(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.seen.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.seen.drain(..at + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.more().await {
                assert!(
                    self.seen.is_empty(),
                    "ended in {:?}",
                    String::from_utf8_lossy(&self.seen)
                );
                return None;
            }
        }
    }

    /// Exactly so many bytes.
    pub async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.seen.len() < count {
            assert!(
                self.more().await,
                "ended after {} of {count} bytes",
                self.seen.len()
            );
        }
        self.seen.drain(..count).collect()
    }

    /// These bytes, and no others before them.
    pub async fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let got = self.exactly(bytes.len()).await;
        assert_eq!(
            String::from_utf8_lossy(&got),
            String::from_utf8_lossy(bytes)
        );
    }

    /// Everything up to the end, and the end.
    pub async fn rest(&mut self) -> (Vec<u8>, Ended) {
        while self.more().await {}
        (std::mem::take(&mut self.seen), self.ended.unwrap())
    }

    /// It ends here, in good order.
    pub async fn closed(&mut self) {
        let (rest, ended) = self.rest().await;
        assert_eq!(
            (String::from_utf8_lossy(&rest).as_ref(), ended),
            ("", Ended::Closed)
        );
    }

    /// It ends here, one way or the other.
    pub async fn gone(&mut self) {
        let (rest, _) = self.rest().await;
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    /// Nothing comes for so long.
    pub async fn quiet(&mut self, for_long: Duration) {
        assert_eq!(String::from_utf8_lossy(&self.seen), "");
        let reading = self.stream.read_buf(&mut self.seen);
        if let Ok(read) = tokio::time::timeout(for_long, reading).await {
            panic!(
                "not quiet: {read:?} {:?}",
                String::from_utf8_lossy(&self.seen)
            );
        }
    }

    /// A whole message: the body by its length or its chunks; with neither, everything up to the end.
    pub async fn response(&mut self) -> Message {
        let head = self.head().await;
        let status = &head[9..12];
        if status.starts_with('1') || status == "204" || status == "304" {
            return Message {
                head,
                body: Vec::new(),
                trailers: String::new(),
            };
        }
        self.body(head, true).await
    }

    /// A whole request.
    pub async fn request(&mut self) -> Message {
        let head = self.head().await;
        self.body(head, false).await
    }

    async fn body(&mut self, head: String, to_the_end: bool) -> Message {
        let mut trailers = String::new();
        let body = if let Some(length) = field(&head, "content-length") {
            self.exactly(length.parse().unwrap()).await
        } else if has(&head, "Transfer-Encoding: chunked") {
            let (body, rest) = self.chunks().await;
            trailers = rest;
            body
        } else if to_the_end {
            let (body, ended) = self.rest().await;
            assert_eq!(ended, Ended::Closed);
            body
        } else {
            Vec::new()
        };
        Message {
            head,
            body,
            trailers,
        }
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.seen.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.seen.drain(..at + 2).collect();
                return String::from_utf8(line).unwrap();
            }
            assert!(self.more().await, "ended within a line");
        }
    }

    /// A chunked body and its trailers.
    pub async fn chunks(&mut self) -> (Vec<u8>, String) {
        let mut body = Vec::new();
        loop {
            let line = self.line().await;
            let size = line.trim_end().split(';').next().unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size).await);
            self.expect("\r\n").await;
        }
        let mut trailers = String::new();
        loop {
            let line = self.line().await;
            if line == "\r\n" {
                return (body, trailers);
            }
            trailers += &line;
        }
    }

    /// Ends our direction; the other goes on.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Makes the peer's next write fail (unix sockets).
    pub fn refuse_input(&self) {
        self.stream.refuse_input();
    }

    /// Drops the connection by RST.
    pub fn reset(self) {
        self.stream.make_reset();
    }

    /// Answers with 200 and this body.
    pub async fn answer(&mut self, body: &str) {
        self.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    }

    /// The same, and says that the connection ends with it.
    pub async fn answer_and_close(&mut self, body: &str) {
        self.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await;
    }
}

/// So many bytes that depend on their place.
pub fn pattern(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut bytes = Vec::with_capacity(count + 4);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}
