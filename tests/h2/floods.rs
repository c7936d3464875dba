//! What is cheap to send and dear to take (RFC 9113 §10.5), as raw frames; others are served meanwhile.

use std::time::Duration;

use h2::client::Builder;
use lameduck_rig::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, PING, PREFACE,
    PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, opening,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use lameduck_rig::h2_client::{Client, answer, post, rig, soon, try_answer};
use lameduck_rig::process::has_read_all;
use lameduck_rig::proxy::Rig;
use lameduck_rig::wait::until;

use super::counts::{was_limited, were_refused};

/// `GET http://a/`, in HPACK.
const GET: &[u8] = b"\x82\x86\x84\x01\x01a";
const POST: &[u8] = b"\x83\x86\x84\x01\x01a";

/// Sends the beginning, then the flood until nobody takes it any more; the code of the GOAWAY.
async fn flood(rig: &Rig, begin: Vec<u8>, mut next: impl FnMut(u32) -> Vec<u8>) -> Option<u32> {
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let goaway = tokio::spawn(async move {
        let mut seen = Vec::new();
        let _ = read.read_to_end(&mut seen).await;
        goaway(&seen)
    });
    let mut bytes = opening();
    bytes.extend(begin);
    for n in 0..300 {
        for m in 0..1000 {
            bytes.extend(next(n * 1000 + m));
        }
        if soon(write.write_all(&bytes)).await.is_err() || goaway.is_finished() {
            break;
        }
        bytes.clear();
    }
    drop(write);
    soon(goaway).await.unwrap()
}

/// The last GOAWAY's code.
fn goaway(mut seen: &[u8]) -> Option<u32> {
    let mut code = None;
    while seen.len() >= 9 {
        let length = u32::from_be_bytes([0, seen[0], seen[1], seen[2]]) as usize;
        let payload = seen.get(9..9 + length)?;
        if seen[3] == 7 {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        seen = &seen[9 + length..];
    }
    code
}

/// Serves whoever calls, until dropped.
pub fn serve(rig: &mut Rig) -> tokio::task::JoinHandle<()> {
    let listener = rig.backends[0].take_listener();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while stream
                    .read_buf(&mut head)
                    .await
                    .is_ok_and(|count| count > 0)
                {
                    while let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                        head.drain(..end + 4);
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    })
}

#[lameduck_rig::test(threads = 2)]
async fn floods_end_with_goaway_and_others_are_served() {
    let mut rig = rig("").await;
    let backend = serve(&mut rig);
    let mut good = Client::new(&rig).await;
    let open = frame(HEADERS, END_HEADERS, 1, POST);
    type Next = fn(u32) -> Vec<u8>;
    let floods: [(&str, Vec<u8>, Next); 8] = [
        ("SETTINGS", vec![], |_| frame(SETTINGS, 0, 0, &[])),
        ("PING", vec![], |_| frame(PING, 0, 0, &[0; 8])),
        ("PRIORITY", vec![], |_| {
            frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])
        }),
        ("empty DATA", open.clone(), |_| frame(DATA, 0, 1, &[])),
        ("WINDOW_UPDATE", open, |_| {
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])
        }),
        ("unknown frames", vec![], |_| frame(0xfa, 0, 0, &[])),
        ("CONTINUATION", frame(HEADERS, 0, 1, GET), |_| {
            frame(CONTINUATION, 0, 1, &[])
        }),
        ("rapid reset", vec![], |n| {
            let mut pair = frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, GET);
            pair.extend(frame(RST_STREAM, 0, 2 * n + 1, &8u32.to_be_bytes()));
            pair
        }),
    ];
    for (name, begin, next) in floods {
        let flooding = flood(&rig, begin, next);
        let serving = async {
            for _ in 0..20 {
                let response = good.get("/").await;
                assert_eq!(answer(response).await.text(), "here", "{name}");
            }
        };
        let (code, ()) = tokio::join!(flooding, serving);
        assert_eq!(code, Some(ENHANCE_YOUR_CALM), "{name}");
    }
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
    were_refused(&rig, "too many HTTP/2 frames without use", 8).await;
    backend.abort();
}

