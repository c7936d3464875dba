//! Clients that count what they send and get.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::backend::{ECHO, LAST, PUSH, filling};

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client has counted at its end.
pub struct ClientEnd {
    pub path: String,
    pub id: String,
    /// Bytes of the body, or behind the 101.
    pub sent: u64,
    pub received: u64,
}

/// Reads on until `found` finds something at the start of what was read, and takes that out.
async fn read_one<T>(
    reader: &mut OwnedReadHalf,
    read: &mut Vec<u8>,
    found: impl Fn(&[u8]) -> Option<(T, usize)>,
) -> Option<T> {
    loop {
        if let Some((one, length)) = found(read) {
            read.drain(..length);
            return Some(one);
        }
        let reading = tokio::time::timeout(PATIENCE, reader.read_buf(read));
        let count = reading.await.expect("nothing comes any more");
        if count.expect("the connection broke") == 0 {
            assert!(read.is_empty(), "closed within a message");
            return None;
        }
    }
}

fn head(bytes: &[u8]) -> Option<(String, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    Some((String::from_utf8(bytes[..end].to_vec()).unwrap(), end))
}

async fn connect(address: SocketAddr) -> (OwnedReadHalf, OwnedWriteHalf) {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.into_split()
}

/// In pieces, with pauses.
async fn send(writer: &mut OwnedWriteHalf, mut bytes: &[u8], rng: &mut fastrand::Rng) {
    while !bytes.is_empty() {
        let count = rng.usize(1..=bytes.len());
        writer.write_all(&bytes[..count]).await.expect("cut off");
        bytes = &bytes[count..];
        if rng.u8(..3) == 0 {
            tokio::time::sleep(Duration::from_millis(rng.u64(..5))).await;
        }
    }
}

/// A short answer's body.
pub async fn get(address: SocketAddr, path: &str) -> String {
    let (mut reader, mut writer) = connect(address).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    writer.write_all(request.as_bytes()).await.unwrap();
    answer(&mut reader, &mut Vec::new()).await
}

async fn answer(reader: &mut OwnedReadHalf, read: &mut Vec<u8>) -> String {
    let whole = |bytes: &[u8]| {
        let (head, end) = head(bytes)?;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = head.to_ascii_lowercase();
        let length = length.split("content-length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        let body = bytes.get(end..end + length)?;
        Some((String::from_utf8(body.to_vec()).unwrap(), end + length))
    };
    read_one(reader, read, whole)
        .await
        .expect("closed instead of an answer")
}

/// Sends numbered messages, and expects each one's echo and the app's own, in order, to the last.
pub struct WebSocketClient;

impl WebSocketClient {
    pub async fn connect(
        address: SocketAddr,
        number: usize,
        mut rng: fastrand::Rng,
        stop: Arc<AtomicBool>,
    ) -> ClientEnd {
        let (mut reader, mut writer) = connect(address).await;
        let (path, id) = (format!("/ws/{number}"), format!("ws-{number}"));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        );
        writer.write_all(request.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        let switched = read_one(&mut reader, &mut read, head).await.unwrap();
        assert!(switched.starts_with("HTTP/1.1 101 "), "{switched}");
        let sending = tokio::spawn(async move {
            let (mut sent, mut bytes) = (0u64, 0);
            loop {
                let is_last = stop.load(Ordering::SeqCst);
                let kind = if is_last { LAST } else { b'm' };
                let frame = masked(kind, sent, if is_last { 0 } else { filling(&mut rng) });
                bytes += frame.len() as u64;
                send(&mut writer, &frame, &mut rng).await;
                if is_last {
                    return (writer, sent, bytes);
                }
                sent += 1;
                tokio::time::sleep(Duration::from_millis(rng.u64(..30))).await;
            }
        });
        let (mut echoed, mut pushed, mut received) = (0u64, 0u64, 0);
        let last = loop {
            let message = read_one(&mut reader, &mut read, bare).await;
            let (kind, number, length) = message.expect("the WebSocket was closed");
            received += length as u64;
            let expected = match kind {
                ECHO => &mut echoed,
                PUSH => &mut pushed,
                LAST => break number,
                other => panic!("{path}: kind {other}: the frames have come apart"),
            };
            assert_eq!(number, *expected, "{path}: lost or doubled");
            *expected += 1;
        };
        let (writer, sent, bytes) = sending.await.unwrap();
        assert_eq!((echoed, pushed), (sent, last), "{path}");
        assert!(read_one(&mut reader, &mut read, bare).await.is_none());
        drop(writer);
        ClientEnd {
            path,
            id,
            sent: bytes,
            received,
        }
    }
}

/// A frame of a client with a number and some filling.
fn masked(kind: u8, number: u64, filling: usize) -> Vec<u8> {
    let mut payload = vec![kind];
    payload.extend_from_slice(&number.to_be_bytes());
    payload.resize(9 + filling, kind);
    let mut frame = vec![0x82];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let key = [1, 2, 3, 4];
    frame.extend_from_slice(&key);
    frame.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

/// A server's message at the start of these bytes: its kind, its number, and its length with its header.
fn bare(bytes: &[u8]) -> Option<((u8, u64, usize), usize)> {
    let (length, at) = match bytes.get(1)? {
        127 => (
            u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize,
            10,
        ),
        short => (usize::from(*short), 2),
    };
    assert_eq!(bytes[0], 0x82, "no frame begins here");
    let payload = bytes.get(at..at + length)?;
    let kind = payload[0];
    let number = u64::from_be_bytes(payload[1..9].try_into().unwrap());
    assert!(
        payload[9..].iter().all(|byte| *byte == kind),
        "another message's bytes"
    );
    Some(((kind, number, at + length), at + length))
}

/// Reads a stream of events to its end, and then asks for something else on the same connection.
pub struct EventClient;

impl EventClient {
    pub async fn connect(address: SocketAddr, number: usize, mut rng: fastrand::Rng) -> ClientEnd {
        let (mut reader, mut writer) = connect(address).await;
        let kind = if number.is_multiple_of(2) {
            "chunked"
        } else {
            "close"
        };
        let (path, id) = (format!("/events/{number}/{kind}"), format!("ev-{number}"));
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n\r\n");
        send(&mut writer, request.as_bytes(), &mut rng).await;
        let mut read = Vec::new();
        let answered = read_one(&mut reader, &mut read, head).await.unwrap();
        assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
        // The request for what comes behind it may be here at any time.
        let behind = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(rng.u64(..1500))).await;
            let request = format!("GET /behind/{number} HTTP/1.1\r\nHost: a\r\n\r\n");
            send(&mut writer, request.as_bytes(), &mut rng).await;
            writer
        });
        let (mut text, mut expected, mut received) = (String::new(), 0u64, 0);
        loop {
            let (data, length) = read_one(&mut reader, &mut read, chunk)
                .await
                .unwrap_or_else(|| panic!("{path}: closed within the stream"));
            received += length as u64;
            if data.is_empty() {
                break;
            }
            text += &data;
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                let given = event
                    .strip_prefix("id: ")
                    .and_then(|rest| rest.split('\n').next());
                let given = given.and_then(|given| given.parse().ok());
                assert_eq!(given, Some(expected), "{path}: lost or doubled");
                expected += 1;
                if event.ends_with("data: last\n\n") {
                    assert!(text.is_empty());
                }
            }
        }
        assert!(
            text.is_empty() && expected > 0,
            "{path}: cut within an event"
        );
        assert_eq!(
            answer(&mut reader, &mut read).await,
            format!("/behind/{number}")
        );
        drop(behind.await.unwrap());
        ClientEnd {
            path,
            id,
            sent: 0,
            received,
        }
    }
}

