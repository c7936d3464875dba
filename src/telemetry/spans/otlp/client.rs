//! HTTP client for the collector: hyper, with rustls for `https://`. One connection is kept open.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_http::{HttpClient, HttpError};
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};

use super::super::TracingError;
use crate::config::TracingConfig;
use crate::rt::clock;
use crate::tls::{self, pem};

/// Longest answer of a collector, in bytes.
const MOST_ANSWER: usize = 64 << 10;

/// Longest part of a collector's message that is shown to users, in characters.
const MOST_TEXT: usize = 200;

/// Time after which an idle connection is closed; collectors and proxies before them close theirs at times of their
/// own.
const KEPT: Duration = Duration::from_secs(30);

/// Sends batches that the exporter has encoded.
#[derive(Clone)]
pub(super) struct CollectorClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
    heard: Arc<Mutex<CollectorAnswers>>,
}

/// Answers of the collector since they were last read.
#[derive(Debug, Default)]
struct CollectorAnswers {
    problem: Option<String>,
    rejected: u64,
}

impl std::fmt::Debug for CollectorClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CollectorClient").finish_non_exhaustive()
    }
}

impl CollectorClient {
    /// A client for this configuration.
    pub(super) fn new(config: &TracingConfig) -> Result<Self, TracingError> {
        let tls = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TracingError::Exporter(error.to_string()))?
            .with_root_certificates(roots(config)?)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(config.timeout));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT)
            .pool_max_idle_per_host(1)
            .build(https);
        Ok(Self {
            client,
            timeout: config.timeout,
            heard: Arc::default(),
        })
    }

    /// Takes the reason why the last batch was not delivered.
    pub(super) fn take_problem(&self) -> Option<String> {
        self.heard.lock().problem.take()
    }

    /// Takes the number of spans of the last batch that were refused.
    pub(super) fn take_rejected(&self) -> u64 {
        std::mem::take(&mut self.heard.lock().rejected)
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.client.request(request.map(Full::new)).await?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MOST_ANSWER).collect().await?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let agent = HeaderValue::from_static(concat!("lameduck/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        let sent = match clock::timeout(self.timeout, self.exchange(request)).await {
            Ok(sent) => sent,
            Err(_) => Err(format!("no answer within {} s", self.timeout.as_secs_f32()).into()),
        };
        let mut heard = self.heard.lock();
        *heard = CollectorAnswers::default();
        match &sent {
            Err(error) => heard.problem = Some(chain(&**error)),
            Ok(answer) if answer.status().is_success() => {
                heard.rejected = rejected_spans(answer.body());
            }
            Ok(answer) => {
                heard.problem = Some(format!(
                    "it answered {}{}",
                    answer.status(),
                    describe_answer(answer.body())
                ));
            }
        }
        sent
    }
}

/// An error with its causes, because hyper's own message says little.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}

/// Message in an answer that is no success, if it is text. A `Status` in protobuf contains its message as plain bytes,
/// too.
fn describe_answer(body: &Bytes) -> String {
    let text = String::from_utf8_lossy(body);
    let plain: String = text
        .chars()
        .map(|c| {
            if c.is_control() || c == '\u{fffd}' {
                ' '
            } else {
                c
            }
        })
        .take(MOST_TEXT)
        .collect();
    match plain.trim() {
        "" => String::new(),
        plain => format!(" ({plain})"),
    }
}

/// Value of `partial_success.rejected_spans` in an `ExportTraceServiceResponse`: the first field of its first field. A
/// malformed answer counts as zero.
fn rejected_spans(body: &[u8]) -> u64 {
    let read = || {
        let mut outer = body;
        let (1, Some(mut inner), _) = take_field(&mut outer)? else {
            return None;
        };
        match take_field(&mut inner)? {
            (1, None, count) => Some(count),
            _ => None,
        }
    };
    read().unwrap_or(0)
}

/// Next field of a protobuf message: its number, and its bytes or, for a number, its value.
fn take_field<'a>(message: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>, u64)> {
    let tag = take_varint(message)?;
    let value = take_varint(message)?;
    match tag & 7 {
        0 => Some((tag >> 3, None, value)),
        2 => {
            let (bytes, rest) = message.split_at_checked(usize::try_from(value).ok()?)?;
            *message = rest;
            Some((tag >> 3, Some(bytes), 0))
        }
        _ => None,
    }
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn roots(config: &TracingConfig) -> Result<RootCertStore, TracingError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &config.ca {
        let fail = |why: String| TracingError::File {
            key: "ca",
            path: file.display().to_string(),
            why,
            remedy: "name a PEM file with the certificates of the collector's authorities",
        };
        let text = pem::read(file).map_err(|error| fail(error.to_string()))?;
        let all = pem::certificates(file, &text).map_err(|error| fail(error.to_string()))?;
        for certificate in all {
            let added = roots.add(certificate);
            added.map_err(|error| fail(error.to_string()))?;
        }
    } else if config.endpoint.is_https() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let why = "the system has no certificates of authorities to verify the collector with: install ca-certificates, or write `ca`";
            return Err(TracingError::Exporter(why.to_owned()));
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_spans_are_read_and_garbage_is_not() {
        // partial_success { rejected_spans: 300, error_message: "no" }
        let body = [0x0a, 7, 0x08, 0xac, 0x02, 0x12, 2, b'n', b'o'];
        assert_eq!(rejected_spans(&body), 300);
        for garbage in [
            &b""[..],
            b"\xff\xff\xff\xff",
            b"<html>",
            b"\x0a\x7f\x08",
            b"{}",
        ] {
            assert_eq!(rejected_spans(garbage), 0, "{garbage:?}");
        }
    }
}
