//! Hosts and targets that few types hold, from either protocol to either: what HTTP/1 carries, HTTP/2 does. (Every byte of
//! a target: `tests/conformance/sweep`.)

use lameduck::proxy::h2::frame_header::{
    END_HEADERS, END_STREAM, FRAME_HEADER, FrameHeader, HEADERS, put_block,
};
use lameduck::proxy::h2::hpack::{BlockPiece, BlockReader, FieldBuffer, FieldTable, put_literal};
use lameduck_rig::frames::{
    CONTINUATION, GOAWAY, RST_STREAM, SETTINGS, frame, opening, window_update,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::fake::HTTP2;
use lameduck_rig::h2_client::{Client, answer, get, soon};
use lameduck_rig::proxy::{Rig, Setup};

/// One side of a connection, frame by frame.
struct Frames {
    stream: TcpStream,
    seen: Vec<u8>,
    table: FieldTable,
}

impl Frames {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            seen: Vec::new(),
            table: FieldTable::default(),
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        soon(self.stream.write_all(bytes)).await.unwrap();
    }

    /// The next frame, and its payload; `None`: the connection is closed.
    async fn next(&mut self) -> Option<(FrameHeader, Vec<u8>)> {
        loop {
            if let Some(header) = FrameHeader::parse(&self.seen)
                && self.seen.len() >= header.size()
            {
                let frame: Vec<u8> = self.seen.drain(..header.size()).collect();
                return Some((header, frame[FRAME_HEADER..].to_vec()));
            }
            let read = self.stream.read_buf(&mut self.seen).await;
            if !read.is_ok_and(|count| count > 0) {
                return None;
            }
        }
    }

    /// The next head; `None`: its stream was reset, or the connection is closed.
    async fn head(&mut self) -> Option<(u32, bool, Vec<(Vec<u8>, Vec<u8>)>)> {
        let mut block = Vec::new();
        let mut first = None;
        loop {
            let (header, payload) = self.next().await?;
            match header.kind {
                HEADERS | CONTINUATION => {
                    first.get_or_insert((header.stream, header.has(END_STREAM)));
                    block.extend_from_slice(&payload);
                    if header.has(END_HEADERS) {
                        break;
                    }
                }
                SETTINGS if header.flags == 0 => self.send(&frame(SETTINGS, 1, 0, &[])).await,
                RST_STREAM | GOAWAY => return None,
                _ => {}
            }
        }
        let (mut reader, mut field) = (BlockReader::new(&block), FieldBuffer::default());
        let mut fields = Vec::new();
        while let Some(piece) = reader.next_piece(&mut self.table, &mut field).unwrap() {
            let (name, value) = match piece {
                BlockPiece::Indexed(index) => self.table.get(index).unwrap(),
                BlockPiece::Literal => field.parts(),
                BlockPiece::Resize => continue,
            };
            fields.push((name.to_vec(), value.to_vec()));
        }
        let (stream, is_last) = first?;
        Some((stream, is_last, fields))
    }
}

fn value<'a>(fields: &'a [(Vec<u8>, Vec<u8>)], wanted: &str) -> Option<&'a [u8]> {
    let found = fields.iter().find(|(name, _)| name == wanted.as_bytes());
    found.map(|(_, value)| value.as_slice())
}

/// A backend of HTTP/2 whose answer has the target and the authority as it got them.
fn echo_http2(listener: TcpListener) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut frames = Frames::new(stream);
                let mut preface = [0; 24];
                frames.stream.read_exact(&mut preface).await.unwrap();
                frames.send(&frame(SETTINGS, 0, 0, &[])).await;
                while let Some((stream, _, fields)) = frames.head().await {
                    for (name, _) in &fields {
                        let name = String::from_utf8_lossy(name);
                        assert!(!name.starts_with("carried"), "{name} has left the process");
                    }
                    let mut block = vec![0x88];
                    let path = value(&fields, ":path").unwrap();
                    put_literal(&mut block, b"x-target", path);
                    let host = value(&fields, ":authority").unwrap_or(b"none");
                    put_literal(&mut block, b"x-host", host);
                    let scheme = value(&fields, ":scheme").unwrap();
                    put_literal(&mut block, b"x-scheme", scheme);
                    let mut out = Vec::new();
                    put_block(&mut out, stream, true, &block);
                    frames.send(&out).await;
                }
            });
        }
    })
}

/// The same of HTTP/1.
fn echo_http1(listener: TcpListener) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while stream
                    .read_buf(&mut head)
                    .await
                    .is_ok_and(|count| count > 0)
                {
                    let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                        continue;
                    };
                    let taken: Vec<u8> = head.drain(..end + 4).collect();
                    let line = taken.split(|byte| *byte == b'\r').next().unwrap();
                    let target = &line[b"GET ".len()..line.len() - b" HTTP/1.1".len()];
                    let host = taken.split(|byte| *byte == b'\n').find_map(|line| {
                        let name = line.get(..6)?.to_ascii_lowercase();
                        (name == b"host: ").then(|| line[6..line.len() - 1].to_vec())
                    });
                    let answer = [
                        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx-target: ",
                        target,
                        b"\r\nx-scheme: http\r\nx-host: ",
                        &host.unwrap(),
                        b"\r\n\r\n",
                    ];
                    stream.write_all(&answer.concat()).await.unwrap();
                }
            });
        }
    })
}

