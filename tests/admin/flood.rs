//! Strangers who take all the places that they can get: probes are answered all the while.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lameduck::server::rlimit;
use lameduck_rig::ports::free_address;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};

use crate::http::Http;
use crate::server::{Doors, PATIENCE, Server};

/// A probe is answered at once, though a machine may stand still for seconds: far from the 10 s after which a half-open
/// socket goes by itself.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Descriptors that the proxy may have in the last test.
const LIMIT: usize = 120;
const PROBES: [&str; 3] = ["/-/live", "/-/ready", "/metrics"];

async fn all_doors() -> Server {
    rlimit::raise_limit();
    let doors = Doors {
        http: Some("127.0.0.1:0"),
        probes: true,
        token: true,
        ..Doors::default()
    };
    Server::with(doors).await
}

async fn probe(at: SocketAddr) {
    for path in PROBES {
        let begun = Instant::now();
        let answer = Http::new("GET", path).over_tcp(at).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let took = begun.elapsed();
        assert!(took < AT_ONCE, "{path} took {took:?}");
    }
}

#[lameduck_rig::test]
async fn half_open_sockets_do_not_keep_probes_from_an_answer() {
    let server = all_doors().await;
    for at in [server.probes.unwrap(), server.http.unwrap()] {
        let mut half_open = Vec::new();
        for n in 0..1500 {
            let mut stream = TcpStream::connect(at).await.unwrap();
            match n % 3 {
                0 => {}
                1 => stream.write_all(b"G").await.unwrap(),
                _ => stream
                    .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nx: ")
                    .await
                    .unwrap(),
            }
            half_open.push(stream);
            if n % 100 == 99 {
                probe(at).await;
            }
        }
        // The oldest are gone, the youngest still there.
        let mut first = half_open.swap_remove(0);
        let ended = tokio::time::timeout(PATIENCE, first.read(&mut [0; 1])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))));
        let mut last = half_open.pop().unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(50), last.read(&mut [0; 1])).await;
        assert!(
            waits.is_err(),
            "it was pushed out before those that came earlier"
        );
    }
    server.stop().await;
}

#[lameduck_rig::test]
async fn half_open_unix_sockets_keep_nobody_from_an_answer() {
    let server = all_doors().await;
    let mut half_open = Vec::new();
    for n in 0..1500 {
        let mut stream = UnixStream::connect(&server.socket).await.unwrap();
        stream
            .write_all(b"GET /v1/pools HTTP/1.1\r\n")
            .await
            .unwrap();
        half_open.push(stream);
        if n % 100 == 99 {
            assert_eq!(server.ask("GET", "/v1/pools", None).await.status, 200);
            assert_eq!(server.ask("GET", "/-/live", None).await.status, 200);
        }
    }
    server.stop().await;
}

#[lameduck_rig::test]
async fn slow_heads_and_bodies_and_idle_connections_make_room() {
    let server = all_doors().await;
    let at = server.probes.unwrap();
    let mut slow = Vec::new();
    for n in 0..600 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        match n % 3 {
            // A body that never comes: no more than half a request either.
            0 => stream
                .write_all(b"GET /-/live HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n")
                .await
                .unwrap(),
            // Idle after an answer.
            1 => {
                stream
                    .write_all(b"GET /-/live HTTP/1.1\r\nhost: x\r\n\r\n")
                    .await
                    .unwrap();
                assert_ne!(stream.read(&mut [0; 512]).await.unwrap(), 0);
            }
            _ => stream.write_all(b"GET /-/live HTTP/1.1\r\n").await.unwrap(),
        }
        slow.push(stream);
    }
    for _ in 0..5 {
        probe(at).await;
        for stream in &mut slow {
            // Those that were pushed out can't be written to any more.
            let _ = stream.write_all(b"x").await;
        }
    }
    server.stop().await;
}

