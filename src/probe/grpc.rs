//! The gRPC check: `grpc.health.v1.Health/Check`, as every gRPC library's health service answers it.

mod message;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri, Version};
use tokio::time::{Instant, timeout_at};

use super::Target;
use super::answer::Answer;
use super::connect::{self, connect};
use super::http::{default_host, first_line, took};
use super::resolve::Resolver;
use super::sentinel::Sentinel;
use super::session::{Reply, Session, grpc_timeout};
use crate::config::Check;
use crate::core::backend::Probe;
use crate::tls::upstream::Alpn;
use message::ServingStatus;

const PATH: &str = "/grpc.health.v1.Health/Check";
const AGENT: &str = concat!("grpc-lameduck/", env!("CARGO_PKG_VERSION"));

/// Status codes that mean something to a probe (gRPC's `statuscodes.md`).
const OK: u16 = 0;
const DEADLINE_EXCEEDED: u16 = 4;
const NOT_FOUND: u16 = 5;
const UNIMPLEMENTED: u16 = 12;
const UNAVAILABLE: u16 = 14;

/// The call, made once.
#[derive(Debug)]
pub(super) struct Grpc {
    service: String,
    uri: Uri,
    fields: HeaderMap,
    message: Bytes,
}

impl Grpc {
    /// `None` for another kind of check.
    pub(super) fn new(target: &Target) -> Option<Self> {
        let Check::Grpc { service, host } = &target.health.check else {
            return None;
        };
        let host = host
            .clone()
            .unwrap_or_else(|| default_host(&target.endpoint.address, target.health.port));
        let scheme = match connect::speaks_tls(target) {
            true => "https",
            false => "http",
        };
        let uri = |host: &str| format!("{scheme}://{host}{PATH}").parse::<Uri>();
        let uri = uri(&host).or_else(|error| {
            tracing::warn!(
                pool = %target.endpoint.pool,
                "health checks call `localhost`: the host {host:?} can't be sent ({error})"
            );
            uri("localhost")
        });
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fields.insert(TE, HeaderValue::from_static("trailers"));
        fields.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Ok(timeout) = grpc_timeout(target.health.timeout).try_into() {
            fields.insert(HeaderName::from_static("grpc-timeout"), timeout);
        }
        Some(Self {
            service: service.clone(),
            uri: uri.unwrap_or_default(),
            fields,
            message: message::request(service).into(),
        })
    }

    /// One probe: on the kept session if there is one, else, or if that ended just now, on a fresh one.
    pub(super) async fn probe(
        &self,
        target: &Target,
        resolver: &Resolver,
        sentinel: Option<Sentinel>,
        keep: bool,
    ) -> Answer {
        let began = Instant::now();
        let deadline = began + target.health.timeout;
        let kept = sentinel.and_then(Sentinel::into_session);
        let reused = kept.is_some();
        if let Some((mut session, listener)) = kept {
            match timeout_at(deadline, self.call(&mut session)).await {
                Err(_) => return Answer::timeout(target.health.timeout),
                Ok(Ok(reply)) => return self.judge(&reply, session, listener, began, keep),
                // The race that every kept connection knows.
                Ok(Err(_)) => {}
            }
        }
        let fresh = async {
            let (connection, listener) = connect(target, Alpn::H2, resolver).await?;
            let session = Session::open(connection).await;
            let mut session = session.map_err(|error| no_answer(&error))?;
            let reply = self.call(&mut session).await;
            let reply = reply.map_err(|error| no_answer(&error))?;
            Ok((reply, session, listener))
        };
        let mut answer = match timeout_at(deadline, fresh).await {
            Err(_) => Answer::timeout(target.health.timeout),
            Ok(Err(failed)) => failed,
            Ok(Ok((reply, session, listener))) => {
                self.judge(&reply, session, listener, began, keep)
            }
        };
        answer.sentinel_died = reused;
        answer
    }

