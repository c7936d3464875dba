//! An app and clients that use all of a proxy: requests, bodies, upgrades, events, HTTP/2, drains.

use std::net::SocketAddr;
use std::time::Duration;

use lameduck::tools::demo::admin;
use lameduck_rig::frames::{END_HEADERS, END_STREAM, Frame, HEADERS, frame, opening};
use lameduck_rig::proxy::Rig;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An app that answers everything, upgrades, and has a stream of events.
pub async fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream));
        }
    });
    address
}

async fn converse(mut stream: TcpStream) {
    let mut seen = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let head = String::from_utf8_lossy(&seen[..end]).into_owned();
        // The one body that is sent here.
        let body = if head.starts_with("POST") { 10 } else { 0 };
        while seen.len() < end + body {
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return;
            }
        }
        seen.drain(..end + body);
        let answer = match head.split(' ').nth(1) {
            Some("/ws") => {
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            }
            Some("/events") => {
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
            }
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        if !answer.ends_with("ok") {
            // Until whoever is at the other end has had enough.
            let _ = stream.read_to_end(&mut seen).await;
            return;
        }
    }
}

/// What came of a request: the status, or that the connection was closed without one.
pub(super) async fn ask(address: SocketAddr, request: &[u8]) -> Option<u16> {
    let answered = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(request).await.ok()?;
        let mut seen = Vec::new();
        while seen.len() < 12 {
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        std::str::from_utf8(&seen[9..12]).ok()?.parse().ok()
    };
    let answered = tokio::time::timeout(Duration::from_secs(20), answered).await;
    answered.expect("a request was neither answered nor refused")
}

/// A request over HTTP/2 with prior knowledge: whether a HEADERS frame came back.
pub(super) async fn ask_h2(address: SocketAddr, host: &str) -> bool {
    let answered = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let mut block = vec![0x82, 0x86, 0x84, 0x41, u8::try_from(host.len()).ok()?];
        block.extend(host.as_bytes());
        let mut sent = opening();
        sent.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
        stream.write_all(&sent).await.ok()?;
        let mut seen = Vec::new();
        loop {
            while let Some((frame, length)) = Frame::read(&seen) {
                if frame.kind == HEADERS {
                    return Some(());
                }
                seen.drain(..length);
            }
            if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    };
    let answered = tokio::time::timeout(Duration::from_secs(20), answered).await;
    answered
        .expect("an HTTP/2 request was neither answered nor refused")
        .is_some()
}

/// All kinds of requests to one host. Says what the plain one got.
pub(super) async fn use_it(addresses: &[SocketAddr], host: &str) -> Option<u16> {
    let request = |line: &str, fields: &str| {
        format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").into_bytes()
    };
    let mut post = request("POST /", "Content-Length: 10\r\n");
    post.extend(b"0123456789");
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let plain = ask(addresses[0], &request("GET /", "")).await;
    let (upgrade, events) = (request("GET /ws", upgrade), request("GET /events", ""));
    let (slow, ended, upgraded, streamed, _) = tokio::join!(
        ask(
            addresses[0],
            b"GET / HTTP/1.1\r\nConnection: close\r\nX: y\r\n\r\n"
        ),
        ask(addresses[0], &post),
        ask(addresses[0], &upgrade),
        ask(addresses[0], &events),
        ask_h2(addresses[1], host),
    );
    for status in [plain, slow, ended, upgraded, streamed] {
        assert_ne!(status, Some(500), "{host}");
    }
    plain
}

pub(super) async fn addresses(rig: &Rig) -> Vec<SocketAddr> {
    let listeners = admin::call(&rig.socket, "GET", "/v1/listeners", None).await;
    let listeners = listeners.unwrap();
    let each = listeners.as_array().unwrap().iter();
    each.map(|listener| listener["address"].as_str().unwrap().parse().unwrap())
        .collect()
}

/// Drains a backend, and resumes it.
pub(super) async fn drain(rig: &Rig, pool: &str) {
    let path = format!("/v1/pools/{pool}/backends/{pool}-1");
    for (verb, body) in [("drain", json!({"timeout": "20ms"})), ("resume", json!({}))] {
        let path = format!("{path}/{verb}");
        let done = admin::request(&rig.socket, "POST", &path, Some(&body)).await;
        assert_eq!(done.unwrap().0, 200, "{pool}: {verb}");
    }
}

pub(super) async fn has_no_panic(rig: &Rig, what: &str) {
    for role in ["data", "accept", "control", "other"] {
        let series = format!("lameduck_panics_total{{thread=\"{role}\"}}");
        assert_eq!(
            rig.metric(&series).await,
            Some(0),
            "{what}: {series}\n{}",
            rig.log()
        );
    }
}
