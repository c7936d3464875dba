//! hyper as the other reader: its server and its client, on bytes in memory, without a runtime.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::rt::ReadBufCursor;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, Version};

/// More polls than any input needs.
const MAX_POLLS: usize = 20_000;

/// A message as hyper read it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Method, path with query, and authority of a request.
    pub request: (String, String, Option<String>),
    /// The status of a response.
    pub status: u16,
    /// 0 or 1.
    pub minor: u8,
    /// By name, those of one name in order.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body's length, where it is known before.
    pub length: Option<u64>,
    /// The body's content, once it was complete.
    pub content: Option<Vec<u8>>,
}

type Log = Rc<RefCell<Vec<Seen>>>;

/// The requests that hyper's server finds in these bytes.
pub fn serve(input: &[u8]) -> Vec<Seen> {
    let log = Log::default();
    let service = service_fn(|request: Request<Incoming>| {
        let log = log.clone();
        async move {
            let uri = request.uri();
            let query = uri.query().map(|query| format!("?{query}"));
            let at = log.borrow().len();
            log.borrow_mut().push(Seen {
                request: (
                    request.method().to_string(),
                    uri.path().to_owned() + &query.unwrap_or_default(),
                    uri.authority().map(ToString::to_string),
                ),
                ..seen(request.version(), request.headers(), request.body())
            });
            let content = request.into_body().collect().await?;
            log.borrow_mut()[at].content = Some(content.to_bytes().to_vec());
            Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .auto_date_header(false)
        .serve_connection(Wire::new(vec![input], usize::MAX), service);
    drive(connection);
    log.take()
}

/// What hyper's client reads as the answers to requests with this method. The answer to the second request comes
/// only after that was sent; after the last one, the connection ends.
pub fn ask(method: &str, answers: &[&[u8]]) -> Vec<Seen> {
    let log = Log::default();
    let exchange = async {
        let wire = Wire::new(answers.to_vec(), 0);
        let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(wire).await else {
            return;
        };
        let requests = async {
            for _ in answers {
                let request = Request::builder()
                    .method(method)
                    .body(Empty::<Bytes>::new())
                    .expect("a plain request");
                sender.ready().await?;
                let response = sender.send_request(request).await?;
                let at = log.borrow().len();
                log.borrow_mut().push(Seen {
                    status: response.status().as_u16(),
                    ..seen(response.version(), response.headers(), response.body())
                });
                let content = response.into_body().collect().await?;
                log.borrow_mut()[at].content = Some(content.to_bytes().to_vec());
            }
            drop(sender);
            Ok::<_, hyper::Error>(())
        };
        let _ = futures_util::future::join(requests, connection).await;
    };
    drive(exchange);
    log.take()
}

fn seen(version: Version, headers: &HeaderMap, body: &Incoming) -> Seen {
    Seen {
        minor: u8::from(version == Version::HTTP_11),
        fields: headers
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.as_bytes().into()))
            .collect(),
        length: body.size_hint().exact(),
        ..Seen::default()
    }
}

/// Polls until it is done, or until nothing more can happen.
fn drive<F: Future>(future: F) {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(flag.clone());
    let mut future = pin!(future);
    for _ in 0..MAX_POLLS {
        let done = future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        if done || !flag.0.swap(false, Ordering::Relaxed) {
            return;
        }
    }
    panic!("hyper comes to no end");
}

/// The other end of a connection: sends its parts, each after one more head was written to it.
struct Wire {
    parts: Vec<Vec<u8>>,
    /// The part that is being sent, and the bytes of it that were.
    at: (usize, usize),
    /// How many parts may be sent.
    open: usize,
    /// The last bytes written to it.
    tail: [u8; 4],
    reader: Option<Waker>,
}

impl Wire {
    fn new(parts: Vec<&[u8]>, open: usize) -> Self {
        Self {
            parts: parts.into_iter().map(<[u8]>::to_vec).collect(),
            at: (0, 0),
            open,
            tail: [0; 4],
            reader: None,
        }
    }
}

impl hyper::rt::Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let (part, sent) = self.at;
            let Some(bytes) = self.parts.get(part) else {
                return Poll::Ready(Ok(()));
            };
            if part >= self.open {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if sent == bytes.len() {
                self.at = (part + 1, 0);
                continue;
            }
            let count = buf.remaining().min(bytes.len() - sent);
            buf.put_slice(&bytes[sent..sent + count]);
            self.at.1 += count;
            return Poll::Ready(Ok(()));
        }
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        for byte in bytes {
            self.tail.rotate_left(1);
            self.tail[3] = *byte;
            if self.tail == *b"\r\n\r\n" {
                self.open = self.open.saturating_add(1);
            }
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
