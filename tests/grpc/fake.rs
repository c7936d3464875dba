//! A backend that speaks HTTP/2 frame by frame, so that it can do what no server should.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use lameduck_rig::h2_client::soon;
use lameduck_rig::proxy::{Rig, Setup};

pub const CANCEL: u32 = 8;
pub const INTERNAL_ERROR: u32 = 2;
pub const NO_ERROR: u32 = 0;
pub const REFUSED_STREAM: u32 = 7;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;

/// `SETTINGS_MAX_CONCURRENT_STREAMS` and `SETTINGS_INITIAL_WINDOW_SIZE`.
pub const MAX_STREAMS: u16 = 3;
pub const WINDOW: u16 = 4;

/// A proxy whose backends speak HTTP/2, and their listeners.
pub async fn rig(backends: usize, pool: &'static str) -> (Rig, Vec<TcpListener>) {
    rig_of(Setup {
        backends,
        pool,
        ..Setup::default()
    })
    .await
}

/// The same, set up otherwise.
pub async fn rig_of(setup: Setup) -> (Rig, Vec<TcpListener>) {
    let mut rig = Rig::new(Setup {
        tables: "http2 = true",
        ..setup
    })
    .await;
    let listeners = rig.backends.iter_mut().map(|backend| {
        let listener = backend.take_listener();
        TcpListener::from_std(listener).unwrap()
    });
    let listeners = listeners.collect();
    (rig, listeners)
}

/// What pools need for it.
pub const HTTP2: &str = "[pool.upstream]\nhttp2 = true\nidle_timeout = \"20s\"\n";

/// What came from the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A request on this stream; whether it is complete.
    Request(u32, bool),
    /// A piece of its body; whether it is the last.
    Data(u32, Vec<u8>, bool),
    /// It was reset, with this code.
    Reset(u32, u32),
    /// More may be sent: on this stream, or, for 0, on all.
    Window(u32, u32),
    /// No more requests are coming.
    GoAway,
    /// The connection is closed.
    Closed,
}

/// One connection of the proxy.
pub struct Fake {
    stream: TcpStream,
    waiting: VecDeque<Event>,
}

impl Fake {
    /// The next one, told these settings.
    pub async fn accept(listener: &TcpListener, settings: &[(u16, u32)]) -> Self {
        let mut fake = Self::accept_silently(listener).await;
        fake.settle(settings).await;
        fake
    }

    /// The next one, told nothing yet.
    pub async fn accept_silently(listener: &TcpListener) -> Self {
        let (stream, _) = soon(listener.accept()).await.unwrap();
        Self::greet(stream).await
    }

    /// One that was accepted, once it has said what it speaks.
    pub async fn greet(mut stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        let mut preface = [0; 24];
        soon(stream.read_exact(&mut preface)).await.unwrap();
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        Self {
            stream,
            waiting: VecDeque::new(),
        }
    }

    /// Sends the first frames, then the others again and again, until the proxy has closed the connection.
    pub async fn flood(&mut self, begin: &[u8], next: &[u8]) {
        let batch = next.repeat(1000);
        let (mut read, mut write) = self.stream.split();
        let closed = async {
            let mut space = [0; 4096];
            while read.read(&mut space).await.is_ok_and(|count| count > 0) {}
        };
        let flooding = async {
            let mut written = write.write_all(begin).await;
            while written.is_ok() {
                written = write.write_all(&batch).await;
            }
        };
        soon(async {
            tokio::select! {
                () = closed => {}
                () = flooding => {}
            }
        })
        .await;
    }