#[lameduck_rig::test]
async fn pipelined_probes_are_all_answered() {
    let server = all_doors().await;
    let mut stream = TcpStream::connect(server.probes.unwrap()).await.unwrap();
    let one = "GET /-/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let all = one.repeat(100) + last;
    stream.write_all(all.as_bytes()).await.unwrap();
    let mut answers = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answers))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 101);
    server.stop().await;
}

#[lameduck_rig::test]
async fn clients_that_never_read_metrics_keep_nobody_from_them() {
    let server = all_doors().await;
    let at = server.probes.unwrap();
    let mut deaf = Vec::new();
    for _ in 0..600 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let ask = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20);
        stream.write_all(ask.as_bytes()).await.unwrap();
        deaf.push(stream);
    }
    probe(at).await;
    server.stop().await;
}

/// Answers among these bytes.
fn answers(seen: &[u8]) -> usize {
    seen.windows(9).filter(|nine| nine == b"HTTP/1.1 ").count()
}

/// All requests are there before the server gets its turn, on the test's own thread: so what it does first is no matter of
/// time.
#[lameduck_rig::test]
async fn probe_comes_before_what_others_have_sent_ahead() {
    const FLOOD: usize = 200;
    const AHEAD: usize = 100;
    let server = all_doors().await;
    for (at, path, most) in [
        (server.http.unwrap(), "/v1/config", FLOOD),
        (server.http.unwrap(), "/v1/openapi.json", FLOOD),
        (server.probes.unwrap(), "/metrics", FLOOD),
        // Probes, too: one of each client has its turn before another of the same.
        (server.probes.unwrap(), "/-/ready", 15 * FLOOD),
    ] {
        let ask = |path: &str, times: usize| {
            let mut stream = std::net::TcpStream::connect(at).unwrap();
            let ask = format!("GET {path} HTTP/1.1\r\nhost: {at}\r\n\r\n").repeat(times);
            stream.write_all(ask.as_bytes()).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        };
        let flood: Vec<_> = (0..FLOOD).map(|_| ask(path, AHEAD)).collect();
        let mut probe = TcpStream::from_std(ask("/-/live", 1)).unwrap();
        let mut answer = [0; 12];
        tokio::time::timeout(PATIENCE, probe.read_exact(&mut answer))
            .await
            .expect("the probe is not answered")
            .unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let mut before = 0;
        for mut stream in flood {
            let mut seen = Vec::new();
            let _ = stream.read_to_end(&mut seen);
            before += answers(&seen);
        }
        println!("{path}: {before} of {} came before", FLOOD * AHEAD);
        assert!(before <= most, "{path}: {before} came before");
    }
    server.stop().await;
}

