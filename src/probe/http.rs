//! The HTTP check, on a connection that is kept where it may be.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::Target;
use super::answer::Answer;
use super::connect::connect;
use super::resolve::Resolver;
use super::sentinel::Sentinel;
use crate::config::{Address, Check};
use crate::core::backend::Probe;

/// A longer body is not read to its end, and its connection not kept.
const MAX_BODY: usize = 64 << 10;
/// How much of a refusing answer's body is shown to people.
const SHOWN: usize = 80;
const AGENT: &str = concat!("lameduck/", env!("CARGO_PKG_VERSION"), " (health probe)");

/// The request, made once.
#[derive(Debug)]
pub(super) struct Http {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    expect: Vec<(u16, u16)>,
}

impl Http {
    /// `None` for another kind of check. What can't be sent is left out with a warning: the configuration's
    /// own checks come first, so that is a safeguard only.
    pub(super) fn new(target: &Target) -> Option<Self> {
        let Check::Http {
            path,
            host,
            method,
            headers,
            expect,
        } = &target.health.check
        else {
            return None;
        };
        let host = host
            .clone()
            .unwrap_or_else(|| default_host(&target.endpoint.address, target.health.port));
        let mut fields = HeaderMap::new();
        fields.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let configured = headers.iter().map(|(name, value)| (name.as_str(), value));
        for (name, value) in std::iter::once((HOST.as_str(), &host)).chain(configured) {
            match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                (Ok(name), Ok(value)) => drop(fields.insert(name, value)),
                _ => tracing::warn!(
                    pool = %target.endpoint.pool,
                    "health probes go without the header {name:?}: it can't be sent as it is written"
                ),
            }
        }
        Some(Self {
            method: Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET),
            uri: path.parse().unwrap_or_else(|error| {
                tracing::warn!(
                    pool = %target.endpoint.pool,
                    "health probes ask for `/`: the path {path:?} can't be sent ({error})"
                );
                Uri::from_static("/")
            }),
            headers: fields,
            expect: expect.clone(),
        })
    }

    /// The path, for people.
    pub(super) fn path(&self) -> &str {
        self.uri.path()
    }

    /// One probe: on the sentinel if there is one, else, or if that died just now, on a fresh connection.
    pub(super) async fn probe(
        &self,
        target: &Target,
        resolver: &Resolver,
        sentinel: Option<Sentinel>,
        keep: bool,
    ) -> Answer {
        let began = Instant::now();
        let deadline = began + target.health.timeout;
        let reused = sentinel.is_some();
        if let Some(sentinel) = sentinel {
            match timeout_at(deadline, self.ask(sentinel, keep)).await {
                Err(_) => return Answer::timeout(target.health.timeout),
                Ok(Ok(answered)) => return self.judge(answered, began, deadline, keep).await,
                // The keep-alive race. It says that the peer closed, and nothing more.
                Ok(Err(_)) => {}
            }
        }
        let fresh = async {
            let (connection, listener) = connect(&target.endpoint, target.health.port, resolver)
                .await
                .map_err(|error| Answer::of_connect(&error))?;
            let (sender, driver) = http1::handshake(TokioIo::new(connection))
                .await
                .map_err(|error| no_answer(&error))?;
            let task = tokio::spawn(async move {
                // How it ended is seen by whoever asks on it.
                let _ = driver.await;
            });
            let sentinel = Sentinel::http(task, sender, listener);
            self.ask(sentinel, keep)
                .await
                .map_err(|error| no_answer(&error))
        };
        let mut answer = match timeout_at(deadline, fresh).await {
            Err(_) => Answer::timeout(target.health.timeout),
            Ok(Err(failed)) => failed,
            Ok(Ok(answered)) => self.judge(answered, began, deadline, keep).await,
        };
        answer.sentinel_died = reused;
        answer
    }

    async fn ask(&self, mut sentinel: Sentinel, keep: bool) -> hyper::Result<Answered> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if !keep {
            request
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let response = match &mut sentinel.sender {
            Some(sender) => send(sender, request).await?,
            // A connection of the TCP check, which the configuration has just left: it isn't kept there.
            None => return Ok(Answered::Nothing),
        };
        Ok(Answered::Response(sentinel, response))
    }

    async fn judge(
        &self,
        answered: Answered,
        began: Instant,
        deadline: Instant,
        keep: bool,
    ) -> Answer {
        let Answered::Response(mut sentinel, response) = answered else {
            return Answer::new(Probe::Reset, "the connection was not an HTTP one");
        };
        let status = response.status();
        let took = took(began);
        let listener = sentinel.listener;
        let closing = response
            .headers()
            .get_all(CONNECTION)
            .iter()
            .any(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        // The status is the answer; a body that is slow, long or cut only costs the connection.
        let body = timeout_at(deadline, drain(response.into_body())).await;
        let (whole, shown) = body.unwrap_or_default();
        let mut kept = None;
        if keep
            && whole
            && !closing
            && let Some(sender) = &mut sentinel.sender
            && let Ok(Ok(())) = timeout_at(deadline, sender.ready()).await
        {
            sentinel.idle_since = Instant::now();
            kept = Some(sentinel);
        }
        let probe = self.verdict(status.as_u16());
        Answer {
            listener,
            kept,
            ..Answer::new(probe, describe(status, probe, &took, &shown))
        }
    }

    fn verdict(&self, status: u16) -> Probe {
        if self
            .expect
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&status))
        {
            Probe::Pass
        } else if status == 503 {
            Probe::Unavailable
        } else {
            Probe::Status(status)
        }
    }
}

