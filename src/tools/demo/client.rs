//! A small HTTP/1.1 client that reports exactly how an exchange ended. It retries nothing.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::oracle::Loss;

/// Largest response that is read, in bytes; those of the demo are small.
const MAX_RESPONSE: usize = 4 << 20;

/// A response.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Name of the instance that answered (its `x-demo-app`); `None` if the proxy did.
    pub app: Option<String>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// Whether it has `Connection: close`.
    pub closing: bool,
    /// The body, without chunk framing.
    pub body: Vec<u8>,
}

/// The connection, with or without TLS.
#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(buffer).await,
            Self::Tls(stream) => stream.read_buf(buffer).await,
        }
    }
}

/// One keep-alive connection.
#[derive(Debug)]
pub struct LoadConnection {
    stream: Wire,
    buffer: Vec<u8>,
    /// Whether another request may be sent after the last response.
    keep_alive: bool,
}

/// Header fields of a response that matter here.
struct LoadHead {
    length: usize,
    status: u16,
    app: Option<String>,
    retry_after: Option<u64>,
    closing: bool,
    content_length: Option<usize>,
    chunked: bool,
    keep_alive: bool,
}

impl LoadConnection {
    /// Connects.
    ///
    /// # Errors
    /// [`Loss::Refused`] if the connection was not accepted.
    pub async fn open(address: SocketAddr) -> Result<Self, Loss> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|_| Loss::Refused)?;
        let _ = stream.set_nodelay(true);
        Ok(Self::on(Wire::Plain(stream)))
    }

    /// Connects with TLS, to a server whose certificate has the name `localhost`.
    ///
    /// # Errors
    /// [`Loss::Refused`] if the connection was not accepted, or the handshake failed.
    pub async fn open_tls(address: SocketAddr, config: Arc<ClientConfig>) -> Result<Self, Loss> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|_| Loss::Refused)?;
        let _ = stream.set_nodelay(true);
        let name = ServerName::try_from("localhost").map_err(|_| Loss::Refused)?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        let stream = connected.map_err(|_| Loss::Refused)?;
        Ok(Self::on(Wire::Tls(Box::new(stream))))
    }

    fn on(stream: Wire) -> Self {
        Self {
            stream,
            buffer: Vec::with_capacity(1024),
            keep_alive: true,
        }
    }

    /// Whether another request may be sent: the last response allows it, and the peer hasn't closed the connection.
    pub fn is_reusable(&self) -> bool {
        // The kernel is asked, and not the runtime, which may not know of a close that has arrived.
        let mut byte = [MaybeUninit::uninit()];
        let peeked = socket2::SockRef::from(self.stream.socket()).peek(&mut byte);
        self.keep_alive && matches!(peeked, Err(e) if e.kind() == ErrorKind::WouldBlock)
    }

    /// Sends a whole request, given as bytes, and reads the response to its end.
    ///
    /// # Errors
    /// How the exchange was lost. The connection can't be used any more.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Response, Loss> {
        self.keep_alive = false;
        self.buffer.clear();
        // A failed write proves nothing yet, because an early response may be waiting.
        let written = self.stream.write_all(request).await;
        let head = match (self.head().await, written) {
            (Err(Loss::Empty), Err(_)) => return Err(Loss::Reset),
            (head, _) => head?,
        };
        let body = self.body(&head).await?;
        self.keep_alive = head.keep_alive;
        Ok(Response {
            status: head.status,
            app: head.app,
            retry_after: head.retry_after,
            closing: head.closing,
            body,
        })
    }

    async fn head(&mut self) -> Result<LoadHead, Loss> {
        loop {
            match parse_head(&self.buffer)? {
                // Interim responses (RFC 9110, section 15.2) come before the final one.
                Some(head) if head.status < 200 && head.status != 101 => {
                    drop(self.buffer.drain(..head.length))
                }
                Some(head) => return Ok(head),
                None => match self.fill().await {
                    Ok(0) if self.buffer.is_empty() => return Err(Loss::Empty),
                    Ok(0) => return Err(Loss::Truncated),
                    Ok(_) => {}
                    Err(_) if self.buffer.is_empty() => return Err(Loss::Reset),
                    Err(_) => return Err(Loss::Truncated),
                },
            }
        }
    }

    async fn body(&mut self, head: &LoadHead) -> Result<Vec<u8>, Loss> {
        self.buffer.drain(..head.length);
        if head.status == 101 || head.status == 204 || head.status == 304 {
            return Ok(Vec::new());
        }
        if head.chunked {
            loop {
                if let Some(body) = decode_chunks(&self.buffer)? {
                    return Ok(body);
                }
                self.more().await?;
            }
        }
        if let Some(length) = head.content_length {
            while self.buffer.len() < length {
                self.more().await?;
            }
            return if self.buffer.len() == length {
                Ok(std::mem::take(&mut self.buffer))
            } else {
                Err(Loss::Corrupted)
            };
        }
        while self.fill().await.map_err(|_| Loss::Truncated)? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    async fn more(&mut self) -> Result<(), Loss> {
        match self.fill().await {
            Ok(n) if n > 0 => Ok(()),
            _ => Err(Loss::Truncated),
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        if self.buffer.len() > MAX_RESPONSE {
            return Err(io::Error::other("response too large"));
        }
        self.stream.read(&mut self.buffer).await
    }
}

fn parse_head(buffer: &[u8]) -> Result<Option<LoadHead>, Loss> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut fields);
    let length = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Loss::Corrupted),
    };
    let mut head = LoadHead {
        length,
        status: parsed.code.unwrap_or(0),
        app: None,
        retry_after: None,
        closing: false,
        content_length: None,
        chunked: false,
        keep_alive: parsed.version == Some(1),
    };
    for field in parsed.headers.iter() {
        let value = std::str::from_utf8(field.value).unwrap_or("").trim();
        match field.name.to_ascii_lowercase().as_str() {
            "content-length" => {
                head.content_length = Some(value.parse().map_err(|_| Loss::Corrupted)?)
            }
            "transfer-encoding" => head.chunked = value.to_ascii_lowercase().ends_with("chunked"),
            "connection" => head.closing |= value.eq_ignore_ascii_case("close"),
            "x-demo-app" => head.app = Some(value.to_owned()),
            "retry-after" => head.retry_after = value.parse().ok(),
            _ => {}
        }
    }
    // The peer may announce that it closes; and a body without a length can only end with a close.
    let framed = head.chunked || head.content_length.is_some() || matches!(head.status, 204 | 304);
    head.keep_alive &= framed && !head.closing;
    Ok(Some(head))
}

