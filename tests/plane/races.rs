//! The keep-alive race, over and over: the backend closes a kept connection at about the moment when the next POST
//! arrives on it. A POST of which the backend has read a byte must never be sent again.
//!
//! LAMEDUCK_PROVE=1 runs it 10,000 times; otherwise as often as fits into 10 s, 1,000 times at most.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use lameduck_rig::proxy::Rig;
use lameduck_rig::wire::PATIENCE;

/// What the backend does with what has arrived by the moment when it closes.
#[derive(Debug, Clone, Copy)]
enum Backend {
    /// Reads all that comes up to that moment; the request is processed, and its answer lost.
    Reads,
    /// Closes without another look: what is there unread makes it a reset.
    Careless,
    /// Half-closes, goes on reading for a moment, and closes.
    HalfCloses,
    /// The same, but it reads only a part, so that its close is a reset.
    HalfClosesAndReadsAPart,
}

impl Backend {
    fn of(id: u64) -> Self {
        match id % 10 {
            0..=4 => Self::Reads,
            5..=7 => Self::Careless,
            8 => Self::HalfCloses,
            _ => Self::HalfClosesAndReadsAPart,
        }
    }

    fn half_closes(self) -> bool {
        matches!(self, Self::HalfCloses | Self::HalfClosesAndReadsAPart)
    }
}

/// Who wins is decided by a few microseconds that differ from machine to machine, and from hour to hour: after each
/// race, the next one's delay moves towards the middle.
struct Aim {
    centre: f64,
    random: fastrand::Rng,
}

impl Aim {
    /// From the client's sending to the backend's closing, in microseconds.
    fn delay(&mut self) -> f64 {
        self.centre + (self.random.f64() - 0.5) * 150.0
    }

    fn learn(&mut self, arrived: bool) {
        self.centre += if arrived { -10.0 } else { 10.0 };
        self.centre = self.centre.clamp(-500.0, 5_000.0);
    }
}

/// The test's client and its backend, in one thread, so that their moments can be chosen.
struct Lane {
    proxy: SocketAddr,
    listener: TcpListener,
    client: TcpStream,
    aim: Aim,
    /// On how many connections a byte of the POST was read, and how often it was read whole.
    reads: BTreeMap<u64, (u32, u32)>,
    /// What the clients got.
    statuses: BTreeMap<u64, u16>,
}

/// What was read of requests on one connection.
#[derive(Default)]
struct Heard(Vec<u8>);

