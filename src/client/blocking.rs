//! A blocking HTTP client for the launcher: without a runtime, one connection for each request.
//!
//! It uses HTTP/1.0, so that a response ends with its connection and needs no decoding.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use super::admin_args::ProxyAddress;
use super::message::{ReceivedProblem, request_fields};
use crate::client::names::AdminEndpoint;

/// Longest time for a connect over TCP, and for the head of a response.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which a proxy reached over TCP counts as gone; the stream of a lease has a line every 2 s. On a unix
/// socket the kernel tells.
const SILENCE: Duration = Duration::from_secs(10);
/// Largest head of a response, and largest problem document, in bytes.
const LIMIT: u64 = 64 << 10;

/// Client for one proxy.
#[derive(Debug, Clone)]
pub struct AdminRemote {
    proxy: ProxyAddress,
    patience: Duration,
}

/// Reason why there is no answer.
#[derive(Debug)]
pub enum AdminCallError {
    /// No proxy answers. The text says what was tried, and why it failed.
    Unreachable(String),
    /// The proxy refuses the request.
    Refused {
        /// HTTP status code.
        status: u16,
        /// The last part of the problem's `type`.
        slug: String,
        /// Explanation for users.
        detail: String,
    },
}

/// Connection to a proxy, of any kind.
#[derive(Debug)]
enum RemoteStream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for RemoteStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            RemoteStream::Unix(stream) => stream.read(buffer),
            RemoteStream::Tcp(stream) => stream.read(buffer),
            RemoteStream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl RemoteStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            RemoteStream::Unix(stream) => stream.write_all(bytes),
            RemoteStream::Tcp(stream) => stream.write_all(bytes),
            RemoteStream::Tls(stream) => {
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    fn be_patient(&self, reading: Option<Duration>) -> io::Result<()> {
        match self {
            RemoteStream::Unix(stream) => stream.set_read_timeout(reading),
            RemoteStream::Tcp(stream) => stream.set_read_timeout(reading),
            RemoteStream::Tls(stream) => stream.sock.set_read_timeout(reading),
        }
    }

    /// Own address as the proxy's host sees it; `None` on the same host.
    fn outside_address(&self) -> Option<IpAddr> {
        let stream = match self {
            RemoteStream::Unix(_) => return None,
            RemoteStream::Tcp(stream) => stream,
            RemoteStream::Tls(stream) => &stream.sock,
        };
        let local = stream.local_addr().ok()?.ip();
        let same_host = stream.peer_addr().is_ok_and(|peer| peer.ip() == local);
        (!local.is_loopback() && !same_host).then_some(local)
    }
}

/// A response's body that is still arriving.
#[derive(Debug)]
pub struct ResponseLines(BufReader<RemoteStream>);

impl ResponseLines {
    /// Reads the next line; `None`: the connection has ended.
    pub fn read(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.by_ref().take(LIMIT).read_line(&mut line) {
            Ok(1..) if line.ends_with('\n') => Some(line),
            _ => None,
        }
    }

    /// A handle with which another thread can end the connection.
    pub fn hang_up(&self) -> Option<HangUp> {
        match self.0.get_ref() {
            RemoteStream::Unix(stream) => stream.try_clone().ok().map(HangUp::Unix),
            RemoteStream::Tcp(stream) => stream.try_clone().ok().map(HangUp::Tcp),
            RemoteStream::Tls(stream) => stream.sock.try_clone().ok().map(HangUp::Tcp),
        }
    }
}

/// Ends a connection that another thread reads from.
#[derive(Debug)]
pub enum HangUp {
    /// Connection over a unix socket.
    Unix(UnixStream),
    /// Connection over TCP, with or without TLS.
    Tcp(TcpStream),
}

impl HangUp {
    /// Ends the connection.
    pub fn now(&self) {
        let both = std::net::Shutdown::Both;
        // An error means that the connection has ended already.
        let _ = match self {
            HangUp::Unix(stream) => stream.shutdown(both),
            HangUp::Tcp(stream) => stream.shutdown(both),
        };
    }
}

