//! The HTTP check, on a connection that is kept where it may be.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use tokio::time::{Instant, timeout_at};

use super::ProbeTarget;
use super::connect::{self, ProbeConnection, connect};
use super::http1::{self, ExchangeError, ResponseStart};
use super::http2::{self, ProbeCall, ProbeReply};
use super::resolve::AddressResolver;
use super::sentinel::SentinelConnection;
use super::verdict::ProbeAnswer;
use crate::config::{Address, HealthCheck};
use crate::core::backend::ProbeResult;
use crate::tls::upstream::Alpn;

/// How much of a refusing answer's body is shown to people.
const SHOWN: usize = 80;
const AGENT: &str = concat!("lameduck/", env!("CARGO_PKG_VERSION"), " (health probe)");

/// The request, made once.
#[derive(Debug)]
pub(super) struct HttpProbe {
    path: String,
    /// It is a HEAD: no body follows.
    bodiless: bool,
    /// The request with which the connection stays open…
    keeping: Box<[u8]>,
    /// …and the one with which it ends.
    closing: Box<[u8]>,
    expect: Vec<(u16, u16)>,
    /// The request over HTTP/2, where the backend is spoken to in that.
    over_http2: Option<Request<()>>,
}

impl HttpProbe {
    /// `None` for another kind of check. What can't be sent is left out with a warning: the configuration's
    /// own checks come first, so that is a safeguard only.
    pub(super) fn new(target: &ProbeTarget) -> Option<Self> {
        let HealthCheck::Http {
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
        let method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET);
        let uri = path.parse().unwrap_or_else(|error| {
            tracing::warn!(
                pool = %target.endpoint.pool,
                "health probes ask for `/`: the path {path:?} can't be sent ({error})"
            );
            Uri::from_static("/")
        });
        let over_http2 = connect::speaks_http2(target).then(|| {
            let uri = http2::uri(target, &host, &uri.to_string());
            let mut request = http2::request(method.clone(), uri);
            *request.headers_mut() = fields.clone();
            request.headers_mut().remove(HOST);
            request
        });
        let keeping = written(&method, &uri, &fields);
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
        Some(Self {
            path: uri.path().to_owned(),
            bodiless: method == Method::HEAD,
            keeping,
            closing: written(&method, &uri, &fields),
            expect: expect.clone(),
            over_http2,
        })
    }

    /// The path, for people.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// One probe: on the sentinel if there is one, else, or if that died just now, on a fresh connection.
    pub(super) async fn probe(
        &self,
        target: &ProbeTarget,
        resolver: &AddressResolver,
        sentinel: Option<SentinelConnection>,
        keep: bool,
    ) -> ProbeAnswer {
        if let Some(request) = &self.over_http2 {
            let body = &Bytes::new();
            let call = ProbeCall { request, body };
            let judge = |reply: &ProbeReply, began| {
                let probe = self.verdict(reply.status);
                let detail = describe(reply.status, probe, &took(began), &reply.body);
                (probe, detail)
            };
            return http2::probe(target, resolver, sentinel, keep, call, judge).await;
        }
        let began = Instant::now();
        let deadline = began + target.health.timeout;
        let kept = sentinel.and_then(SentinelConnection::into_http);
        let reused = kept.is_some();
        if let Some((connection, listener)) = kept {
            match timeout_at(deadline, self.ask(connection, keep)).await {
                Err(_) => return ProbeAnswer::timeout(target.health.timeout),
                Ok(Ok(answered)) => {
                    return self
                        .judge(target, answered, listener, began, deadline, keep)
                        .await;
                }
                // The keep-alive race. It says that the peer closed, and nothing more.
                Ok(Err(_)) => {}
            }
        }
        let fresh = async {
            let (connection, listener) = connect(target, Alpn::Http1, resolver).await?;
            let answered = self.ask(connection, keep).await;
            let answered = answered.map_err(|failed| no_answer(&failed))?;
            Ok((answered, listener))
        };
        let mut answer = match timeout_at(deadline, fresh).await {
            Err(_) => ProbeAnswer::timeout(target.health.timeout),
            Ok(Err(failed)) => failed,
            Ok(Ok((answered, listener))) => {
                self.judge(target, answered, listener, began, deadline, keep)
                    .await
            }
        };
        answer.sentinel_died = reused;
        answer
    }

    async fn ask(
        &self,
        connection: ProbeConnection,
        keep: bool,
    ) -> Result<ResponseStart, ExchangeError> {
        let request = if keep { &self.keeping } else { &self.closing };
        http1::ask(connection, request, self.bodiless).await
    }

    async fn judge(
        &self,
        target: &ProbeTarget,
        mut answered: ResponseStart,
        listener: Option<u64>,
        began: Instant,
        deadline: Instant,
        keep: bool,
    ) -> ProbeAnswer {
        let (status, took) = (answered.status, took(began));
        if target.health.port.is_none() {
            let is_http10 = &target.endpoint.is_http10;
            is_http10.store(answered.is_http10(), Ordering::Relaxed);
        }
        // The status is the answer; a body that is slow, long or cut only costs the connection.
        let reusable = timeout_at(deadline, answered.finish()).await == Ok(true);
        let probe = self.verdict(status);
        let detail = describe(status, probe, &took, answered.body());
        ProbeAnswer {
            listener,
            kept: (keep && reusable)
                .then(|| SentinelConnection::http(answered.into_connection(), listener)),
            ..ProbeAnswer::new(probe, detail)
        }
    }

    fn verdict(&self, status: u16) -> ProbeResult {
        if self
            .expect
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&status))
        {
            ProbeResult::Pass
        } else if status == 503 {
            ProbeResult::Unavailable
        } else {
            ProbeResult::Status(status)
        }
    }
}

/// The request's bytes.
fn written(method: &Method, uri: &Uri, fields: &HeaderMap) -> Box<[u8]> {
    let mut bytes = format!("{method} {uri} HTTP/1.1\r\n").into_bytes();
    for (name, value) in fields {
        bytes.extend_from_slice(name.as_ref());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}

/// The first line of what an app says, as far as it is fit for people.
pub(super) fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim()
        .chars()
        .take_while(|character| !matches!(character, '\n' | '\r'))
        .filter(|character| !character.is_control())
        .take(SHOWN)
        .collect()
}

fn describe(status: u16, probe: ProbeResult, took: &str, body: &[u8]) -> String {
    if probe == ProbeResult::Pass {
        return format!("{status} in {took}");
    }
    let known = StatusCode::from_u16(status).ok();
    let reason = known.and_then(|status| status.canonical_reason());
    let line = format!("{status} {}", reason.unwrap_or_default());
    match &*first_line(&body[..body.len().min(4 * SHOWN)]) {
        "" => line.trim_end().to_owned(),
        body => format!("{}: {body}", line.trim_end()),
    }
}

fn no_answer(failed: &ExchangeError) -> ProbeAnswer {
    let detail = match failed {
        ExchangeError::Garbled(error) => format!("the answer was not HTTP/1: {error}"),
        ExchangeError::Refused(why) => why.clone(),
        ExchangeError::Closed => "the connection was closed before an answer".to_owned(),
    };
    ProbeAnswer::new(ProbeResult::Reset, detail)
}

/// `1.2 ms`
pub(super) fn took(began: Instant) -> String {
    format!("{:.1} ms", began.elapsed().as_secs_f64() * 1000.0)
}

/// The backend's address as a `Host` field has it.
pub(super) fn default_host(address: &Address, port: Option<u16>) -> String {
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