impl Heard {
    /// Reads what is there, `most` bytes at most; false at the end.
    fn listen(&mut self, stream: &mut TcpStream, most: usize) -> bool {
        let mut buffer = [0; 4096];
        let most = most.min(buffer.len());
        match stream.read(&mut buffer[..most]) {
            Ok(0) => false,
            Ok(count) => {
                self.0.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }

    fn is_whole(&self) -> bool {
        self.0.ends_with(b"\r\n\r\nbody")
    }
}

impl Lane {
    fn race(&mut self, id: u64) {
        let backend = Backend::of(id);
        let mut kept = self.warm_up();
        kept.set_nonblocking(true).unwrap();
        let delay = self.aim.delay();
        let post = post(id);
        let mut heard = Heard::default();
        let began = Instant::now();
        let mut arrived = false;
        if delay < 0.0 {
            let kept = end(kept, backend);
            wait(began, -delay, || ());
            self.client.write_all(&post).unwrap();
            linger(kept, backend, &mut heard);
        } else {
            self.client.write_all(&post).unwrap();
            wait(began, delay, || {
                if let Backend::Reads = backend {
                    heard.listen(&mut kept, usize::MAX);
                }
            });
            arrived = kept.peek(&mut [0; 1]).is_ok_and(|count| count > 0);
            linger(end(kept, backend), backend, &mut heard);
        }
        arrived |= !heard.0.is_empty();
        self.note(id, &heard);
        self.finish(id);
        self.aim.learn(arrived);
    }

    /// A POST that is answered, and the connection that it came on.
    fn warm_up(&mut self) -> TcpStream {
        self.client.write_all(&post(0)).unwrap();
        let mut kept = self.accept();
        self.answer(&mut kept, 0, "");
        self.response();
        kept
    }

    fn accept(&self) -> TcpStream {
        self.listener.set_nonblocking(true).unwrap();
        let began = Instant::now();
        loop {
            if let Ok((stream, _)) = self.listener.accept() {
                stream.set_nonblocking(false).unwrap();
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            assert!(began.elapsed() < PATIENCE, "the proxy doesn't connect");
            std::thread::yield_now();
        }
    }

    /// Reads a whole POST and answers it.
    fn answer(&mut self, stream: &mut TcpStream, id: u64, field: &str) {
        let mut heard = Heard::default();
        while !heard.is_whole() {
            assert!(
                heard.listen(stream, usize::MAX),
                "{:?}",
                String::from_utf8_lossy(&heard.0)
            );
        }
        self.note(id, &heard);
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\n{field}Content-Length: 0\r\n\r\n").as_bytes())
            .unwrap();
    }

    fn note(&mut self, id: u64, heard: &Heard) {
        if heard.0.is_empty() || id == 0 {
            return;
        }
        let expected = format!("POST /{id} ");
        assert!(
            heard
                .0
                .starts_with(&expected.as_bytes()[..expected.len().min(heard.0.len())]),
            "{:?} instead of {expected}",
            String::from_utf8_lossy(&heard.0)
        );
        let reads = self.reads.entry(id).or_default();
        reads.0 += 1;
        reads.1 += u32::from(heard.is_whole());
    }

    /// The race is over: the client has its answer, or the backend gets the request on another connection.
    fn finish(&mut self, id: u64) {
        self.client.set_nonblocking(true).unwrap();
        let began = Instant::now();
        loop {
            if self.client.peek(&mut [0; 1]).is_ok() {
                break;
            }
            if let Ok((mut stream, _)) = self.listener.accept() {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                self.answer(&mut stream, id, "Connection: close\r\n");
                break;
            }
            assert!(began.elapsed() < PATIENCE, "no answer to {id}");
            std::thread::yield_now();
        }
        self.client.set_nonblocking(false).unwrap();
        let status = self.response();
        self.statuses.insert(id, status);
        // The next one begins with a connection of its own, on both sides.
        self.client = connect(self.proxy);
    }

    fn response(&mut self) -> u16 {
        let mut got = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = self.client.read(&mut buffer).unwrap();
            assert!(
                count > 0,
                "the proxy closed: {:?}",
                String::from_utf8_lossy(&got)
            );
            got.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&got);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            if body.len() >= length.unwrap_or(0) {
                return head[9..12].parse().unwrap();
            }
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn post(id: u64) -> Vec<u8> {
    format!("POST /{id} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").into_bytes()
}

/// The moment itself. Half-closed, it is still there to be read from.
fn end(kept: TcpStream, backend: Backend) -> Option<TcpStream> {
    if backend.half_closes() {
        let _ = kept.shutdown(Shutdown::Write);
        return Some(kept);
    }
    None
}

/// What a half-closed backend still reads, for a moment.
fn linger(kept: Option<TcpStream>, backend: Backend, heard: &mut Heard) {
    let Some(mut kept) = kept else {
        return;
    };
    let part = matches!(backend, Backend::HalfClosesAndReadsAPart);
    wait(Instant::now(), 300.0, || {
        if !part {
            heard.listen(&mut kept, usize::MAX);
        } else if heard.0.is_empty() {
            heard.listen(&mut kept, 10);
        }
    });
}

/// Sleeping is not exact enough.
fn wait(began: Instant, microseconds: f64, mut meanwhile: impl FnMut()) {
    let span = Duration::from_secs_f64(microseconds / 1e6);
    while began.elapsed() < span {
        meanwhile();
        std::hint::spin_loop();
    }
}

/// What became of the races.
#[derive(Debug, Default)]
struct Outcome {
    races: u64,
    /// The proxy saw the close before it sent: any method goes out on a fresh connection.
    seen_in_time: u64,
    /// Sent, proven undelivered, sent again.
    proven: u64,
    /// Of those, a part had been read by a backend that had half-closed.
    proven_though_partly_read: u64,
    /// The client got a 502, and a backend had read (a part of) the request.
    failed_and_read: u64,
    /// The client got a 502, and nobody had read anything: it could not be proven.
    failed_and_unread: u64,
}

#[lameduck_rig::test(threads = 2)]
async fn a_post_that_was_read_is_never_sent_again() {
    let proving = std::env::var("LAMEDUCK_PROVE").is_ok_and(|value| value == "1");
    let (races, time) = match proving {
        true => (10_000, Duration::from_secs(600)),
        false => (1_000, Duration::from_secs(10)),
    };
    let mut rig = Rig::one().await;
    let listener = rig.backends[0].take_listener();
    let mut lane = Lane {
        proxy: rig.address,
        listener,
        client: connect(rig.address),
        aim: Aim {
            centre: 100.0,
            random: fastrand::Rng::new(),
        },
        reads: BTreeMap::new(),
        statuses: BTreeMap::new(),
    };
    let lane = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        for id in 1..=races {
            lane.race(id);
            if began.elapsed() > time {
                break;
            }
        }
        lane
    })
    .await
    .unwrap();
    let done = lane.statuses.len() as u64;
    let log = rig.access_log(2 * lane.statuses.len()).await;
    let mut outcome = Outcome::default();
    for line in &log {
        let id: u64 = line["target"].as_str().unwrap()[1..].parse().unwrap();
        if id == 0 {
            continue;
        }
        let status = lane.statuses[&id];
        assert_eq!(line["status"], status, "{line}");
        let (read, whole) = lane.reads.get(&id).copied().unwrap_or_default();
        let proven = line["retry_reason"] == "stale_connection";
        assert!(
            whole <= 1,
            "delivered twice, by {:?}: {line}",
            Backend::of(id)
        );
        // A part, read by an app that had said that it would not answer, is no delivery.
        let partly = proven && Backend::of(id).half_closes() && read == 2;
        assert!(
            read <= 1 || partly,
            "read twice, by {:?}: {line}",
            Backend::of(id)
        );
        outcome.races += 1;
        match status {
            200 => {
                assert_eq!(whole, 1, "{line}");
                let counter = match proven {
                    true => &mut outcome.proven,
                    false => &mut outcome.seen_in_time,
                };
                *counter += 1;
                outcome.proven_though_partly_read += u64::from(partly);
            }
            502 if read > 0 => outcome.failed_and_read += 1,
            502 => outcome.failed_and_unread += 1,
            _ => panic!("{line}"),
        }
    }
    assert_eq!(outcome.races, done);
    // Both outcomes, often, or nothing was put to the test.
    let often = outcome.races / 20;
    assert!(
        outcome.seen_in_time + outcome.proven > often && outcome.failed_and_read > often,
        "{outcome:?}"
    );
    if proving {
        assert!(outcome.proven > 0, "{outcome:?}");
        let dir = lameduck_rig::place::prove();
        std::fs::write(dir.join("races.md"), outcome.to_string()).unwrap();
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "|POSTs that raced with the backend's close|{}|\n|-|-:|",
            self.races
        )?;
        for (what, count) in [
            (
                "close seen before it was sent: on a fresh connection",
                self.seen_in_time,
            ),
            ("sent, proven undelivered, sent again", self.proven),
            (
                "of those, read in part by a backend that had half-closed",
                self.proven_though_partly_read,
            ),
            ("502, and the backend had read it", self.failed_and_read),
            (
                "502, and nobody had read it: not proven",
                self.failed_and_unread,
            ),
            ("read by more than one", 0),
        ] {
            writeln!(f, "|{what}|{count}|")?;
        }
        Ok(())
    }
}