/// The whole body; `None` while the last chunk hasn't arrived (RFC 9112, section 7.1).
fn decode_chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, Loss> {
    let mut body = Vec::new();
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete((start, size))) => {
                (start, usize::try_from(size).map_err(|_| Loss::Corrupted)?)
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Loss::Corrupted),
        };
        rest = &rest[start..];
        if size == 0 {
            // No trailers are expected: the empty line must follow.
            return match rest {
                b"\r\n" => Ok(Some(body)),
                b"" | b"\r" => Ok(None),
                _ => Err(Loss::Corrupted),
            };
        }
        let Some(chunk) = rest.get(..size) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        match &rest[size..] {
            [b'\r', b'\n', after @ ..] => rest = after,
            b"" | b"\r" => return Ok(None),
            _ => return Err(Loss::Corrupted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A server that answers one request with `bytes` and closes.
    async fn against(bytes: &'static [u8]) -> (LoadConnection, Result<Response, Loss>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(bytes).await.unwrap();
        });
        let mut connection = LoadConnection::open(address).await.unwrap();
        let response = connection
            .exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await;
        server.await.unwrap();
        (connection, response)
    }

    #[tokio::test]
    async fn reads_lengths_chunks_and_bodies_that_end_with_the_connection() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-demo-app: a\r\n\r\nhello"[..],
            b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nx-demo-app: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx-demo-app: a\r\n\r\nhello",
        ] {
            let response = against(bytes).await.1.unwrap();
            assert_eq!((response.status, response.app.as_deref(), &response.body[..]), (200, Some("a"), &b"hello"[..]));
        }
    }

    #[tokio::test]
    async fn each_kind_of_loss_is_distinguished() {
        for (bytes, loss) in [
            (&b""[..], Loss::Empty),
            (b"HTTP/1.1 200 OK\r\nConte", Loss::Truncated),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
                Loss::Truncated,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                Loss::Truncated,
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                Loss::Corrupted,
            ),
            (b"nonsense\r\n\r\n", Loss::Corrupted),
        ] {
            assert_eq!(against(bytes).await.1, Err(loss));
        }
    }

    #[tokio::test]
    async fn a_refused_connect_is_refused() {
        // An address of its own, where no other test listens.
        let address = "127.78.0.3:9".parse().unwrap();
        assert_eq!(
            LoadConnection::open(address).await.map(drop),
            Err(Loss::Refused)
        );
    }

    #[test]
    fn response_with_connection_close_ends_keep_alive() {
        let head = |fields: &str| {
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}\r\n");
            parse_head(text.as_bytes()).unwrap().unwrap()
        };
        assert!(head("").keep_alive);
        assert!(!head("Connection: close\r\n").keep_alive);
    }

    #[tokio::test]
    async fn a_closed_connection_is_not_used_again() {
        let (connection, response) = against(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert!(response.is_ok());
        // The server's close may take a moment to arrive.
        connection.stream.socket().readable().await.unwrap();
        assert!(!connection.is_reusable());
    }
}