impl AdminRemote {
    /// Client for this proxy.
    pub(super) fn to(proxy: ProxyAddress) -> Self {
        Self {
            proxy,
            patience: CALL_TIMEOUT,
        }
    }

    /// Limits how long a connect and an answer may take.
    #[must_use]
    pub fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Name of the proxy in messages.
    pub fn name(&self) -> String {
        self.proxy.name()
    }

    /// Makes one request, and reads its whole answer.
    ///
    /// # Errors
    /// The proxy can't be reached, or refuses.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, AdminCallError> {
        let lines = self.open(method, path, |_| body.cloned())?;
        let mut text = String::new();
        let read = lines.0.take(LIMIT).read_to_string(&mut text);
        read.map_err(|error| AdminCallError::Unreachable(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| {
            AdminCallError::Unreachable(format!("its answer can't be understood: {error}"))
        })
    }

    /// Makes one request whose answer is a stream. `body` is called with our own address as the proxy's host sees it
    /// (`None`: the same host).
    ///
    /// # Errors
    /// The proxy can't be reached, or refuses.
    pub fn open(
        &self,
        method: &str,
        path: &str,
        body: impl Fn(Option<IpAddr>) -> Option<Value>,
    ) -> Result<ResponseLines, AdminCallError> {
        let mut failures = Vec::new();
        for endpoint in &self.proxy.endpoints {
            match self.connect(endpoint) {
                Ok(stream) => {
                    let body = body(stream.outside_address());
                    return self.ask(endpoint, stream, method, path, body.as_ref());
                }
                Err(error) => failures.push((endpoint, error)),
            }
        }
        let text = crate::client::names::unreachable(&failures);
        Err(AdminCallError::Unreachable(text))
    }

