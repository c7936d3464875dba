//! A collector of traces: takes OTLP over HTTP, and can be wrong in each way.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::wait;

/// What it does with what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Takes it.
    Good,
    /// Takes all but this many spans.
    Partial(u8),
    /// Answers with this status.
    Status(u16),
    /// Answers with what is no HTTP.
    Garbage,
    /// Never answers.
    Silent,
}

/// One request, as it came.
pub struct Received {
    pub head: String,
    pub request: ExportTraceServiceRequest,
}

pub struct Collector {
    pub address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    encryption: Encryption,
    received: Arc<Mutex<Vec<Received>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What it shakes hands by; `None`: it speaks cleartext.
type Encryption = Arc<Mutex<Option<TlsAcceptor>>>;

impl Collector {
    pub async fn new(mood: Mood) -> Self {
        Self::start(mood, None).await
    }

    /// One behind TLS.
    pub async fn encrypted(acceptor: TlsAcceptor) -> Self {
        Self::start(Mood::Good, Some(acceptor)).await
    }

    async fn start(mood: Mood, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mood, received) = (Arc::new(Mutex::new(mood)), Arc::default());
        let encryption = Arc::new(Mutex::new(acceptor));
        let serving = serve(
            listener,
            mood.clone(),
            encryption.clone(),
            Arc::clone(&received),
        );
        let task = tokio::spawn(serving);
        Self {
            address,
            mood,
            encryption,
            received,
            task,
        }
    }

    /// `[tracing]` for it.
    pub fn tables(&self, more: &str) -> &'static str {
        let scheme = match &*self.encryption.lock() {
            Some(_) => "https",
            None => "http",
        };
        format!(
            "[tracing]\nendpoint = \"{scheme}://{}\"\n{more}",
            self.address
        )
        .leak()
    }

    /// Shows another certificate from now on.
    pub fn set_acceptor(&self, acceptor: TlsAcceptor) {
        *self.encryption.lock() = Some(acceptor);
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    /// The requests so far.
    pub fn requests(&self) -> usize {
        self.received.lock().len()
    }

    /// What it was told of the process with each.
    pub fn first(&self) -> (String, HashMap<String, Value>) {
        let received = self.received.lock();
        let first = &received[0];
        let resource = first.request.resource_spans[0].resource.clone().unwrap();
        let attributes = resource.attributes.into_iter();
        let attributes = attributes.map(|pair| (pair.key, pair.value.unwrap().value.unwrap()));
        (first.head.clone(), attributes.collect())
    }

    /// All spans so far.
    pub fn all(&self) -> Vec<Span> {
        let received = self.received.lock();
        let resources = received.iter().flat_map(|one| &one.request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// All spans, once there are so many.
    pub async fn spans(&self, count: usize) -> Vec<Span> {
        let end = Instant::now() + wait::PATIENCE;
        while Instant::now() < end {
            let spans = self.all();
            if spans.len() >= count {
                return spans;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("there are no {count} spans: {:#?}", self.all());
    }
}

async fn serve(
    listener: TcpListener,
    mood: Arc<Mutex<Mood>>,
    encryption: Encryption,
    received: Arc<Mutex<Vec<Received>>>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (mood, received) = (mood.clone(), received.clone());
        let acceptor = encryption.lock().clone();
        connections.spawn(async move {
            match acceptor {
                None => answer(stream, mood, received).await,
                // A client that does not like the certificate goes away.
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, mood, received).await;
                    }
                }
            }
        });
    }
}

async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mood: Arc<Mutex<Mood>>,
    received: Arc<Mutex<Vec<Received>>>,
) {
    let mut bytes = Vec::new();
    loop {
        let Some((head, body)) = read_request(&mut stream, &mut bytes).await else {
            return;
        };
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        let mood = *mood.lock();
        let (status, body) = match mood {
            Mood::Good => (200, Vec::new()),
            // partial_success { rejected_spans: … }
            Mood::Partial(rejected) => (200, vec![0x0a, 2, 0x08, rejected]),
            Mood::Status(status) => (status, b"later, please".to_vec()),
            Mood::Garbage => {
                let _ = stream.write_all(b"\x16\x03\x01 what?\r\n\r\n").await;
                return;
            }
            Mood::Silent => return std::future::pending().await,
        };
        if status == 200 {
            received.lock().push(Received { head, request });
        }
        let answer = format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = [answer.as_bytes(), &body].concat();
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> Option<(String, Vec<u8>)> {
    let end = loop {
        if let Some(at) = memchr::memmem::find(bytes, b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse::<usize>().unwrap())
    });
    let length = length.unwrap_or(0);
    while bytes.len() < end + length {
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = bytes[end..end + length].to_vec();
    bytes.drain(..end + length);
    Some((head, body))
}

/// An attribute as text.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|pair| pair.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        Value::DoubleValue(number) => format!("{number}"),
        other => format!("{other:?}"),
    })
}

/// The names of its events.
pub fn events(span: &Span) -> Vec<&str> {
    span.events.iter().map(|event| &*event.name).collect()
}