    async fn call(&self, session: &mut Session) -> Result<Reply, h2::Error> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.fields.clone();
        session.call(request, self.message.clone()).await
    }

    fn judge(
        &self,
        reply: &Reply,
        session: Session,
        listener: Option<u64>,
        began: Instant,
        keep: bool,
    ) -> Answer {
        let (probe, detail) = self.verdict(reply, began);
        Answer {
            listener,
            kept: (keep && session.is_open()).then(|| Sentinel::session(session, listener)),
            ..Answer::new(probe, detail)
        }
    }

    fn verdict(&self, reply: &Reply, began: Instant) -> (Probe, String) {
        if reply.status != 200 {
            let known = StatusCode::from_u16(reply.status).ok();
            let reason = known.and_then(|status| status.canonical_reason());
            let line = format!("{} {}", reply.status, reason.unwrap_or_default());
            let probe = match reply.status {
                503 => Probe::Unavailable,
                status => Probe::Status(status),
            };
            return (
                probe,
                format!("{} instead of a gRPC answer", line.trim_end()),
            );
        }
        // An answer without a message has it in its head.
        let field = |name| reply.trailers.get(name).or_else(|| reply.head.get(name));
        let number = |value: &HeaderValue| value.to_str().ok()?.parse::<u16>().ok();
        let Some(status) = field("grpc-status").and_then(number) else {
            return (
                Probe::Status(200),
                "the answer is not gRPC's: it has no grpc-status".to_owned(),
            );
        };
        let said = field("grpc-message").map(|value| first_line(value.as_bytes()));
        match status {
            OK => self.serving(message::response(&reply.body), began),
            _ => self.error(status, &said.unwrap_or_default()),
        }
    }

    fn serving(&self, answer: Option<ServingStatus>, began: Instant) -> (Probe, String) {
        match answer {
            Some(ServingStatus::Serving) => (Probe::Pass, format!("SERVING in {}", took(began))),
            Some(ServingStatus::NotServing) => (Probe::Unavailable, "NOT_SERVING".to_owned()),
            Some(ServingStatus::ServiceUnknown) => (Probe::Status(NOT_FOUND), self.unknown()),
            Some(ServingStatus::Unknown) => {
                let detail = "UNKNOWN: the app has not said yet whether it serves";
                (Probe::Status(200), detail.to_owned())
            }
            None => {
                let detail = "the answer is not a HealthCheckResponse";
                (Probe::Status(200), detail.to_owned())
            }
        }
    }

    fn error(&self, status: u16, said: &str) -> (Probe, String) {
        let said = match said {
            "" => String::new(),
            said => format!(": {said}"),
        };
        match status {
            UNAVAILABLE => (Probe::Unavailable, format!("UNAVAILABLE{said}")),
            DEADLINE_EXCEEDED => (Probe::Timeout, format!("DEADLINE_EXCEEDED{said}")),
            NOT_FOUND => (Probe::Status(status), self.unknown()),
            UNIMPLEMENTED => (
                Probe::Status(status),
                "UNIMPLEMENTED: the app has no grpc.health.v1.Health; add its library's health service, or write \
                 `type = \"tcp\"` in [pool.health]"
                    .to_owned(),
            ),
            other => (Probe::Status(other), format!("grpc-status {other}{said}")),
        }
    }

    fn unknown(&self) -> String {
        format!(
            "SERVICE_UNKNOWN: the app's health service knows no {:?}: see `service` in [pool.health]",
            self.service
        )
    }
}

fn no_answer(error: &h2::Error) -> Answer {
    let detail = match (error.get_io(), error.reason()) {
        (Some(error), _) => connect::describe(error),
        (None, Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::FRAME_SIZE_ERROR)) => {
            "the answer was not HTTP/2; does it speak gRPC on this port?".to_owned()
        }
        (None, _) => format!("no answer over HTTP/2: {error}"),
    };
    Answer::new(Probe::Reset, detail)
}