/// A chunk at the start of these bytes: its content, and its length with its framing.
fn chunk(bytes: &[u8]) -> Option<((String, usize), usize)> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")?;
    let size = std::str::from_utf8(&bytes[..line]).unwrap();
    let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("no chunk: {size:?}"));
    let whole = line + 2 + size + 2;
    let content = bytes.get(line + 2..whole)?;
    assert!(content.ends_with(b"\r\n"), "a chunk without an end");
    let content = String::from_utf8(content[..size].to_vec()).unwrap();
    Some(((content, whole), whole))
}

/// Sends requests one behind the other, in pieces, and expects the answers in order, all on one connection.
pub struct PipeliningClient;

impl PipeliningClient {
    pub async fn connect(
        address: SocketAddr,
        number: usize,
        mut rng: fastrand::Rng,
        stop: Arc<AtomicBool>,
    ) -> usize {
        let (mut reader, mut writer) = connect(address).await;
        let (mut asked, mut read) = (0, Vec::new());
        while !stop.load(Ordering::SeqCst) {
            let first = asked;
            let mut requests = String::new();
            for _ in 0..rng.usize(1..5) {
                requests += &format!("GET /{number}/{asked} HTTP/1.1\r\nHost: a\r\n\r\n");
                asked += 1;
            }
            let mut sending_rng = rng.fork();
            let sending = send(&mut writer, requests.as_bytes(), &mut sending_rng);
            let answering = async {
                for request in first..asked {
                    let body = answer(&mut reader, &mut read).await;
                    assert_eq!(body, format!("/{number}/{request}"));
                }
            };
            tokio::join!(sending, answering);
            tokio::time::sleep(Duration::from_millis(rng.u64(..60))).await;
        }
        asked
    }
}

/// A connection whose every byte is the test's.
pub struct KeptClient {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    read: Vec<u8>,
}

impl KeptClient {
    /// A connection that begins with these bytes.
    pub async fn connect(address: SocketAddr, bytes: &[u8]) -> Self {
        let (reader, mut writer) = connect(address).await;
        writer.write_all(bytes).await.unwrap();
        Self {
            reader,
            writer,
            read: Vec::new(),
        }
    }

    /// Asks for a short answer.
    pub async fn get(&mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        self.writer.write_all(request.as_bytes()).await.unwrap();
        answer(&mut self.reader, &mut self.read).await
    }

    /// Waits until something has come.
    pub async fn hear(&mut self) {
        let reading = tokio::time::timeout(PATIENCE, self.reader.read_buf(&mut self.read));
        assert!(reading.await.expect("nothing comes").unwrap() > 0);
    }

    /// Reads until the last chunk.
    pub async fn hear_all(&mut self) {
        while !self.read.ends_with(b"\r\n0\r\n\r\n") {
            self.hear().await;
        }
    }
}
