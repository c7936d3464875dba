//! A small HTTP/1 client for the admin API, over its unix socket or TCP.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

pub use super::admin_args::AdminArgs;
use super::admin_args::ProxyAddress;
use super::error::{ClientError, ClientErrorKind};
use super::message::{ReceivedProblem, request_fields};
use crate::client::names::{self, AdminEndpoint, segment};
use crate::rt::output::printable;

/// Problem of a proxy that accepts no more changes: it stops, or another process has taken over.
const SHUTTING_DOWN: &str = "shutting-down";
/// Pause before a request is made again at the process that has taken the proxy's place.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Longest time in which requests fail one after the other: several upgrades may follow each other.
const LONGEST_FAILING: Duration = Duration::from_secs(5);
/// Age from which a connection that breaks was waiting for its answer: the proxy could be reached until then, so the
/// time of failing begins anew.
const WAITING_AFTER: Duration = Duration::from_secs(1);
/// Longest time for a connect over TCP, and for answers that wait for nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Client for one proxy; each request has its own connection.
#[derive(Debug, Clone)]
pub struct AdminClient {
    proxy: ProxyAddress,
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy)]
pub enum AnswerWait {
    /// The proxy answers at once.
    Short,
    /// The proxy may wait this long because of the request; some time is added.
    For(Duration),
    /// Without a limit.
    Ever,
}

/// A request with a JSON answer.
#[derive(Debug, Clone)]
pub struct AdminRequest {
    /// HTTP method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// JSON body, if it has one.
    pub body: Option<Value>,
    /// Longest wait for the answer.
    pub wait: AnswerWait,
}

impl AdminRequest {
    /// A request with this body, as JSON.
    pub fn with_body(
        method: Method,
        path: String,
        body: &impl Serialize,
        wait: AnswerWait,
    ) -> Self {
        Self {
            method,
            path,
            body: serde_json::to_value(body).ok(),
            wait,
        }
    }
}

impl AdminClient {
    /// A client for the one proxy that `connect` names, for commands that work with one proxy only.
    ///
    /// # Errors
    /// Several proxies are named, or a file of a token or of TLS can't be used.
    pub fn new(connect: &AdminArgs) -> Result<Self, ClientError> {
        let mut clients = connect.clients()?;
        match (clients.pop(), clients.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(ClientError::failed(
                "this is done at one proxy at a time: name one with --admin",
            )),
        }
    }

    /// A client for this proxy.
    pub fn to(proxy: ProxyAddress) -> Self {
        Self { proxy }
    }

    /// A client for the proxy that has this admin socket.
    pub fn at_socket(socket: &Path) -> Self {
        Self::to(ProxyAddress {
            endpoints: vec![AdminEndpoint::Unix(socket.to_owned())],
            token: None,
            tls: None,
        })
    }

    /// Name of the proxy in messages.
    pub fn name(&self) -> String {
        self.proxy.name()
    }

