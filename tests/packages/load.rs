//! Clients of the installed service: what they ask is answered, or counted as lost.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

/// The address of the installed configuration.
const ADDRESS: &str = "127.0.0.1:8080";

/// Clients in its network, each with one request after the other, half of them on connections that are kept.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    clients: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    pub(super) fn start(init: &str) -> Self {
        let (stop, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU32::new(0)),
        );
        let clients = (0..4).map(|number| {
            let (stop, answered) = (stop.clone(), answered.clone());
            let network = File::open(format!("/proc/{init}/ns/net")).unwrap();
            std::thread::spawn(move || {
                setns(network, CloneFlags::CLONE_NEWNET).unwrap();
                let mut lost = Vec::new();
                let mut kept = None;
                while !stop.load(Ordering::Relaxed) {
                    match ask(&mut kept, number % 2 == 0) {
                        Ok(()) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(why) => lost.push(why),
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                lost
            })
        });
        let clients = clients.collect();
        Self {
            stop,
            answered,
            clients,
        }
    }

    /// Waits for so many more answers.
    pub(super) fn wait_for(&self, more: u32) {
        let (before, began) = (self.answered.load(Ordering::Relaxed), Instant::now());
        while self.answered.load(Ordering::Relaxed) < before + more {
            assert!(began.elapsed() < Duration::from_secs(30), "no answers");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many were answered, and what became of the others.
    pub(super) fn end(self) -> (u32, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let lost = self
            .clients
            .into_iter()
            .flat_map(|client| client.join().unwrap());
        let lost = lost.collect();
        (self.answered.load(Ordering::Relaxed), lost)
    }
}

/// One request. A kept connection that was closed before a byte of the answer was said is no loss: every client has to know
/// that, and asks again on a new one.
fn ask(kept: &mut Option<TcpStream>, keep: bool) -> Result<(), String> {
    let address: SocketAddr = ADDRESS.parse().unwrap();
    let again = kept.is_some();
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect_timeout(&address, Duration::from_secs(10))
            .map_err(|error| format!("connect: {error}"))?,
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let close = if keep { "" } else { "Connection: close\r\n" };
    let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{close}\r\n");
    let mut answer = Vec::new();
    let ended = stream
        .write_all(text.as_bytes())
        .and_then(|()| read_answer(&mut stream, &mut answer));
    let shown = String::from_utf8_lossy(&answer);
    match ended {
        _ if answer.is_empty() && again => ask(kept, keep),
        Err(error) => Err(format!("{error} after {shown:?}")),
        Ok(()) if !shown.starts_with("HTTP/1.1 200 ") => Err(shown.into_owned()),
        Ok(()) => {
            let closes = shown.to_ascii_lowercase().contains("connection: close");
            *kept = (keep && !closes).then_some(stream);
            Ok(())
        }
    }
}

fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> std::io::Result<()> {
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length:").nth(1);
            let length = length.and_then(|rest| rest.lines().next()?.trim().parse().ok());
            let whole = match length {
                Some(length) => body.len() >= length,
                None => body.ends_with("0\r\n\r\n"),
            };
            if whole {
                return Ok(());
            }
        }
        match stream.read(&mut part)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => answer.extend_from_slice(&part[..read]),
        }
    }
}
