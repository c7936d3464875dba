//! Clients that open streams and take nothing, and backends that take nothing of what clients send: all of it together
//! is bounded by `max_memory`, and goes on when it can.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;

use lameduck::server::rlimit;
use lameduck_rig::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PREFACE, SETTINGS,
    WINDOW_UPDATE, frame, opening, settings, window_update,
};
use lameduck_rig::h2_client::{Client, answer, rig, soon};
use lameduck_rig::proxy::{GET as GET_HTTP1, Rig, Setup};
use lameduck_rig::wait::{PATIENCE, until_within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// `GET http://a/` and `POST http://a/`, in HPACK.
const GET: &[u8] = b"\x82\x86\x84\x01\x01a";
const POST: &[u8] = b"\x83\x86\x84\x01\x01a";

const CONNECTIONS: usize = 20;
const STREAMS: u32 = 128;
const MIB: usize = 1 << 20;

/// Gives whoever calls a body of so many bytes, until dropped.
fn serve(rig: &mut Rig, length: usize) -> JoinHandle<()> {
    let listener = TcpListener::from_std(rig.backends[0].take_listener()).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            let answer = [head.into_bytes(), vec![b'x'; length]].concat();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while stream
                    .read_buf(&mut seen)
                    .await
                    .is_ok_and(|count| count > 0)
                {
                    while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                        seen.drain(..end + 4);
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    })
}

/// Connections that ask for all their streams at once, each with this window, and read nothing.
async fn ask_and_read_nothing(rig: &Rig, window: u32) -> Vec<TcpStream> {
    let mut bytes = [PREFACE, &settings(&[(INITIAL_WINDOW_SIZE, window)])].concat();
    bytes.extend(window_update(0, 1 << 30));
    for n in 0..STREAMS {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, GET));
    }
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        // What the kernel takes for a client is not the process's.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = soon(socket.connect(rig.address)).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        connections.push(stream);
    }
    connections
}