    /// Makes a `GET` request.
    ///
    /// # Errors
    /// The proxy can't be reached, or refuses.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, None::<&Value>, AnswerWait::Short)
            .await
    }

    /// Makes any request with a JSON answer.
    ///
    /// # Errors
    /// The proxy can't be reached, refuses, or doesn't answer in time.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        wait: AnswerWait,
    ) -> Result<T, ClientError> {
        let (status, bytes) = self.raw(method, path, body, wait).await?;
        if !status.is_success() {
            return Err(refusal(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            ClientError::failed(format!(
                "the answer to {path} can't be understood: {error}; is this lameduck's admin API, and of the \
                 same version (`lameduck --version`)?"
            ))
        })
    }

    /// As [`Self::call`], for requests that outlive an upgrade of the proxy: they are made again at the process that
    /// has taken its place, so a second one must change nothing. `request` makes the request for a given time since the
    /// first.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn call_across_upgrades<T: DeserializeOwned>(
        &self,
        request: impl Fn(Duration) -> AdminRequest,
    ) -> Result<T, ClientError> {
        let began = Instant::now();
        let mut failing_since = None;
        loop {
            let asked = Instant::now();
            let AdminRequest {
                method,
                path,
                body,
                wait,
            } = request(began.elapsed());
            match self.call(method, &path, body.as_ref(), wait).await {
                Err(error) if error.kind == ClientErrorKind::Broken => {
                    let since = match asked.elapsed() < WAITING_AFTER {
                        true => failing_since.unwrap_or(asked),
                        false => Instant::now(),
                    };
                    if since.elapsed() >= LONGEST_FAILING {
                        return Err(error);
                    }
                    failing_since = Some(since);
                }
                answer => return answer,
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Makes any request, and returns status and body as they are.
    ///
    /// # Errors
    /// The proxy can't be reached, or doesn't answer in time.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        wait: AnswerWait,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let answered = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let body = response.into_body().collect().await.map_err(broken)?;
            Ok((status, body.to_bytes()))
        };
        let limit = match wait {
            AnswerWait::Short => ANSWER_TIMEOUT,
            AnswerWait::For(time) => time.saturating_add(ANSWER_TIMEOUT),
            AnswerWait::Ever => return answered.await,
        };
        timeout(limit, answered).await.unwrap_or_else(|_elapsed| {
            Err(ClientError::unreachable(format!(
                "the proxy took the request but did not answer within {}; it may be overloaded or stopped \
                 (SIGSTOP)",
                humantime::format_duration(limit)
            )))
        })
    }

    /// Subscribes to the events of one pool or of all.
    ///
    /// # Errors
    /// The proxy can't be reached, or refuses.
    pub async fn events(&self, pool: Option<&str>) -> Result<AdminEvents, ClientError> {
        let query = pool.map_or_else(String::new, |pool| format!("?pool={}", segment(pool)));
        self.stream(Method::GET, &format!("/v1/events{query}"), None::<&Value>)
            .await
    }

    /// Makes any request that is answered with a stream of server-sent events.
    ///
    /// # Errors
    /// The proxy can't be reached, or refuses.
    pub async fn stream(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<AdminEvents, ClientError> {
        let asked = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let body = response.into_body();
            if status.is_success() {
                return Ok(AdminEvents { body });
            }
            let bytes = body.collect().await.map_err(broken)?.to_bytes();
            Err(refusal(status, &bytes))
        };
        let silent = |_elapsed| ClientError::unreachable("the proxy did not answer");
        timeout(ANSWER_TIMEOUT, asked).await.map_err(silent)?
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Response<Incoming>, ClientError> {
        let (endpoint, stream) = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // This task ends by itself when the response or its reader is dropped.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in request_fields(endpoint, self.proxy.token.as_deref(), body.is_some()) {
            request = request.header(name, value);
        }
        let mut bytes = Vec::new();
        if let Some(body) = body {
            bytes = serde_json::to_vec(body).map_err(|error| {
                ClientError::failed(format!("can't write the request: {error}"))
            })?;
        }
        let request = request
            .body(Full::new(Bytes::from(bytes)))
            .map_err(|error| {
                ClientError::failed(format!(
                    "can't write the request: {error}; does the token file hold one line of plain text?"
                ))
            })?;
        sender.send_request(request).await.map_err(broken)
    }

    async fn connect(&self) -> Result<(&AdminEndpoint, Box<dyn Duplex>), ClientError> {
        let mut failures = Vec::new();
        for endpoint in &self.proxy.endpoints {
            match self.open(endpoint).await {
                Ok(stream) => return Ok((endpoint, stream)),
                Err(error) => failures.push((endpoint, error)),
            }
        }
        Err(ClientError::unreachable(names::unreachable(&failures)))
    }

    async fn open(&self, endpoint: &AdminEndpoint) -> io::Result<Box<dyn Duplex>> {
        match endpoint {
            AdminEndpoint::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            AdminEndpoint::Tcp(authority) => Ok(Box::new(connect_tcp(authority).await?)),
            AdminEndpoint::Tls(authority) => {
                let tls = self.proxy.tls.as_ref();
                let tls = tls.ok_or_else(|| io::Error::other("no authority is known"))?;
                let stream = connect_tcp(authority).await?;
                let shaken = timeout(ANSWER_TIMEOUT, tls.connect(authority, stream)).await;
                let shaken = shaken.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?;
                Ok(Box::new(shaken?))
            }
        }
    }
}

/// Connection of any kind.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

async fn connect_tcp(authority: &str) -> io::Result<TcpStream> {
    let connecting = timeout(ANSWER_TIMEOUT, TcpStream::connect(authority));
    connecting
        .await
        .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?
}

fn broken(error: hyper::Error) -> ClientError {
    ClientError::broken(format!(
        "the proxy closed the connection before it answered ({error}); it may have stopped, or this is not \
         lameduck's admin API"
    ))
}