#[lameduck_rig::test]
async fn event_streams_have_places_of_their_own_and_a_bound() {
    let server = all_doors().await;
    let http = server.http.unwrap();
    let mut streams = Vec::new();
    let refused = loop {
        let mut stream = TcpStream::connect(http).await.unwrap();
        let ask = format!("GET /v1/events HTTP/1.1\r\nhost: {http}\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if !line.contains(" 200 ") {
            break line;
        }
        streams.push(stream);
        assert!(streams.len() < 1000, "there is no bound");
    };
    assert!(refused.contains(" 503 "), "{refused}");
    assert_eq!(streams.len(), 256);
    probe(http).await;
    let answer = Http::new("GET", "/v1/pools").over_tcp(http).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let answer = Http::new("GET", "/v1/events").over_tcp(http).await;
    answer.problem(503, "too-many-connections");
    assert_eq!(answer.header("retry-after"), Some("1"));
    // The other doors have their own.
    assert_eq!(server.ask("GET", "/v1/pools", None).await.status, 200);
    // Room comes back with the first that goes.
    drop(streams);
    let freed = async {
        loop {
            let mut stream = TcpStream::connect(http).await.unwrap();
            let ask = format!("GET /v1/events HTTP/1.1\r\nhost: {http}\r\n\r\n");
            stream.write_all(ask.as_bytes()).await.unwrap();
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).await.unwrap();
            if line.contains(" 200 ") {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.unwrap();
    server.stop().await;
}

/// A thousand hooks that wait for their drains at once.
#[lameduck_rig::test]
async fn many_blocking_drains_leave_probes_and_status_alone() {
    let server = all_doors().await;
    let endpoint = server.endpoint("app-1");
    assert!(
        endpoint.gate.try_enter(),
        "in flight, so that the drain waits"
    );
    let mut waiting = Vec::new();
    let body = "{\"timeout\":\"60s\"}";
    let ask = format!(
        "POST /v1/pools/app/backends/app-1/drain HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..1000 {
        let mut stream = UnixStream::connect(&server.socket).await.unwrap();
        stream.write_all(ask.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    for _ in 0..300 {
        // More than there are places for those that can be pushed out.
        assert_eq!(server.ask("GET", "/-/live", None).await.status, 200);
    }
    assert_eq!(server.ask("GET", "/v1/pools", None).await.status, 200);
    for stream in &mut waiting {
        let waits =
            tokio::time::timeout(Duration::from_micros(100), stream.read(&mut [0; 1])).await;
        assert!(waits.is_err(), "a drain was cut off");
    }
    endpoint.gate.leave();
    server.stop().await;
}

/// When traffic has taken every descriptor, probes are answered from the reserve.
#[lameduck_rig::test]
async fn probes_are_answered_when_traffic_has_taken_every_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let (traffic, probes) = (free_address(), free_address());
    let config = dir.path().join("lameduck.toml");
    let socket = dir.path().join("sock");
    let text = format!(
        "[server]\nthreads = 1\nmax_connections = 1000\n[admin]\nsocket = {socket:?}\nhttp = \"\"\nprobes = \"{probes}\"\n\
         [access_log]\npath = \"off\"\n[[listener]]\naddress = \"{traffic}\"\n[[pool]]\nname = \"app\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut proxy = Command::new("sh")
        .args(["-c", "ulimit -n 120; exec \"$0\" run -c \"$1\""])
        .arg(lameduck_rig::place::exe())
        .arg(&config)
        .env_remove("LAMEDUCK_ADMIN")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
        .spawn()
        .unwrap();
    let lives = |proxy: &mut std::process::Child| {
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
        assert_eq!(proxy.try_wait().unwrap(), None, "it has ended: {log}");
    };
    let begun = Instant::now();
    // The flood begins with the first socket that listens: the rest of the start must not need what it takes.
    while TcpStream::connect(traffic).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "it does not start");
        lives(&mut proxy);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut clients = Vec::new();
    let descriptors = format!("/proc/{}/fd", proxy.id());
    let open = || std::fs::read_dir(&descriptors).unwrap().count();
    // More than it can take, and they go on coming from its queue.
    for _ in 0..200 {
        let mut client = TcpStream::connect(traffic).await.unwrap();
        let _ = client.write_all(b"GET / HTTP/1.1\r\n").await;
        clients.push(client);
    }
    let begun = Instant::now();
    let mut idle = Vec::new();
    while open() < LIMIT {
        // A connection of the traffic takes two for a moment, on its way to the thread that serves it: where one is
        // left, traffic can't have it, and an idle connection to the probes' door takes it.
        if open() == LIMIT - 1 {
            idle.push(TcpStream::connect(probes).await.unwrap());
        }
        lives(&mut proxy);
        assert!(
            begun.elapsed() < PATIENCE,
            "{} of {LIMIT} are taken",
            open()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..30 {
        let begun = Instant::now();
        let answer = Http::new("GET", "/-/live").over_tcp(probes).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let took = begun.elapsed();
        assert!(took < AT_ONCE, "{took:?}");
    }
    let _ = proxy.kill();
    let _ = proxy.wait();
}