/// What the process has at most more than before, in these seconds.
async fn peak(rig: &Rig, before: usize, seconds: u64) -> usize {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(rig.memory().saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{} KiB at most", most / 1024);
    most
}

/// Streams that open no window: each costs a task, a head and two small buffers. Every connection has its first four.
#[lameduck_rig::test(threads = 2)]
async fn streams_without_a_window_are_bounded_by_max_memory() {
    let mut rig = rig("max_memory = \"4MiB\"").await;
    let backend = serve(&mut rig, 4);
    let mut good = Client::new(&rig).await;
    assert_eq!(answer(good.get("/").await).await.text(), "xxxx");
    let connections = ask_and_read_nothing(&rig, 0).await;
    // 4 MiB are 256 streams of 16 KiB; 80 more are the connections' own.
    let all = u64::from(STREAMS) * CONNECTIONS as u64;
    let patience = Duration::from_secs(60);
    until_within("refusals", patience, async || {
        rig.limited("max_memory").await >= all - 400
    })
    .await;
    let refused = rig.limited("max_memory").await;
    assert!((all - 400..=all - 300).contains(&refused), "{refused}");
    for _ in 0..20 {
        assert_eq!(answer(good.get("/").await).await.text(), "xxxx");
    }
    drop(connections);
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
    let again: Vec<_> = {
        let mut waiting = Vec::new();
        for _ in 0..100 {
            waiting.push(good.get("/").await);
        }
        waiting
    };
    for response in again {
        assert_eq!(
            answer(response).await.text(),
            "xxxx",
            "the room is there again"
        );
    }
    backend.abort();
}

/// Windows that are open, and sockets that nobody reads: 30 KB of each answer would wait in the proxy.
#[lameduck_rig::test(threads = 2)]
async fn answers_that_are_not_taken_are_bounded_by_max_memory() {
    let mut rig = rig("max_memory = \"4MiB\"").await;
    let backend = serve(&mut rig, 30_000);
    let mut good = Client::new(&rig).await;
    assert_eq!(answer(good.get("/").await).await.body.len(), 30_000);
    let before = rig.memory();
    let mut connections = ask_and_read_nothing(&rig, 1 << 20).await;
    // Without the bound it is 20 × 128 × 30 KB, or 73 MiB.
    let most = peak(&rig, before, 3).await;
    assert!(most < 24 * MIB, "{most} bytes are kept");
    assert_eq!(answer(good.get("/").await).await.body.len(), 30_000);
    // Those that read after all get what was not refused, to its end.
    let stream = &mut connections[0];
    let mut seen = Vec::new();
    while soon(stream.read_buf(&mut seen)).await.unwrap() > 0 {
        if ends(&seen) >= STREAMS as usize {
            break;
        }
    }
    backend.abort();
}

/// Streams that have ended, with their answer or with a reset.
fn ends(mut seen: &[u8]) -> usize {
    let mut count = 0;
    while seen.len() >= 9 {
        let length = u32::from_be_bytes([0, seen[0], seen[1], seen[2]]) as usize;
        if seen.len() < 9 + length {
            break;
        }
        count += usize::from(seen[3] == 3 || seen[3] == DATA && seen[4] & END_STREAM != 0);
        seen = &seen[9 + length..];
    }
    count
}

/// Bodies that the backend doesn't take yet: the client waits, and all of it arrives.
#[lameduck_rig::test(threads = 2)]
async fn bodies_that_are_not_read_are_bounded_by_max_memory() {
    const CONNECTIONS: usize = 60;
    const BODIES: u32 = 6;
    const PIECES: usize = 15;
    const PIECE: usize = 16_000;
    let mut rig = rig("max_memory = \"4MiB\"").await;
    let listener = TcpListener::from_std(rig.backends[0].take_listener()).unwrap();
    let before = rig.memory();
    let mut bytes = Vec::new();
    for n in 0..BODIES {
        bytes.extend(frame(HEADERS, END_HEADERS, 2 * n + 1, POST));
    }
    for piece in 1..=PIECES {
        for n in 0..BODIES {
            let flags = if piece == PIECES { END_STREAM } else { 0 };
            bytes.extend(frame(DATA, flags, 2 * n + 1, &[b'z'; PIECE]));
        }
    }
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let bytes = bytes.clone();
        sending.spawn(async move {
            stream.write_all(&opening()).await.unwrap();
            // Nobody may send so much before the windows are as large: the connection's grows by itself, those of streams
            // when the client has acknowledged the server's SETTINGS.
            let mut seen = Vec::new();
            while !seen.windows(4).any(|four| four == [0, 4, WINDOW_UPDATE, 0]) {
                assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
            }
            stream
                .write_all(&frame(SETTINGS, ACK, 0, &[]))
                .await
                .unwrap();
            stream.write_all(&bytes).await.unwrap();
            stream
        });
    }
    let mut calls = Vec::new();
    for _ in 0..CONNECTIONS * BODIES as usize {
        let call = tokio::time::timeout(Duration::from_secs(3), listener.accept()).await;
        let Ok(call) = call else { break };
        calls.push(call.unwrap().0);
    }
    // Without the bound it is 60 × 6 × 240 KB, or 82 MiB, but for what the kernel takes.
    let most = peak(&rig, before, 3).await;
    assert!(most < 52 * MIB, "{most} bytes are kept");
    // Now the backend reads, and whoever was not refused comes to an end; some call only now.
    let mut reading = tokio::task::JoinSet::new();
    for call in calls {
        reading.spawn(take_body(call));
    }
    let (mut whole, mut sent) = (0, Vec::new());
    while whole < CONNECTIONS || !reading.is_empty() || !sending.is_empty() {
        tokio::select! {
            call = listener.accept() => drop(reading.spawn(take_body(call.unwrap().0))),
            Some(total) = reading.join_next() => {
                let total = total.unwrap();
                // A connection may be there without a request: opened for one that was refused meanwhile.
                assert!(
                    total == 0 || total >= PIECES * PIECE,
                    "a body has {total} bytes"
                );
                whole += usize::from(total > 0);
            }
            Some(stream) = sending.join_next() => sent.push(stream.unwrap()),
            () = tokio::time::sleep(PATIENCE) => panic!("{whole} were served, and then nobody"),
        }
    }
}

/// Reads a chunked body to its end, and answers; how long it was on the wire.
async fn take_body(mut call: TcpStream) -> usize {
    let (mut total, mut piece) = (0, vec![0; 64 << 10]);
    loop {
        let count = call.read(&mut piece).await.unwrap();
        if count == 0 {
            return total;
        }
        total += count;
        if piece[..count].ends_with(b"0\r\n\r\n") {
            break;
        }
    }
    let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    call.write_all(answer).await.unwrap();
    total
}

/// What a backend that speaks HTTP/2 has for each request.
static PAGE: [u8; 4 * MIB] = [b'y'; 4 * MIB];

/// Such a backend.
fn serve_http2(rig: &mut Rig) -> JoinHandle<()> {
    let listener = TcpListener::from_std(rig.backends[0].take_listener()).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let head = Response::builder().header("content-length", PAGE.len());
                    let head = head.body(()).unwrap();
                    let mut body = respond.send_response(head, false).unwrap();
                    // The proxy may have reset it by now.
                    let _ = body.send_data(Bytes::from_static(&PAGE), true);
                }
            });
        }
    })
}

/// A client that has asked for the page. What the kernel takes for it is not the process's.
async fn ask_for_page(rig: &Rig) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = soon(socket.connect(rig.address)).await.unwrap();
    stream.write_all(GET_HTTP1.as_bytes()).await.unwrap();
    stream
}

