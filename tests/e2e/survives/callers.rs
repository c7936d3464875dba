//! Clients that connect while nobody serves, and all the time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::PATIENCE;

/// Where clients connect.
#[derive(Debug, Clone)]
pub enum Target {
    Tcp(SocketAddr),
    Path(PathBuf),
}

impl Target {
    /// One request on a connection of its own. The first error is of the connect, the second of what came then.
    fn ask(&self, patience: Duration) -> std::io::Result<std::io::Result<String>> {
        let patience = Some(patience);
        Ok(match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(patience)?;
                ask(stream)
            }
            Self::Path(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(patience)?;
                ask(stream)
            }
        })
    }
}

/// One request on a connection of its own; the connect is an error of its own kind.
fn ask(mut stream: impl Read + Write) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Somebody who connects now, and whether the answer was a good one.
pub fn client(target: &Target) -> tokio::task::JoinHandle<Result<(), String>> {
    let target = target.clone();
    tokio::task::spawn_blocking(move || {
        let answer = target
            .ask(PATIENCE)
            .map_err(|error| format!("{target:?}: {error}"))?;
        let answer = answer.map_err(|error| format!("cut: {error}"))?;
        match answer.starts_with("HTTP/1.1 200") {
            true => Ok(()),
            false => Err(answer),
        }
    })
}

/// Connects all the time. A request may be cut with its process; a connect must never fail.
pub struct Callers {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    refused: Arc<Mutex<Vec<String>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Callers {
    pub fn start(targets: Vec<Target>) -> Self {
        let mut callers = Self {
            stop: Arc::default(),
            made: Arc::default(),
            refused: Arc::default(),
            threads: Vec::new(),
        };
        for target in targets {
            let (stop, made) = (callers.stop.clone(), callers.made.clone());
            let refused = callers.refused.clone();
            callers.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = target.ask(Duration::from_secs(2)) {
                        refused.lock().push(format!("{target:?}: {error}"));
                    }
                    made.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(2));
                }
            }));
        }
        callers
    }

    /// How many connects there were, and those that failed.
    pub fn stop(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        (
            self.made.load(Ordering::Relaxed),
            std::mem::take(&mut self.refused.lock()),
        )
    }
}