    pub async fn settle(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        self.frame(SETTINGS, 0, 0, &payload).await;
        // The proxy makes room for all of its streams first.
        let first = soon(self.read()).await;
        assert!(matches!(first, Event::Window(0, _)), "{first:?}");
    }

    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        soon(self.stream.write_all(&frame)).await.unwrap();
    }

    /// The next thing of interest.
    pub async fn next(&mut self) -> Event {
        match self.waiting.pop_front() {
            Some(event) => event,
            None => soon(self.read()).await,
        }
    }

    /// The next one that this function wants; the others wait.
    pub async fn until<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        for index in 0..self.waiting.len() {
            if let Some(found) = wanted(&self.waiting[index]) {
                self.waiting.remove(index);
                return found;
            }
        }
        loop {
            let event = soon(self.read()).await;
            if let Some(found) = wanted(&event) {
                return found;
            }
            assert_ne!(event, Event::Closed, "closed; seen: {:?}", self.waiting);
            self.waiting.push_back(event);
        }
    }

    /// Whether anything comes within `patience`.
    pub async fn next_within(&mut self, patience: Duration) -> Option<Event> {
        match self.waiting.pop_front() {
            Some(event) => Some(event),
            None => tokio::time::timeout(patience, self.read()).await.ok(),
        }
    }

    /// The next request's stream, and its whole body.
    pub async fn request(&mut self) -> (u32, String) {
        let (id, mut whole) = self
            .until(|event| match event {
                Event::Request(id, whole) => Some((*id, *whole)),
                _ => None,
            })
            .await;
        let mut body = Vec::new();
        while !whole {
            let (data, last) = self
                .until(|event| match event {
                    Event::Data(of, data, last) if *of == id => Some((data.clone(), *last)),
                    _ => None,
                })
                .await;
            body.extend(data);
            whole = last;
        }
        (id, String::from_utf8(body).unwrap())
    }

    /// The stream of the next request, whose body may be on its way.
    pub async fn began(&mut self) -> u32 {
        self.until(|event| match event {
            Event::Request(id, _) => Some(*id),
            _ => None,
        })
        .await
    }

    /// How long the next piece of this stream's body is.
    pub async fn piece(&mut self, id: u32) -> usize {
        self.until(|event| match event {
            Event::Data(of, data, _) if *of == id => Some(data.len()),
            _ => None,
        })
        .await
    }

    /// The code that this stream is reset with.
    pub async fn reset_of(&mut self, id: u32) -> u32 {
        self.until(|event| match event {
            Event::Reset(of, code) if *of == id => Some(*code),
            _ => None,
        })
        .await
    }

    /// It says that no more requests are coming, and closes.
    pub async fn goodbye(&mut self) {
        self.until(|event| (*event == Event::GoAway).then_some(()))
            .await;
        loop {
            match soon(self.read()).await {
                Event::Closed => return,
                Event::Window(..) => {}
                event => panic!("{event:?} behind GOAWAY"),
            }
        }
    }

    async fn read(&mut self) -> Event {
        loop {
            let mut head = [0; 9];
            if self.stream.read_exact(&mut head).await.is_err() {
                return Event::Closed;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let (kind, flags) = (head[3], head[4]);
            let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; length as usize];
            if self.stream.read_exact(&mut payload).await.is_err() {
                return Event::Closed;
            }
            let number = || u32::from_be_bytes(payload[..4].try_into().unwrap());
            match kind {
                HEADERS => return Event::Request(id, flags & END_STREAM != 0),
                DATA => return Event::Data(id, payload, flags & END_STREAM != 0),
                RST_STREAM => return Event::Reset(id, number()),
                WINDOW_UPDATE => return Event::Window(id, number()),
                GOAWAY => return Event::GoAway,
                SETTINGS if flags & 1 == 0 => self.frame(SETTINGS, 1, 0, &[]).await,
                PING if flags & 1 == 0 => self.frame(PING, 1, 0, &payload).await,
                _ => {}
            }
        }
    }

    /// A whole response, 200.
    pub async fn answer(&mut self, id: u32, body: &str) {
        self.head(id, &[], false).await;
        self.data(id, body.as_bytes(), true).await;
    }

    /// A head: 200, and these fields.
    pub async fn head(&mut self, id: u32, fields: &[(&str, &str)], last: bool) {
        let mut block = vec![0x88];
        literals(&mut block, fields);
        self.frame(HEADERS, 4 | u8::from(last), id, &block).await;
    }

    /// An interim response: this status, and these fields.
    pub async fn interim(&mut self, id: u32, status: &str, fields: &[(&str, &str)]) {
        let mut block = Vec::new();
        literals(&mut block, &[(":status", status)]);
        literals(&mut block, fields);
        self.frame(HEADERS, 4, id, &block).await;
    }

    /// A header block of nothing but these fields.
    pub async fn block(&mut self, id: u32, fields: &[(&str, &str)], last: bool) {
        let mut block = Vec::new();
        literals(&mut block, fields);
        self.frame(HEADERS, 4 | u8::from(last), id, &block).await;
    }

    /// Trailers, and the end.
    pub async fn trailers(&mut self, id: u32, fields: &[(&str, &str)]) {
        let mut block = Vec::new();
        literals(&mut block, fields);
        self.frame(HEADERS, 4 | END_STREAM, id, &block).await;
    }

    pub async fn data(&mut self, id: u32, data: &[u8], last: bool) {
        self.frame(DATA, u8::from(last), id, data).await;
    }

    pub async fn reset(&mut self, id: u32, code: u32) {
        self.frame(RST_STREAM, 0, id, &code.to_be_bytes()).await;
    }

    pub async fn go_away(&mut self, last: u32, code: u32) {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        self.frame(GOAWAY, 0, 0, &payload).await;
    }

    pub async fn window(&mut self, id: u32, more: u32) {
        self.frame(WINDOW_UPDATE, 0, id, &more.to_be_bytes()).await;
    }
}

/// Literal fields without indexing, new names (RFC 7541 §6.2.2).
fn literals(block: &mut Vec<u8>, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
}