enum Answered {
    Response(Sentinel, Response<Incoming>),
    Nothing,
}

async fn send(
    sender: &mut SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<Response<Incoming>> {
    sender.ready().await?;
    sender.send_request(request).await
}

/// Reads the body; says whether that reached its end, and its first line for people.
async fn drain(mut body: Incoming) -> (bool, String) {
    let mut length = 0;
    let mut head = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return (false, first_line(&head));
        };
        let Some(data) = frame.data_ref() else {
            continue;
        };
        length += data.len();
        let room = (4 * SHOWN).saturating_sub(head.len());
        head.extend_from_slice(&data[..data.len().min(room)]);
        if length > MAX_BODY {
            return (false, first_line(&head));
        }
    }
    (true, first_line(&head))
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim()
        .chars()
        .take_while(|character| !matches!(character, '\n' | '\r'))
        .filter(|character| !character.is_control())
        .take(SHOWN)
        .collect()
}

fn describe(status: StatusCode, probe: Probe, took: &str, body: &str) -> String {
    if probe == Probe::Pass {
        return format!("{} in {took}", status.as_u16());
    }
    let reason = status.canonical_reason().unwrap_or_default();
    let line = format!("{} {reason}", status.as_u16());
    match body {
        "" => line.trim_end().to_owned(),
        body => format!("{}: {body}", line.trim_end()),
    }
}

fn no_answer(error: &hyper::Error) -> Answer {
    let detail = if error.is_parse() {
        format!("the answer was not HTTP/1: {error}")
    } else {
        "the connection was closed before an answer".to_owned()
    };
    Answer::new(Probe::Reset, detail)
}

/// `1.2 ms`
pub(super) fn took(began: Instant) -> String {
    format!("{:.1} ms", began.elapsed().as_secs_f64() * 1000.0)
}

fn default_host(address: &Address, port: Option<u16>) -> String {
    match address {
        Address::Socket(address) => {
            let mut address = *address;
            address.set_port(port.unwrap_or_else(|| address.port()));
            address.to_string()
        }
        Address::Name(name, own) => format!("{name}:{}", port.unwrap_or(*own)),
        Address::Unix(_) => "localhost".to_owned(),
    }
}