/// Takes a page piece by piece, a few seconds long: how much came with its head.
async fn read_slowly(mut stream: TcpStream) -> usize {
    let mut total = 0;
    let mut piece = vec![0; 32 << 10];
    while total < PAGE.len() {
        let count = soon(stream.read(&mut piece)).await.unwrap_or(0);
        if count == 0 {
            break;
        }
        total += count;
        if total / piece.len() > (total - count) / piece.len() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    total
}

/// Every answer of a backend that speaks HTTP/2 may be 128 KiB ahead of its client.
#[lameduck_rig::test(threads = 2)]
async fn answers_of_http2_backends_that_are_not_taken_are_bounded_by_max_memory() {
    const CLIENTS: usize = 800;
    rlimit::raise_limit();
    let mut rig = Rig::new(Setup {
        server: "max_memory = \"4MiB\"",
        pool: "[pool.upstream]\nhttp2 = true\n",
        ..Setup::default()
    })
    .await;
    let backend = serve_http2(&mut rig);
    let whole = async || rig.ask(GET_HTTP1).await.response().await.body.len();
    assert_eq!(whole().await, PAGE.len());
    let before = rig.memory();
    let mut deaf = Vec::new();
    for _ in 0..CLIENTS {
        deaf.push(ask_for_page(&rig).await);
    }
    // Without the bound it is 800 × 128 KiB, or 100 MiB.
    let most = peak(&rig, before, 3).await;
    println!("{} were cut", rig.limited("max_memory").await);
    assert!(most < 64 * MIB, "{most} bytes are kept");
    for _ in 0..3 {
        assert_eq!(whole().await, PAGE.len());
    }
    // Somebody who comes now has no more on its way than may wait: no others' answers cost any of it.
    let total = read_slowly(ask_for_page(&rig).await).await;
    assert!(
        total >= PAGE.len(),
        "a client that reads was cut at {total} bytes"
    );
    drop(deaf);
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
    assert_eq!(whole().await, PAGE.len());
    backend.abort();
}

/// A backend that speaks HTTP/2, opens its windows wide, and reads while it may. It counts the calls, and answers with the
/// length of what was sent.
fn take_http2(
    rig: &mut Rig,
    may_read: watch::Receiver<bool>,
    calls: watch::Sender<usize>,
) -> JoinHandle<()> {
    let listener = TcpListener::from_std(rig.backends[0].take_listener()).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take_session(stream, may_read.clone(), calls.clone()));
        }
    })
}

async fn take_session(
    stream: TcpStream,
    mut may_read: watch::Receiver<bool>,
    calls: watch::Sender<usize>,
) {
    let mut windows = h2::server::Builder::new();
    windows
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 30)
        .max_concurrent_streams(10_000);
    let connection = windows.handshake::<_, Bytes>(stream).await;
    let mut connection = connection.unwrap();
    loop {
        if may_read.wait_for(|may| *may).await.is_err() {
            return;
        }
        let call = tokio::select! {
            _ = may_read.wait_for(|may| !*may) => continue,
            call = connection.accept() => call,
        };
        let Some(Ok((request, mut respond))) = call else {
            return;
        };
        calls.send_modify(|calls| *calls += 1);
        tokio::spawn(async move {
            let mut body = request.into_body();
            let mut total = 0;
            while let Some(piece) = body.data().await {
                let Ok(piece) = piece else { return };
                let count = piece.len();
                body.flow_control().release_capacity(count).unwrap();
                total += count;
            }
            let mut answer = respond.send_response(Response::new(()), false).unwrap();
            answer.send_data(total.to_string().into(), true).unwrap();
        });
    }
}

/// Content that a backend's windows allow, and that its sockets don't take, waits in the proxy.
#[lameduck_rig::test(threads = 2)]
async fn bodies_that_http2_backends_do_not_read_are_bounded_by_max_memory() {
    const CLIENTS: usize = 800;
    static BODY: [u8; 150_000] = [b'z'; 150_000];
    rlimit::raise_limit();
    let mut rig = Rig::new(Setup {
        server: "max_memory = \"4MiB\"",
        pool: "[pool.upstream]\nhttp2 = true\n",
        tables: "[[route]]\npath = \"/short\"\nrespond = { body = \"short\" }\n[[route]]\npool = \"app\"\n",
        ..Setup::default()
    })
    .await;
    let (reads, may_read) = watch::channel(true);
    let (calls, mut called) = watch::channel(0);
    let backend = take_http2(&mut rig, may_read, calls);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        BODY.len()
    );
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(rig.ask(&head).await);
    }
    soon(called.wait_for(|calls| *calls == CLIENTS))
        .await
        .unwrap();
    reads.send(false).unwrap();
    let before = rig.memory();
    let mut uploads = tokio::task::JoinSet::new();
    for mut client in clients {
        uploads.spawn(async move {
            client.send(&BODY[..]).await;
            client.response().await.text().to_owned()
        });
    }
    // Without the bound it is 800 × 64 KiB, or 50 MiB, beside what counts.
    let most = peak(&rig, before, 3).await;
    assert!(most < 32 * MIB, "{most} bytes are kept");
    for _ in 0..20 {
        let mut short = rig.ask("GET /short HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(short.response().await.text(), "short");
    }
    // Now the backend reads, and nobody has lost anything.
    reads.send(true).unwrap();
    while let Some(total) = uploads.join_next().await {
        assert_eq!(total.unwrap(), BODY.len().to_string());
    }
    backend.abort();
}
