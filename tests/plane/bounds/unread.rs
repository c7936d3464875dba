//! What is kept for clients that take nothing of what the proxy writes anew for them, and for those whom an
//! authentication server turns away at length: all of it together is bounded by `max_memory`, and others are served.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lameduck::server::rlimit;
use lameduck_rig::backend::backends;
use lameduck_rig::proxy::{GET, Rig, Setup};
use lameduck_rig::wait::{PATIENCE, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

const MIB: usize = 1 << 20;

/// What the kernel takes for a client: enough for the proxy to read the rest in its largest pieces.
const RECEIVED: u32 = 128 << 10;

/// Reads a request's head; `None`: there is no other.
async fn next_head(stream: &mut TcpStream) -> Option<String> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&seen).into_owned())
}

/// What the process has at most more than before, in the next seconds.
async fn peak(rig: &Rig, before: usize) -> usize {
    let until = Instant::now() + Duration::from_secs(3);
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(rig.memory().saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{} KiB at most", most / 1024);
    most
}

/// A client that has asked for `path`, for whom the kernel takes no more than a part of the answer.
async fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVED).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// The whole answer, once it ends.
async fn read_all(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
    read.await.expect("the answer doesn't end").unwrap();
    answer
}

/// What each of them answers: events, and a body that only the end of the connection ends.
const EVENT: &[u8] = b"data: 0123456789012345678901234567890123456789012345678901234567\n\n";
const EVENTS: usize = 9_000;

/// Both are put into new chunks: beside the bytes that were read there are as many that were written.
#[lameduck_rig::test(threads = 2)]
async fn events_and_rechunked_answers_that_are_not_taken_are_bounded_by_max_memory() {
    const CLIENTS: usize = 600;
    rlimit::raise_limit();
    let mut rig = Rig::new(Setup {
        server: "max_memory = \"32MiB\"",
        ..Setup::default()
    })
    .await;
    let listener = TcpListener::from_std(rig.backends[0].take_listener()).unwrap();
    let backend = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = next_head(&mut stream).await.unwrap_or_default();
                let kind = match head.starts_with("GET /events") {
                    true => "Content-Type: text/event-stream\r\n",
                    false => "",
                };
                let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{kind}\r\n");
                let answer = [head.into_bytes(), EVENT.repeat(EVENTS)].concat();
                let _ = stream.write_all(&answer).await;
            });
        }
    });
    let is_whole = |answer: &[u8]| {
        let count = memchr::memmem::find_iter(answer, b"data: ").count();
        // One may be cut in two by the border of a chunk.
        answer.ends_with(b"\r\n0\r\n\r\n") && count > EVENTS - 100
    };
    let before = rig.memory();
    for path in ["/events", "/"] {
        assert!(is_whole(&read_all(ask(rig.address, path).await).await));
    }
    let mut deaf = Vec::new();
    for _ in 0..CLIENTS / 2 {
        deaf.push(ask(rig.address, "/events").await);
        deaf.push(ask(rig.address, "/").await);
    }
    // Beside what counts, a client costs some 40 KiB. Without the bound of what is written anew it is 110 MiB.
    let most = peak(&rig, before).await;
    assert!(most < 85 * MIB, "{most} bytes are kept");
    for path in ["/events", "/"] {
        assert!(is_whole(&read_all(ask(rig.address, path).await).await));
    }
    // Those that read after all get all of it.
    for stream in deaf.drain(CLIENTS - 10..) {
        assert!(is_whole(&read_all(stream).await));
    }
    drop(deaf);
    backend.abort();
}

/// A page that the authentication server has for whoever may not pass.
const PAGE: usize = 250_000;

/// Strangers choose how many such pages are on their way at once.
#[lameduck_rig::test(threads = 2)]
async fn answers_of_an_authentication_server_are_bounded_by_max_memory_while_they_arrive() {
    const CLIENTS: usize = 300;
    rlimit::raise_limit();
    let (mut backends, port) = backends(2).await;
    let listener = TcpListener::from_std(backends[1].take_listener()).unwrap();
    let (goes_on, may_go_on) = watch::channel(false);
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut may_go_on = may_go_on.clone();
            tokio::spawn(async move {
                while let Some(head) = next_head(&mut stream).await {
                    let head = head.to_lowercase();
                    let answer = match head.contains("x-forwarded-uri: /long\r\n") {
                        true => format!(
                            "HTTP/1.1 403 Forbidden\r\nX-Frame: 1\r\nCache-Control: private\r\nContent-Length: {PAGE}\r\n\r\n"
                        ),
                        false => "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".to_owned(),
                    };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    if answer.ends_with("no") {
                        continue;
                    }
                    let page = vec![b'p'; PAGE];
                    let (most, last) = page.split_at(PAGE - 1_000);
                    stream.write_all(most).await.unwrap();
                    let _ = may_go_on.wait_for(|goes_on| *goes_on).await;
                    let _ = stream.write_all(last).await;
                }
            });
        }
    });
    let tables = format!(
        "[[route]]\npool = \"app\"\nauth = {{ forward = \"http://{}/\", timeout = \"60s\" }}\n",
        backends[1].address
    );
    let pool = format!(
        "[[pool.backend]]\naddress = \"{}\"\n[pool.health]\nport = {port}\npath = \"/health\"\nrise = 1\n",
        backends[0].address
    );
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir, "max_memory = \"4MiB\"\n", &tables, &pool, backends).await;
    assert_eq!(rig.ask(GET).await.response().await.text(), "no");
    let before = rig.memory();
    let mut strangers = Vec::new();
    for _ in 0..CLIENTS {
        strangers.push(ask(rig.address, "/long").await);
    }
    // Of each answer, 64 KiB are read at a time. Without the bounds it is 260 MiB.
    let most = peak(&rig, before).await;
    assert!(most < 110 * MIB, "{most} bytes are kept");
    assert_eq!(rig.ask(GET).await.response().await.text(), "no");
    goes_on.send(true).unwrap();
    let mut without_page = 0;
    for stream in strangers {
        let answer = read_all(stream).await;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
        assert!(head.contains("cache-control: private\r\n"), "{head}");
        if body.len() != PAGE {
            assert_eq!(body, "Forbidden\n", "{head}");
            without_page += 1;
        }
    }
    // Half of the budget is for no more than 8 pages at once. A slow machine may not have had all of them at once.
    assert!(
        (CLIENTS / 2..CLIENTS).contains(&(without_page as usize)),
        "{without_page}"
    );
    until("all to be counted", async || {
        rig.limited("max_memory").await == without_page
    })
    .await;
    // The memory is there again.
    assert!(read_all(ask(rig.address, "/long").await).await.len() > PAGE);
    server.abort();
}