/// Error for a problem document; it decides the exit code and the text.
fn refusal(status: StatusCode, bytes: &[u8]) -> ClientError {
    let problem = ReceivedProblem::read(bytes);
    // Line by line, because the diagnostics of a configuration have several lines.
    let detail: Vec<String> = problem.detail.lines().map(printable).collect();
    let detail = match detail.join("\n") {
        empty if empty.is_empty() => {
            format!("the proxy answered {status} without a reason; is this lameduck's admin API?")
        }
        detail => in_our_words(&detail),
    };
    match status {
        StatusCode::SERVICE_UNAVAILABLE if problem.slug == SHUTTING_DOWN => {
            ClientError::broken(detail)
        }
        StatusCode::GATEWAY_TIMEOUT => ClientError::late(detail),
        StatusCode::UNAUTHORIZED => ClientError::failed(format!(
            "{detail} Here: --token-file or LAMEDUCK_TOKEN_FILE."
        )),
        _ => ClientError::failed(detail),
    }
}

/// Replaces paths of the API by the commands that do the same. The diagnostics of a configuration begin with their own
/// "error:".
fn in_our_words(detail: &str) -> String {
    if detail.starts_with("error:") {
        return format!("the configuration is refused, the old one stays in force\n{detail}");
    }
    let Some((text, rest)) = detail.split_once(". GET /v1/pools") else {
        return detail.to_owned();
    };
    match rest.contains("lists them") {
        true => format!("{text}; `lameduck status` lists them"),
        false => detail.to_owned(),
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct AdminEvents {
    body: Incoming,
}

impl AdminEvents {
    /// Waits for the next event and discards it. Cancel-safe.
    ///
    /// # Errors
    /// The stream has ended.
    pub async fn changed(&mut self) -> Result<(), ClientError> {
        self.next().await.map(drop)
    }

    /// Waits for the next event, and returns it as it came. Cancel-safe.
    ///
    /// # Errors
    /// The stream has ended.
    pub async fn next(&mut self) -> Result<Bytes, ClientError> {
        loop {
            let ended = || ClientError::unreachable("the proxy closed the event stream");
            let frame = self.body.frame().await.ok_or_else(ended)?.map_err(broken)?;
            // Comments only keep the stream alive.
            if let Ok(data) = frame.into_data()
                && !data.starts_with(b":")
            {
                return Ok(data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(endpoints: Vec<AdminEndpoint>) -> AdminClient {
        AdminClient::to(ProxyAddress {
            endpoints,
            token: None,
            tls: None,
        })
    }

    #[tokio::test]
    async fn an_unreachable_proxy_is_5_and_names_everything_tried() {
        let dir = tempfile::tempdir().unwrap();
        let stale = dir.path().join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        let missing = dir.path().join("missing.sock");
        let client = client(vec![
            AdminEndpoint::Unix(missing.clone()),
            AdminEndpoint::Unix(stale.clone()),
        ]);
        let error = client.get::<Value>("/v1/pools").await.unwrap_err();
        assert_eq!(error.kind, ClientErrorKind::Unreachable);
        let expected = format!(
            "can't reach the proxy: tried {} (no such socket) and {} (nobody listens). Is it running",
            missing.display(),
            stale.display()
        );
        assert!(error.message.starts_with(&expected), "{}", error.message);
    }

    #[tokio::test]
    async fn a_peer_that_hangs_up_is_5_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move { drop(listener.accept().await) });
        let client = client(vec![AdminEndpoint::Unix(path)]);
        let error = client.get::<Value>("/v1/pools").await.unwrap_err();
        assert!(error.is_unreachable(), "{}", error.message);
        server.await.unwrap();
    }

    #[test]
    fn refusal_is_reported_in_the_servers_words() {
        let body = br#"{"detail":"there is no pool `x`;\u001b[2J known pools: app."}"#;
        let error = refusal(StatusCode::NOT_FOUND, body);
        assert_eq!(
            error,
            ClientError::failed("there is no pool `x`;\u{fffd}[2J known pools: app.")
        );
        assert_eq!(
            refusal(StatusCode::GATEWAY_TIMEOUT, body).kind,
            ClientErrorKind::Late
        );
        let body =
            br#"{"detail":"there is no pool `x`; known pools: app. GET /v1/pools lists them."}"#;
        assert_eq!(
            refusal(StatusCode::NOT_FOUND, body).message,
            "there is no pool `x`; known pools: app; `lameduck status` lists them"
        );
        let body = br#"{"type":"urn:lameduck:problem:shutting-down","detail":"it has gone"}"#;
        let error = refusal(StatusCode::SERVICE_UNAVAILABLE, body);
        assert_eq!(error, ClientError::broken("it has gone"));
        let body = br#"{"detail":"error: there is no `x` in [server]\n --> a.toml:1:1"}"#;
        let message = refusal(StatusCode::UNPROCESSABLE_ENTITY, body).message;
        assert_eq!(
            message,
            "the configuration is refused, the old one stays in force\nerror: there is no `x` in [server]\n --> a.toml:1:1"
        );
        let error = refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert!(error.message.contains("502"), "{}", error.message);
    }
}