/// Reads on until the connection has ended or so many streams were reset: how many were, and the GOAWAY's code.
async fn until_reset(
    stream: &mut TcpStream,
    seen: &mut Vec<u8>,
    streams: usize,
) -> (usize, Option<u32>) {
    loop {
        let (resets, code) = (resets(seen), goaway(seen));
        if resets >= streams || code.is_some() {
            return (resets, code);
        }
        match soon(stream.read_buf(seen)).await {
            Ok(count) if count > 0 => {}
            _ => return (resets, code),
        }
    }
}

/// How many RST_STREAM frames there are.
fn resets(mut seen: &[u8]) -> usize {
    let mut count = 0;
    while seen.len() >= 9 {
        let length = u32::from_be_bytes([0, seen[0], seen[1], seen[2]]) as usize;
        count += usize::from(seen[3] == 3);
        seen = seen.get(9 + length..).unwrap_or_default();
    }
    count
}

/// Whatever a client makes us reset counts as if it had reset it itself (CVE-2025-8671), and no backend hears of it.
#[lameduck_rig::test(threads = 2)]
async fn provoked_resets_end_the_connection_and_reach_no_backend() {
    const BATCH: u32 = 50;
    let mut rig = rig("max_stream_resets = 100").await;
    let backend = serve(&mut rig);
    type Provoke = fn(u32) -> Vec<u8>;
    let ways: [(&str, Provoke); 4] = [
        ("window overflow", |stream| {
            let mut frames = frame(HEADERS, END_HEADERS | END_STREAM, stream, GET);
            frames.extend(frame(
                WINDOW_UPDATE,
                0,
                stream,
                &0x7fff_ffff_u32.to_be_bytes(),
            ));
            frames
        }),
        ("content beyond its length", |stream| {
            let head = [POST, b"\x0f\x0d\x01\x31"].concat();
            let mut frames = frame(HEADERS, END_HEADERS, stream, &head);
            frames.extend(frame(DATA, END_STREAM, stream, b"22"));
            frames
        }),
        ("trailers without an end", |stream| {
            let mut frames = frame(HEADERS, END_HEADERS, stream, POST);
            frames.extend(frame(HEADERS, END_HEADERS, stream, b"\x00\x01x\x01y"));
            frames
        }),
        ("field of a connection", |stream| {
            let head = [GET, b"\x00\x0aconnection\x05close"].concat();
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)
        }),
    ];
    for (name, provoke) in ways {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let mut bytes = opening();
        let mut seen = Vec::new();
        let mut ended = (0, None);
        for batch in 0..20 {
            bytes.extend((0..BATCH).flat_map(|n| provoke(2 * (batch * BATCH + n) + 1)));
            if stream.write_all(&bytes).await.is_err() {
                break;
            }
            bytes.clear();
            ended = until_reset(&mut stream, &mut seen, ((batch + 1) * BATCH) as usize).await;
            if ended.1.is_some() {
                break;
            }
        }
        assert_eq!(ended.1, Some(ENHANCE_YOUR_CALM), "{name}: {ended:?}");
        assert!(ended.0 <= 3 * BATCH as usize, "{name}: {ended:?}");
    }
    were_refused(&rig, "too many HTTP/2 frames without use", 4).await;
    let served = rig.view(0).await.requests;
    assert_eq!(served, 0, "{served} requests reached the backend");
    backend.abort();
}

/// A little HPACK is a lot of header: what the requests of one connection may keep is bounded, others are served
/// meanwhile, and the memory is given back.
#[lameduck_rig::test(threads = 2)]
async fn decoded_headers_of_a_connection_are_bounded() {
    const CONNECTIONS: usize = 10;
    const STREAMS: u32 = 128;
    const MIB: usize = 1 << 20;
    let mut rig = rig("").await;
    let backend = serve(&mut rig);
    let mut good = Client::new(&rig).await;
    assert_eq!(answer(good.get("/").await).await.text(), "here");
    let before = rig.memory();
    // `content-length: 1000`, and what is 62 in the dynamic table once it is there.
    let mut bytes = opening();
    for n in 0..STREAMS {
        let mut head = [POST, b"\x0f\x0d\x041000"].concat();
        if n == 0 {
            // 3,900 is 127 + 3,773 in seven bits.
            head.extend(b"\x40\x01x\x7f\xbd\x1d");
            head.extend([b'a'; 3_900]);
        }
        let missing = 15 - usize::from(n == 0);
        head.extend(vec![0xbe; missing]);
        bytes.extend(frame(HEADERS, END_HEADERS, 2 * n + 1, &head));
    }
    let mut attackers = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut seen = Vec::new();
        let (refused, code) = until_reset(&mut stream, &mut seen, 115).await;
        assert!(
            refused >= 115 && code.is_none(),
            "{refused} refused, {code:?}"
        );
        assert_eq!(answer(good.get("/").await).await.text(), "here");
        attackers.push(stream);
    }
    // Without the bound it is 10 × 128 × 58.5 KiB, or 73 MiB.
    let kept = rig.memory().saturating_sub(before);
    println!("{} KiB for each connection", kept / CONNECTIONS / 1024);
    assert!(kept < 16 * MIB, "{kept} bytes are kept");
    assert!(rig.limited("max_memory_per_connection").await >= 1_150);
    drop(attackers);
    until("the memory to be given back", async || {
        assert_eq!(answer(good.get("/").await).await.text(), "here");
        rig.memory() < before + 6 * MIB
    })
    .await;
    backend.abort();
}

