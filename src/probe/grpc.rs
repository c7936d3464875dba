//! The gRPC health check: a call of `grpc.health.v1.Health/Check` (gRPC's `health-checking.md`).

mod message;

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use tokio::time::Instant;

use super::ProbeTarget;
use super::http::{default_host, first_line, took};
use super::http2::{self, ProbeCall, ProbeReply};
use super::resolve::AddressResolver;
use super::sentinel::SentinelConnection;
use super::verdict::ProbeAnswer;
use crate::config::HealthCheck;
use crate::core::backend::ProbeResult;
use message::ServingStatus;

const PATH: &str = "/grpc.health.v1.Health/Check";
const AGENT: &str = concat!("grpc-lameduck/", env!("CARGO_PKG_VERSION"));

/// gRPC status codes that a probe distinguishes (gRPC's `statuscodes.md`).
const OK: u16 = 0;
const DEADLINE_EXCEEDED: u16 = 4;
const NOT_FOUND: u16 = 5;
const UNIMPLEMENTED: u16 = 12;
const UNAVAILABLE: u16 = 14;

/// The call, encoded once.
#[derive(Debug)]
pub(super) struct GrpcProbe {
    service: String,
    request: Request<()>,
    message: Bytes,
}

impl GrpcProbe {
    /// The call for this target, or `None` if it has another kind of check.
    pub(super) fn new(target: &ProbeTarget) -> Option<Self> {
        let HealthCheck::Grpc { service, host } = &target.health.check else {
            return None;
        };
        let host = host
            .clone()
            .unwrap_or_else(|| default_host(&target.endpoint.address, target.health.port));
        let uri = http2::uri(target, &host, PATH);
        let mut request = http2::request(Method::POST, uri);
        let fields = request.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fields.insert(TE, HeaderValue::from_static("trailers"));
        fields.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Ok(timeout) = timeout(target.health.timeout).try_into() {
            fields.insert(HeaderName::from_static("grpc-timeout"), timeout);
        }
        Some(Self {
            service: service.clone(),
            request,
            message: message::request(service).into(),
        })
    }

    /// Makes one probe.
    pub(super) async fn probe(
        &self,
        target: &ProbeTarget,
        resolver: &AddressResolver,
        sentinel: Option<SentinelConnection>,
        keep: bool,
    ) -> ProbeAnswer {
        let judge = |reply: &ProbeReply, began| self.verdict(reply, began);
        let call = ProbeCall {
            request: &self.request,
            body: &self.message,
        };
        http2::probe(target, resolver, sentinel, keep, call, judge).await
    }

    fn verdict(&self, reply: &ProbeReply, began: Instant) -> (ProbeResult, String) {
        if reply.status != 200 {
            let known = StatusCode::from_u16(reply.status).ok();
            let reason = known.and_then(|status| status.canonical_reason());
            let line = format!("{} {}", reply.status, reason.unwrap_or_default());
            let probe = match reply.status {
                503 => ProbeResult::Unavailable,
                status => ProbeResult::Status(status),
            };
            return (
                probe,
                format!("{} instead of a gRPC answer", line.trim_end()),
            );
        }
        // A response without a message (trailers-only) has its gRPC status in the head.
        let field = |name| reply.trailers.get(name).or_else(|| reply.head.get(name));
        let number = |value: &HeaderValue| value.to_str().ok()?.parse::<u16>().ok();
        let Some(status) = field("grpc-status").and_then(number) else {
            return (
                ProbeResult::Status(200),
                "the answer is not gRPC's: it has no grpc-status".to_owned(),
            );
        };
        let said = field("grpc-message").map(|value| first_line(value.as_bytes()));
        match status {
            OK => self.serving(message::response(&reply.body), began),
            _ => self.error(status, &said.unwrap_or_default()),
        }
    }

    fn serving(&self, answer: Option<ServingStatus>, began: Instant) -> (ProbeResult, String) {
        match answer {
            Some(ServingStatus::Serving) => {
                (ProbeResult::Pass, format!("SERVING in {}", took(began)))
            }
            Some(ServingStatus::NotServing) => (ProbeResult::Unavailable, "NOT_SERVING".to_owned()),
            Some(ServingStatus::ServiceUnknown) => (ProbeResult::Status(NOT_FOUND), self.unknown()),
            Some(ServingStatus::Unknown) => {
                let detail = "UNKNOWN: the app has not said yet whether it serves";
                (ProbeResult::Status(200), detail.to_owned())
            }
            None => {
                let detail = "the answer is not a HealthCheckResponse";
                (ProbeResult::Status(200), detail.to_owned())
            }
        }
    }

    fn error(&self, status: u16, said: &str) -> (ProbeResult, String) {
        let said = match said {
            "" => String::new(),
            said => format!(": {said}"),
        };
        match status {
            UNAVAILABLE => (ProbeResult::Unavailable, format!("UNAVAILABLE{said}")),
            DEADLINE_EXCEEDED => (ProbeResult::Timeout, format!("DEADLINE_EXCEEDED{said}")),
            NOT_FOUND => (ProbeResult::Status(status), self.unknown()),
            UNIMPLEMENTED => (
                ProbeResult::Status(status),
                "UNIMPLEMENTED: the app has no grpc.health.v1.Health; add its library's health service, or write \
                 `type = \"tcp\"` in [pool.health]"
                    .to_owned(),
            ),
            other => (ProbeResult::Status(other), format!("grpc-status {other}{said}")),
        }
    }

    fn unknown(&self) -> String {
        format!(
            "SERVICE_UNKNOWN: the app's health service knows no {:?}: see `service` in [pool.health]",
            self.service
        )
    }
}

/// Value of `grpc-timeout` (gRPC's `PROTOCOL-HTTP2.md`): at most eight digits and a unit.
fn timeout(timeout: Duration) -> String {
    match timeout.as_millis() {
        milliseconds @ 0..=99_999_999 => format!("{}m", milliseconds.max(1)),
        _ => format!("{}S", timeout.as_secs().min(99_999_999)),
    }
}
