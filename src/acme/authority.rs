//! Requests to an authority: one connection for each, over HTTPS, limited in time and length.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient, Problem};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::AcmeError;
use crate::core::renewal::AuthorityFault;
use crate::tls::{self, pem};

/// Longest time for a request, from the lookup of the host name to the last byte of the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest response, in bytes.
const MAX_ANSWER_LENGTH: usize = 1 << 20;

/// Longest part of an authority's message that is shown, in characters.
const MAX_MESSAGE_LENGTH: usize = 400;

/// Client for requests to an authority.
#[derive(Clone)]
pub(super) struct AuthorityClient {
    tls: TlsConnector,
    /// Seconds of the `Retry-After` field in the last response.
    asked: Arc<Mutex<Option<i64>>>,
}

/// Reason why there is no useful response.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
struct AuthorityRequestError {
    why: String,
    /// Status, if there was a response.
    status: Option<StatusCode>,
}

impl AuthorityRequestError {
    fn new(why: impl ToString) -> Self {
        Self {
            why: why.to_string(),
            status: None,
        }
    }
}

impl AuthorityClient {
    /// A client that trusts the authorities in this file, or those of the system. May wait for the disk.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, AcmeError> {
        let local = |why: String| AcmeError::new(AuthorityFault::Local, why);
        let mut roots = RootCertStore::empty();
        match ca {
            Some(file) => {
                let text = pem::read(file).map_err(|error| local(error.to_string()))?;
                let all = pem::certificates(file, &text);
                for certificate in all.map_err(|error| local(error.to_string()))? {
                    let added = roots.add(certificate);
                    added.map_err(|error| local(format!("{}: {error}", file.display())))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(local(
                "the system has no certificates of authorities to verify with: install \
                 ca-certificates, or write `ca`"
                    .to_owned(),
            ));
        }
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| local(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            asked: Arc::default(),
        })
    }

    /// Takes the seconds of the `Retry-After` field in the last response.
    pub(super) fn take_asked(&self) -> Option<i64> {
        self.asked.lock().take()
    }

    /// Classifies an error.
    pub(super) fn judge(&self, error: Error) -> AcmeError {
        let asked = self.take_asked();
        let (fault, why) = match error {
            Error::Api(problem) => {
                let status = problem.status.unwrap_or(0);
                let kind = problem.r#type.as_deref();
                (
                    AuthorityFault::of_problem(kind, status),
                    describe_problem(&problem),
                )
            }
            Error::Other(error) => match error.downcast::<AuthorityRequestError>() {
                Ok(error) => {
                    let fault = match error.status {
                        Some(StatusCode::TOO_MANY_REQUESTS) => AuthorityFault::RateLimited,
                        Some(_) => AuthorityFault::Busy,
                        None => AuthorityFault::Unreachable,
                    };
                    (fault, error.why)
                }
                Err(error) => (AuthorityFault::Busy, error.to_string()),
            },
            Error::Json(error) => (
                AuthorityFault::Busy,
                format!("the authority's answer is not as it should be: {error}"),
            ),
            Error::Crypto | Error::KeyRejected => (
                AuthorityFault::Local,
                "the account's key can't be used".to_owned(),
            ),
            Error::Unsupported(what) => (
                AuthorityFault::Refused,
                format!("the authority has no {what}"),
            ),
            other => (AuthorityFault::Busy, other.to_string()),
        };
        AcmeError { fault, why, asked }
    }

