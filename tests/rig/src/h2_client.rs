//! A client of HTTP/2, and a proxy for it.

use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::proxy::{Rig, Setup};
use crate::wire::PATIENCE;

/// A proxy whose listener speaks HTTP/2 without TLS, with these keys of `[server]`.
pub async fn rig(server: &'static str) -> Rig {
    Rig::new(Setup {
        server,
        tables: "http2 = true",
        ..Setup::default()
    })
    .await
}

/// One that passes a body on as it comes, however short it is.
pub async fn streaming_rig() -> Rig {
    Rig::new(Setup {
        pool: "[pool.upstream]\nrequest_buffering = false",
        tables: "http2 = true",
        ..Setup::default()
    })
    .await
}

/// One connection.
pub struct Client {
    pub send: SendRequest<Bytes>,
    /// Ends with the connection.
    pub connection: JoinHandle<Result<(), h2::Error>>,
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub head: Response<()>,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        Some(self.head.headers().get(name)?.to_str().unwrap())
    }
}

/// What must happen, happens soon.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("nothing comes")
}

impl Client {
    pub async fn new(rig: &Rig) -> Self {
        Self::with(rig, &Builder::new()).await
    }

    pub async fn with(rig: &Rig, builder: &Builder) -> Self {
        let stream = TcpStream::connect(rig.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (send, connection) = soon(builder.handshake(stream)).await.unwrap();
        Self {
            send,
            connection: tokio::spawn(connection),
        }
    }

    /// Begins a request; `ended`: without a body.
    pub async fn begin(
        &mut self,
        request: Request<()>,
        ended: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        self.try_begin(request, ended).await.unwrap()
    }

    pub async fn try_begin(
        &mut self,
        request: Request<()>,
        ended: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        std::future::poll_fn(|cx| self.send.poll_ready(cx)).await?;
        self.send.send_request(request, ended)
    }

    /// `GET path`, on its way.
    pub async fn get(&mut self, path: &str) -> ResponseFuture {
        self.begin(get(path), true).await.0
    }

    /// How the proxy ended the connection: it is still wanted.
    pub async fn ended(self) -> Result<(), h2::Error> {
        let ended = soon(self.connection).await.unwrap();
        drop(self.send);
        ended
    }
}

pub fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a{path}")).body(()).unwrap()
}

pub fn post(path: &str) -> Request<()> {
    Request::post(format!("http://a{path}")).body(()).unwrap()
}

/// The whole response.
pub async fn answer(response: ResponseFuture) -> Answer {
    try_answer(response).await.unwrap()
}

/// The whole response, or how it broke off.
pub async fn try_answer(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (parts, body) = soon(response).await?.into_parts();
    let (body, trailers) = rest(body).await?;
    Ok(Answer {
        head: Response::from_parts(parts, ()),
        body,
        trailers,
    })
}

/// What is left of a body.
pub async fn rest(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut whole = Vec::new();
    while let Some(piece) = soon(body.data()).await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        whole.extend_from_slice(&piece);
    }
    Ok((whole, soon(body.trailers()).await?))
}

/// The next piece of a body.
pub async fn piece(body: &mut RecvStream) -> Bytes {
    let piece = soon(body.data()).await.unwrap().unwrap();
    body.flow_control().release_capacity(piece.len()).unwrap();
    piece
}

/// Long enough for something that must not happen.
pub const A_MOMENT: Duration = Duration::from_millis(100);
