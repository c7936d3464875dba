//! An app that counts: WebSockets that echo and push, streams of events, and short answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

/// Kinds of messages: the client's, its echo, one of the app's own, and the last one, each with a number.
pub const ECHO: u8 = b'e';
pub const PUSH: u8 = b'p';
pub const LAST: u8 = b'l';

pub struct CountingBackend {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

/// What all connections share.
#[derive(Clone)]
struct Shared {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

impl CountingBackend {
    pub async fn start(mut rng: fastrand::Rng, stop: Arc<AtomicBool>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let shared = Shared {
            stop,
            accepted: accepted.clone(),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, rng.fork(), shared.clone()));
            }
        });
        Self { address, accepted }
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, mut rng: fastrand::Rng, shared: Shared) {
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if reader.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8(read.drain(..end).collect()).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        if path.starts_with("/ws") {
            writer.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await.unwrap();
            return websocket(reader, writer, read, rng, shared).await;
        } else if path.starts_with("/events") {
            let chunked = path.ends_with("chunked");
            events(&mut writer, chunked, &mut rng, &shared).await;
            if !chunked {
                return;
            }
        } else {
            if rng.u8(..4) == 0 {
                tokio::time::sleep(Duration::from_millis(rng.u64(..20))).await;
            }
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
                path.len()
            );
            if writer.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// In pieces, so that a reader may have any part of it.
async fn write_pieces(writer: &mut OwnedWriteHalf, mut bytes: &[u8], rng: &mut fastrand::Rng) {
    while !bytes.is_empty() {
        let count = match rng.u8(..3) {
            0 => rng.usize(1..=bytes.len()),
            _ => bytes.len(),
        };
        writer.write_all(&bytes[..count]).await.unwrap();
        bytes = &bytes[count..];
        if !bytes.is_empty() && rng.bool() {
            tokio::time::sleep(Duration::from_millis(rng.u64(..4))).await;
        }
    }
}

/// A frame of a server with a number and some filling.
fn message(kind: u8, number: u64, filling: usize) -> Vec<u8> {
    let mut payload = vec![kind];
    payload.extend_from_slice(&number.to_be_bytes());
    payload.resize(9 + filling, kind);
    let mut frame = vec![0x82];
    match payload.len() {
        0..=125 => frame.push(payload.len() as u8),
        length => {
            frame.push(127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&payload);
    frame
}

async fn websocket(
    mut reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    mut read: Vec<u8>,
    mut rng: fastrand::Rng,
    shared: Shared,
) {
    let writer = Arc::new(Mutex::new(writer));
    let pusher = {
        let (writer, mut rng, stop) = (writer.clone(), rng.fork(), shared.stop.clone());
        tokio::spawn(async move {
            let mut pushed = 0;
            while !stop.load(Ordering::SeqCst) {
                let filling = filling(&mut rng);
                let mut writer = writer.lock().await;
                write_pieces(&mut writer, &message(PUSH, pushed, filling), &mut rng).await;
                drop(writer);
                pushed += 1;
                tokio::time::sleep(Duration::from_millis(rng.u64(..30))).await;
            }
            pushed
        })
    };
    loop {
        while let Some((payload, length)) = unmasked(&read) {
            read.drain(..length);
            let number = u64::from_be_bytes(payload[1..9].try_into().unwrap());
            if payload[0] == LAST {
                let pushed = pusher.await.unwrap();
                let mut writer = writer.lock().await;
                write_pieces(&mut writer, &message(LAST, pushed, 0), &mut rng).await;
                writer.shutdown().await.unwrap();
                let mut rest = Vec::new();
                let _ = reader.read_to_end(&mut rest).await;
                return;
            }
            let mut writer = writer.lock().await;
            let echo = message(ECHO, number, payload.len() - 9);
            write_pieces(&mut writer, &echo, &mut rng).await;
        }
        let count = reader.read_buf(&mut read).await.unwrap();
        assert!(count > 0, "the WebSocket was closed");
    }
}

/// Mostly little, sometimes more than any buffer takes.
pub fn filling(rng: &mut fastrand::Rng) -> usize {
    match rng.u8(..20) {
        0 => rng.usize(..200_000),
        1..=4 => rng.usize(..4_000),
        _ => rng.usize(..100),
    }
}

/// A whole masked frame at the start of these bytes, and how long it is.
fn unmasked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (length, at) = match bytes.get(1)? & 0x7f {
        127 => (
            u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize,
            10,
        ),
        126 => (
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())),
            4,
        ),
        short => (usize::from(short), 2),
    };
    let key = bytes.get(at..at + 4)?;
    let payload = bytes.get(at + 4..at + 4 + length)?;
    let payload = payload
        .iter()
        .zip(key.iter().cycle())
        .map(|(byte, key)| byte ^ key);
    Some((payload.collect(), at + 4 + length))
}

async fn events(
    writer: &mut OwnedWriteHalf,
    chunked: bool,
    rng: &mut fastrand::Rng,
    shared: &Shared,
) {
    let framing = match chunked {
        true => "Transfer-Encoding: chunked\r\n",
        false => "Connection: close\r\n",
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n");
    write_pieces(writer, head.as_bytes(), rng).await;
    let mut number = 0u64;
    let mut pending = String::new();
    loop {
        let is_last = shared.stop.load(Ordering::SeqCst);
        let text = match is_last {
            true => "last".to_owned(),
            false => "x".repeat(filling(rng)),
        };
        pending += &format!("id: {number}\ndata: {text}\n\n");
        number += 1;
        // Chunks end anywhere.
        let count = match is_last {
            true => pending.len(),
            false => rng.usize(..=pending.len()),
        };
        let piece: String = pending.drain(..count).collect();
        if !piece.is_empty() {
            let piece = match chunked {
                true => format!("{:x}\r\n{piece}\r\n", piece.len()),
                false => piece,
            };
            write_pieces(writer, piece.as_bytes(), rng).await;
        }
        if is_last {
            break;
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(..30))).await;
    }
    if chunked {
        write_pieces(writer, b"0\r\n\r\n", rng).await;
    }
}