    /// Fetches JSON from a URL that needs no account.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, AcmeError> {
        let mut request = Request::new(BodyWrapper::default());
        let uri = url.parse::<Uri>();
        *request.uri_mut() = uri.map_err(|error| {
            AcmeError::new(AuthorityFault::Busy, format!("{url} is no URL: {error}"))
        })?;
        let answer = self.exchange(request).await;
        let answer = answer.map_err(|error| self.judge(Error::Other(Box::new(error))))?;
        serde_json::from_slice(answer.body()).map_err(|error| self.judge(Error::Json(error)))
    }

    /// Sends a request. A response with a problem document counts as one, whatever its status.
    async fn exchange(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Bytes>, AuthorityRequestError> {
        *self.asked.lock() = None;
        let host = request.uri().host().unwrap_or_default().to_owned();
        let is_post = request.method() == Method::POST;
        let sent = tokio::time::timeout(REQUEST_TIMEOUT, self.send(request)).await;
        let answer = sent.map_err(|_| {
            AuthorityRequestError::new(format!(
                "{host} has not answered within {} s",
                REQUEST_TIMEOUT.as_secs()
            ))
        })??;
        *self.asked.lock() = retry_after(answer.headers(), SystemTime::now());
        let status = answer.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(answer);
        }
        let has_problem = serde_json::from_slice::<Problem>(answer.body());
        match has_problem {
            Ok(problem) if is_post && problem.status.is_some() => Ok(answer),
            Ok(problem) if is_post => {
                // Some authorities do not repeat the status in the problem document.
                let (parts, _) = answer.into_parts();
                let body = serde_json::json!({
                    "type": problem.r#type,
                    "detail": problem.detail,
                    "status": status.as_u16(),
                });
                Ok(Response::from_parts(parts, body.to_string().into()))
            }
            Err(_) if is_post => {
                let why = format!("{host} answered {status}");
                let body = serde_json::json!({ "detail": why, "status": status.as_u16() });
                let (parts, _) = answer.into_parts();
                Ok(Response::from_parts(parts, body.to_string().into()))
            }
            _ => Err(AuthorityRequestError {
                why: format!("{host} answered {status}"),
                status: Some(status),
            }),
        }
    }

    async fn send(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Bytes>, AuthorityRequestError> {
        let uri = request.uri().clone();
        let (Some("https"), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(AuthorityRequestError::new(format!(
                "the authority names a URL that is not https://: {uri}"
            )));
        };
        let bare = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = ServerName::try_from(bare.clone()).map_err(AuthorityRequestError::new)?;
        let port = uri.port_u16().unwrap_or(443);
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            AuthorityRequestError::new(format!("{what} {host}:{port}: {error}"))
        };
        let stream = TcpStream::connect((&*bare, port)).await;
        let stream = stream.map_err(|error: io::Error| {
            failed("can't connect to", &crate::config::plain(&error))
        })?;
        let stream = self.tls.connect(name, stream).await;
        let stream = stream.map_err(|error| failed("no TLS with", &error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed("no HTTP with", &error))?;
        // The task ends when the sender is dropped.
        tokio::spawn(connection);
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let target = uri.path_and_query().map_or("/", |path| path.as_str());
        let target = target.parse::<Uri>().map_err(AuthorityRequestError::new)?;
        *request.uri_mut() = target;
        let headers = request.headers_mut();
        let value = HeaderValue::from_str(authority).map_err(AuthorityRequestError::new)?;
        headers.insert(HOST, value);
        let agent = HeaderValue::from_static(concat!("lameduck/", env!("CARGO_PKG_VERSION")));
        headers.insert(USER_AGENT, agent);
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| failed("no answer from", &error))?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_LENGTH).collect().await;
        let body = body.map_err(|error| failed("half an answer from", &error))?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }
}

impl HttpClient for AuthorityClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            match client.exchange(request).await {
                Ok(answer) => Ok(BytesResponse::from(answer.map(Full::new))),
                Err(error) => Err(Error::Other(Box::new(error))),
            }
        })
    }
}

/// Value of `Retry-After` in seconds from now (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(i64::from(seconds));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let left = at.duration_since(now).unwrap_or_default();
    i64::try_from(left.as_secs()).ok()
}

/// Message of an authority, in one line of limited length.
pub(super) fn describe_problem(problem: &Problem) -> String {
    let mut text = problem.detail.clone().unwrap_or_default();
    if text.is_empty() {
        text = "the authority gives no reason".to_owned();
    }
    for part in &problem.subproblems {
        text.push_str(&format!("; {part}"));
    }
    if let Some(kind) = &problem.r#type {
        let name = kind.rsplit(':').next().unwrap_or(kind);
        text.push_str(&format!(" ({name})"));
    }
    let tame = text.chars().map(|letter| match letter.is_control() {
        true => ' ',
        false => letter,
    });
    tame.take(MAX_MESSAGE_LENGTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            let now = httpdate::parse_http_date("Fri, 31 Dec 1999 23:59:00 GMT").unwrap();
            retry_after(&headers, now)
        };
        assert_eq!(read("120"), Some(120));
        assert_eq!(read("Fri, 31 Dec 1999 23:59:59 GMT"), Some(59));
        assert_eq!(read("Thu, 31 Dec 1998 23:59:59 GMT"), Some(0));
        for bad in ["", "-1", "soon", "99999999999999"] {
            assert_eq!(read(bad), None);
        }
    }
}