    fn ask(
        &self,
        endpoint: &AdminEndpoint,
        mut stream: RemoteStream,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<ResponseLines, AdminCallError> {
        let broken = |error: io::Error| {
            let why = match error.kind() {
                // The system's message for a time-out would not help users.
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    let patience = self.patience;
                    format!("nothing came within {patience:?}; is it stopped or overloaded?")
                }
                _ => format!("{error}."),
            };
            AdminCallError::Unreachable(format!("the proxy at {endpoint} does not answer: {why}"))
        };
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut head = format!("{method} {path} HTTP/1.0\r\n");
        for (name, value) in request_fields(endpoint, self.proxy.token.as_deref(), !body.is_empty())
        {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        stream.be_patient(Some(self.patience)).map_err(broken)?;
        let request = format!("{head}\r\n{body}");
        stream.write(request.as_bytes()).map_err(broken)?;
        let mut answer = BufReader::new(stream);
        let status = read_head(&mut answer).map_err(broken)?;
        if !(200..300).contains(&status) {
            let mut text = String::new();
            let _ = answer.take(LIMIT).read_to_string(&mut text);
            return Err(refusal(status, text.as_bytes()));
        }
        let silence = match answer.get_ref() {
            RemoteStream::Unix(_) => None,
            RemoteStream::Tcp(_) | RemoteStream::Tls(_) => Some(SILENCE),
        };
        answer.get_ref().be_patient(silence).map_err(broken)?;
        Ok(ResponseLines(answer))
    }

    fn connect(&self, endpoint: &AdminEndpoint) -> io::Result<RemoteStream> {
        match endpoint {
            AdminEndpoint::Unix(path) => connect_unix(path, self.patience).map(RemoteStream::Unix),
            AdminEndpoint::Tcp(authority) => {
                connect_tcp(authority, self.patience).map(RemoteStream::Tcp)
            }
            AdminEndpoint::Tls(authority) => {
                let tls = self.proxy.tls.as_ref();
                let tls = tls.ok_or_else(|| io::Error::other("no authority is known"))?;
                let session = tls.session(authority)?;
                let sock = connect_tcp(authority, self.patience)?;
                sock.set_read_timeout(Some(self.patience))?;
                let mut stream = StreamOwned::new(session, sock);
                // The handshake is done here, so that a certificate's problem is reported as a failed connect.
                while stream.conn.is_handshaking() {
                    stream
                        .conn
                        .complete_io(&mut stream.sock)
                        .map_err(super::tls::in_words)?;
                }
                Ok(RemoteStream::Tls(Box::new(stream)))
            }
        }
    }
}

fn refusal(status: u16, body: &[u8]) -> AdminCallError {
    let ReceivedProblem { slug, detail } = ReceivedProblem::read(body);
    let detail = match detail {
        empty if empty.is_empty() => format!("status {status}; is this lameduck's admin API?"),
        detail => crate::rt::output::printable(&detail),
    };
    AdminCallError::Refused {
        status,
        slug,
        detail,
    }
}

fn connect_tcp(authority: &str, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::NotFound.into();
    let addresses: Vec<SocketAddr> = authority.to_socket_addrs()?.collect();
    for address in addresses {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                stream.set_write_timeout(Some(patience))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects as std does, but with a time limit: a frozen proxy's queue fills up, and from then on a connect blocks.
fn connect_unix(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The send time-out also applies to connect: unix(7).
    socket.set_write_timeout(Some(patience))?;
    socket
        .connect(&SockAddr::unix(path)?)
        .map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => error,
        })?;
    Ok(OwnedFd::from(socket).into())
}

/// Reads the head of a response; returns its status.
fn read_head(from: &mut impl BufRead) -> io::Result<u16> {
    let mut head = String::new();
    loop {
        let before = head.len();
        let room = LIMIT.saturating_sub(before as u64);
        from.by_ref().take(room).read_line(&mut head)?;
        match &head[before..] {
            "" => return Err(io::ErrorKind::UnexpectedEof.into()),
            "\r\n" | "\n" => break,
            _ => {}
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(head.as_bytes()) {
        Ok(httparse::Status::Complete(_)) => Ok(response.code.unwrap_or_default()),
        _ => Err(io::Error::other("this is not HTTP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn remote(path: std::path::PathBuf) -> AdminRemote {
        AdminRemote::to(ProxyAddress {
            endpoints: vec![AdminEndpoint::Unix(path)],
            token: None,
            tls: None,
        })
    }

    fn answered(answer: &'static str) -> Result<Value, AdminCallError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let remote = remote(path);
        let answer = remote.call("GET", "/", None);
        server.join().unwrap();
        answer
    }

    #[test]
    fn an_answer_is_read_to_its_end() {
        let answer = answered("HTTP/1.1 200 OK\r\nx: y\r\n\r\n{\"a\":1}").unwrap();
        assert_eq!(answer["a"], 1);
    }

    #[test]
    fn refusal_has_status_slug_and_detail() {
        let answer = answered(
            "HTTP/1.1 404 Not Found\r\n\r\n{\"type\":\"urn:lameduck:problem:unknown-pool\",\"detail\":\"no\\u001b\"}",
        );
        let Err(AdminCallError::Refused {
            status,
            slug,
            detail,
        }) = answer
        else {
            panic!("{answer:?}");
        };
        assert_eq!(
            (status, &*slug, &*detail),
            (404, "unknown-pool", "no\u{fffd}")
        );
    }

    #[test]
    fn call_to_a_frozen_proxy_with_a_full_queue_times_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let frozen = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        frozen.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        frozen.listen(0).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        let begun = std::time::Instant::now();
        let full = connect_unix(&path, CALL_TIMEOUT).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= CALL_TIMEOUT);
    }

    #[test]
    fn silent_proxy_is_reported_in_plain_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let _silent = UnixListener::bind(&path).unwrap();
        let remote = remote(path);
        let Err(AdminCallError::Unreachable(why)) = remote.call("GET", "/", None) else {
            panic!("it can't have answered");
        };
        assert!(
            why.ends_with("nothing came within 5s; is it stopped or overloaded?"),
            "{why}"
        );
    }

    #[test]
    fn answer_that_is_not_http_counts_as_unreachable() {
        for answer in ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nx"] {
            assert!(matches!(
                answered(answer),
                Err(AdminCallError::Unreachable(_))
            ));
        }
    }
}
