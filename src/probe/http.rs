//! The HTTP health check, on a connection that is kept open if possible.

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

/// Most bytes of a failing answer's body that users are shown.
const MAX_SHOWN_BODY: usize = 80;
const AGENT: &str = concat!("lameduck/", env!("CARGO_PKG_VERSION"), " (health probe)");

/// The request, encoded once.
#[derive(Debug)]
pub(super) struct HttpProbe {
    path: String,
    /// Whether the request is a HEAD, so that no body follows.
    bodiless: bool,
    /// Request that leaves the connection open…
    keeping: Box<[u8]>,
    /// …and the one that closes it.
    closing: Box<[u8]>,
    expect: Vec<(u16, u16)>,
    /// The request over HTTP/2, if the backend speaks that.
    over_http2: Option<Request<()>>,
}

impl HttpProbe {
    /// The request for this target, or `None` if it has another kind of check. A part that can't be sent is left out
    /// with a warning; that is only a safeguard, because the configuration is checked before.
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
        let keeping = encode_request(&method, &uri, &fields);
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
        Some(Self {
            path: uri.path().to_owned(),
            bodiless: method == Method::HEAD,
            keeping,
            closing: encode_request(&method, &uri, &fields),
            expect: expect.clone(),
            over_http2,
        })
    }

    /// Path of the request, for messages.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Makes one probe: on the sentinel connection if there is one, or on a new connection if there is none or it was
    /// just closed.
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
                // The peer closed the connection while the request was on its way. That says nothing about the
                // backend's health.
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
        // The status decides. A body that is slow, long or cut off only means that the connection is not kept.
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

/// Encodes the request.
fn encode_request(method: &Method, uri: &Uri, fields: &HeaderMap) -> Box<[u8]> {
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

/// First line of a body, as far as it can be shown to users.
pub(super) fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim()
        .chars()
        .take_while(|character| !matches!(character, '\n' | '\r'))
        .filter(|character| !character.is_control())
        .take(MAX_SHOWN_BODY)
        .collect()
}

fn describe(status: u16, probe: ProbeResult, took: &str, body: &[u8]) -> String {
    if probe == ProbeResult::Pass {
        return format!("{status} in {took}");
    }
    let known = StatusCode::from_u16(status).ok();
    let reason = known.and_then(|status| status.canonical_reason());
    let line = format!("{status} {}", reason.unwrap_or_default());
    match &*first_line(&body[..body.len().min(4 * MAX_SHOWN_BODY)]) {
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

/// Time since `began`, such as `1.2 ms`.
pub(super) fn took(began: Instant) -> String {
    format!("{:.1} ms", began.elapsed().as_secs_f64() * 1000.0)
}

/// Backend's address in the form of a `Host` field.
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