/// `header_timeout`: a preface, or a header block, that never ends.
#[lameduck_rig::test]
async fn preface_or_head_that_never_ends_is_ended_by_header_timeout() {
    let rig = rig("header_timeout = \"1s\"").await;
    let mut block = opening();
    block.extend(frame(HEADERS, 0, 1, GET));
    let mut part = block.clone();
    part.truncate(part.len() - 3);
    let each = [
        (&PREFACE[..10], None),
        (&block, Some(ENHANCE_YOUR_CALM)),
        (&part, Some(ENHANCE_YOUR_CALM)),
    ];
    futures_util::future::join_all(each.map(async |(bytes, code)| {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut seen = Vec::new();
        soon(stream.read_to_end(&mut seen)).await.unwrap();
        assert_eq!(goaway(&seen), code);
    }))
    .await;
    was_limited(&rig, "header_timeout", 3).await;
}

/// Streams beyond the limit are refused, and can be sent again; those within it are served.
#[lameduck_rig::test]
async fn streams_beyond_the_limit_are_refused() {
    let rig = rig("max_concurrent_streams = 2").await;
    let mut bytes = opening();
    for stream in [1, 3, 5] {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, GET));
    }
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let refused = frame(RST_STREAM, 0, 5, &7u32.to_be_bytes());
    let mut seen = Vec::new();
    while !seen.windows(refused.len()).any(|window| window == refused) {
        assert!(soon(stream.read_buf(&mut seen)).await.unwrap() > 0);
    }
    let mut served = Vec::new();
    for _ in 0..2 {
        let mut backend = rig.backends[0].accept().await;
        backend.head().await;
        served.push(backend);
    }
    assert!(
        !rig.backends[0]
            .is_called(lameduck_rig::h2_client::A_MOMENT)
            .await
    );
}

/// Requests that are none in HTTP/2 have no line of their own, so they are counted.
#[lameduck_rig::test]
async fn malformed_requests_are_counted() {
    let rig = rig("").await;
    let with = |field: &[u8]| [GET, field].concat();
    let heads: [(&str, Vec<u8>); 10] = [
        (
            "a control in :path",
            b"\x82\x86\x04\x03/a\x01\x01\x01a".to_vec(),
        ),
        ("DEL in :path", b"\x82\x86\x04\x03/a\x7f\x01\x01a".to_vec()),
        ("CR LF in :path", b"\x82\x86\x04\x03/\r\n\x01\x01a".to_vec()),
        ("NUL in :authority", b"\x82\x86\x84\x01\x02a\0".to_vec()),
        (
            "a blank in :method",
            b"\x02\x03G T\x86\x84\x01\x01a".to_vec(),
        ),
        (
            "CR LF in :scheme",
            b"\x82\x06\x03h\r\n\x84\x01\x01a".to_vec(),
        ),
        ("no :path", b"\x82\x86\x01\x01a".to_vec()),
        ("two :path", with(b"\x84")),
        (
            "a pseudo-header field that nobody knows",
            with(b"\x00\x03:no\x01a"),
        ),
        ("a control in a value", with(b"\x00\x01x\x01\x01")),
    ];
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(&opening()).await.unwrap();
    let mut seen = Vec::new();
    for (number, (name, head)) in heads.iter().enumerate() {
        let id = 2 * number as u32 + 1;
        let request = frame(HEADERS, END_HEADERS | END_STREAM, id, head);
        stream.write_all(&request).await.unwrap();
        let (resets, code) = until_reset(&mut stream, &mut seen, number + 1).await;
        assert_eq!((resets, code), (number + 1, None), "{name}");
        // It is counted once the reset has gone out.
        were_refused(&rig, "malformed HTTP/2 request", number as u64 + 1).await;
    }
    assert_eq!(rig.refused("malformed HTTP/2 request").await, 10);
}