/// What a client got: the status, and what the backend says it was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Echo {
    status: u16,
    target: Vec<u8>,
    host: Vec<u8>,
}

/// A client that can say anything.
enum Asker {
    Http1(std::net::SocketAddr),
    Http2(Box<Frames>, u32),
}

impl Asker {
    async fn new(rig: &Rig, is_http2: bool) -> Self {
        if !is_http2 {
            return Self::Http1(rig.address);
        }
        let mut frames = Frames::new(TcpStream::connect(rig.address).await.unwrap());
        frames.send(&opening()).await;
        frames.send(&window_update(0, 1 << 24)).await;
        Self::Http2(Box::new(frames), 1)
    }

    /// `None`: no answer, but an error of the stream.
    async fn ask(&mut self, target: &[u8], host: &[u8]) -> Option<Echo> {
        match self {
            Self::Http1(address) => {
                let mut stream = TcpStream::connect(*address).await.unwrap();
                let request = [
                    b"GET ",
                    target,
                    b" HTTP/1.1\r\nConnection: close\r\nHost: ",
                    host,
                    b"\r\n\r\n",
                ];
                stream.write_all(&request.concat()).await.unwrap();
                let mut answer = Vec::new();
                soon(stream.read_to_end(&mut answer)).await.unwrap();
                let field = |wanted: &[u8]| {
                    let mut lines = answer.split(|byte| *byte == b'\n');
                    let line = lines.find(|line| line.starts_with(wanted));
                    line.map(|line| line[wanted.len()..line.len() - 1].to_vec())
                };
                Some(Echo {
                    status: std::str::from_utf8(&answer[9..12])
                        .unwrap()
                        .parse()
                        .unwrap(),
                    target: field(b"x-target: ").unwrap_or_default(),
                    host: field(b"x-host: ").unwrap_or_default(),
                })
            }
            Self::Http2(frames, next) => {
                let mut block = Vec::new();
                put_literal(&mut block, b":method", b"GET");
                put_literal(&mut block, b":scheme", b"http");
                put_literal(&mut block, b":authority", host);
                put_literal(&mut block, b":path", target);
                let mut out = Vec::new();
                put_block(&mut out, *next, true, &block);
                *next += 2;
                frames.send(&out).await;
                let (_, _, fields) = soon(frames.head()).await?;
                let text = std::str::from_utf8(value(&fields, ":status").unwrap()).unwrap();
                let own = |name| value(&fields, name).unwrap_or_default().to_vec();
                Some(Echo {
                    status: text.parse().unwrap(),
                    target: own("x-target"),
                    host: own("x-host"),
                })
            }
        }
    }
}

/// A proxy in front of one backend that says what it was asked for.
async fn echo_rig(is_http2: bool) -> (Rig, JoinHandle<()>) {
    let mut rig = Rig::new(Setup {
        pool: if is_http2 { HTTP2 } else { "" },
        server: "max_header = \"256KiB\"\nmax_uri = \"128KiB\"",
        tables: "http2 = true",
        ..Setup::default()
    })
    .await;
    let listener = TcpListener::from_std(rig.backends[0].take_listener()).unwrap();
    let server = match is_http2 {
        true => echo_http2(listener),
        false => echo_http1(listener),
    };
    (rig, server)
}

/// Hosts and lengths that the `http` crate refuses, and HTTP/1 doesn't.
#[lameduck_rig::test]
async fn odd_hosts_and_long_targets_go_from_each_protocol_to_each() {
    let long = [b"/<", &[b'x'; 70_000][..]].concat();
    for (from, to) in [(false, false), (false, true), (true, false), (true, true)] {
        let (rig, server) = echo_rig(to).await;
        let mut asker = Asker::new(&rig, from).await;
        for (target, host) in [
            (&b"/"[..], &b"a%20b"[..]),
            (b"/`", b"a%20b:80"),
            (b"/<", b"a"),
            (b"/", b"a"),
            (&long, b"a"),
        ] {
            let what = format!("{from} to {to}: {}", host.escape_ascii());
            let got = asker.ask(target, host).await.unwrap();
            assert_eq!((got.status, &got.host[..]), (200, host), "{what}");
            assert!(got.target == target, "{what}");
        }
        // What no host is, is an answer with a line.
        let got = asker.ask(b"/", b"a<b").await.unwrap();
        assert_eq!(got.status, 400);
        let log = rig.access_log(6).await;
        assert_eq!(log[5]["end"], "refused", "{log:#?}");
        server.abort();
    }
}

/// The fields that carry a target are nobody's to send, and the table of a backend's decoder stays right.
#[lameduck_rig::test]
async fn plain_and_odd_targets_share_a_session() {
    let (rig, server) = echo_rig(true).await;
    let mut client = Client::new(&rig).await;
    let mut odd = Asker::new(&rig, true).await;
    for n in 0..20 {
        let mut request = get(&format!("/plain/{n}"));
        let value = format!("value-{n}").parse().unwrap();
        request.headers_mut().insert("x-own", value);
        let (response, _) = client.begin(request, true).await;
        let plain = answer(response).await;
        assert_eq!(plain.field("x-target"), Some(&*format!("/plain/{n}")));
        let target = format!("/<odd>/{n}");
        let got = odd.ask(target.as_bytes(), b"a").await.unwrap();
        assert_eq!(got.target, target.as_bytes());
    }
    server.abort();
}