/// 10,000 requests on one connection, a third of them cancelled at any moment: nothing is left behind.
#[lameduck_rig::test(threads = 2)]
async fn cancelled_requests_leave_nothing_behind() {
    let mut rig = rig("").await;
    let backend = serve(&mut rig);
    let mut client = Client::with(&rig, Builder::new().max_concurrent_reset_streams(1000)).await;
    let mut running = tokio::task::JoinSet::new();
    for n in 0..10_000u32 {
        let (response, mut body) = client.begin(post("/"), n % 3 != 0).await;
        running.spawn(async move {
            if n % 3 == 0 {
                for _ in 0..n % 7 {
                    tokio::task::yield_now().await;
                }
                if n % 2 == 0 {
                    tokio::time::sleep(Duration::from_micros(u64::from(n % 1000))).await;
                }
                body.send_reset(h2::Reason::CANCEL);
                drop(response);
            } else {
                assert_eq!(try_answer(response).await.unwrap().text(), "here");
            }
        });
        while running.len() > 90 {
            running.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    rig.until("nothing in flight", |pool| pool.backends[0].in_flight == 0)
        .await;
    let quick = client.get("/").await;
    assert_eq!(answer(quick).await.text(), "here");
    backend.abort();
}

/// Streams that wait for a slow backend: many, and each of them small.
#[lameduck_rig::test(threads = 2)]
async fn idle_streams_are_many_and_small() {
    const CONNECTIONS: usize = 10;
    const STREAMS: usize = 100;
    let mut rig = rig("").await;
    let listener = rig.backends[0].take_listener();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let mut clients = Vec::new();
    let mut waiting = Vec::new();
    let mut backends = Vec::new();
    let mut before = 0;
    for n in 0..CONNECTIONS {
        let mut client = Client::new(&rig).await;
        for _ in 0..STREAMS {
            waiting.push(client.get("/wait").await);
            backends.push(soon(listener.accept()).await.unwrap().0);
        }
        clients.push(client);
        if n == 0 {
            before = rig.memory();
        }
    }
    let each = rig.memory().saturating_sub(before) / ((CONNECTIONS - 1) * STREAMS);
    println!("{each} bytes for each waiting stream");
    assert!(each < 48 << 10, "{each} bytes for each waiting stream");
    for mut backend in backends {
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nhere";
        backend.write_all(answer).await.unwrap();
        let _ = backend.read(&mut [0; 4096]).await;
    }
    for response in waiting {
        assert_eq!(answer(response).await.text(), "here");
    }
}

/// A header block in two frames, with a pause between them: the log counts from its first byte.
#[lameduck_rig::test]
async fn request_is_measured_from_its_header_block_s_first_byte() {
    let mut rig = rig("").await;
    let served = serve(&mut rig);
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let mut bytes = opening();
    bytes.extend(frame(HEADERS, END_STREAM, 1, &GET[..3]));
    stream.write_all(&bytes).await.unwrap();
    let client = stream.local_addr().unwrap();
    until("the proxy to read it", async || {
        has_read_all(rig.address, client)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    // Another request right behind it is not taken for as slow: it began later.
    let mut bytes = frame(CONTINUATION, END_HEADERS, 1, &GET[3..]);
    let next = b"\x82\x86\x04\x05/next\x01\x01a";
    bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 3, next));
    stream.write_all(&bytes).await.unwrap();
    let lines = rig.access_log(2).await;
    let line_of = |target: &str| {
        let line = lines.iter().find(|line| line["target"] == target);
        line.unwrap_or_else(|| panic!("no {target} in {lines:?}"))
    };
    let (slow, quick) = (line_of("/"), line_of("/next"));
    assert!(slow["duration_ms"].as_f64() >= Some(390.0), "{slow}");
    let began = |line: &serde_json::Value| {
        humantime::parse_rfc3339(line["time"].as_str().unwrap()).unwrap()
    };
    let apart = began(quick).duration_since(began(slow)).unwrap();
    assert!(apart >= Duration::from_millis(390), "{slow}\n{quick}");
    served.abort();
}
