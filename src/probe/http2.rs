//! A probe's HTTP/2 connection (RFC 9113): one call at a time. Between calls it is the sentinel connection.

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use hyper::{HeaderMap, Method, Request, Uri, Version};
use tokio::time::{Instant, timeout_at};

use super::ProbeTarget;
use super::connect::{self, ProbeConnection, connect};
use super::resolve::AddressResolver;
use super::sentinel::{SentinelConnection, SentinelTask};
use super::verdict::ProbeAnswer;
use crate::core::backend::ProbeResult;
use crate::tls::upstream::Alpn;

/// Longest body that is read to its end, in bytes.
const MAX_BODY: usize = 64 << 10;
/// Longest head, in bytes; a longer one counts as no answer.
const MAX_HEAD: u32 = 64 << 10;

/// An open session; dropping it closes the connection.
#[derive(Debug)]
pub(super) struct ProbeSession {
    sender: SendRequest<Bytes>,
    /// Task that drives the connection until its end.
    task: SentinelTask,
}

/// A complete answer.
#[derive(Debug)]
pub(super) struct ProbeReply {
    /// Status code.
    pub(super) status: u16,
    pub(super) head: HeaderMap,
    /// The beginning of the body.
    pub(super) body: Vec<u8>,
    pub(super) trailers: HeaderMap,
}

impl ProbeSession {
    /// Starts an HTTP/2 session. Only the first call shows whether the backend speaks HTTP/2.
    async fn open(connection: ProbeConnection) -> Result<Self, h2::Error> {
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .max_header_list_size(MAX_HEAD)
            .handshake(connection)
            .await?;
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            task: SentinelTask(task),
        })
    }

    /// Sends a request and reads its answer.
    async fn call(&mut self, call: ProbeCall<'_>) -> Result<ProbeReply, h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        let bodiless = call.body.is_empty();
        let (response, mut stream) = sender.send_request(call.request.clone(), bodiless)?;
        if !bodiless {
            // These few bytes fit into any flow-control window.
            stream.send_data(call.body.clone(), true)?;
        }
        let (head, mut incoming) = response.await?.into_parts();
        let mut body = Vec::new();
        while let Some(data) = incoming.data().await {
            let data = data?;
            let _ = incoming.flow_control().release_capacity(data.len());
            body.extend_from_slice(&data);
            if body.len() > MAX_BODY {
                break;
            }
        }
        let trailers = match body.len() > MAX_BODY {
            true => None,
            false => incoming.trailers().await?,
        };
        Ok(ProbeReply {
            status: head.status.as_u16(),
            head: head.headers,
            body,
            trailers: trailers.unwrap_or_default(),
        })
    }

    /// Waits until the connection has ended.
    pub(super) async fn closed(&mut self) {
        self.task.ended().await;
    }

    /// Whether the connection is open, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.task.is_watching()
    }
}

/// Request of a probe.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbeCall<'a> {
    pub(super) request: &'a Request<()>,
    /// Body; may be empty.
    pub(super) body: &'a Bytes,
}

/// A request without header fields.
pub(super) fn request(method: Method, uri: Uri) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    request
}

/// Target of a request in the form that HTTP/2 needs.
pub(super) fn uri(target: &ProbeTarget, host: &str, path: &str) -> Uri {
    let scheme = match connect::speaks_tls(target) {
        true => "https",
        false => "http",
    };
    let uri = |host: &str| format!("{scheme}://{host}{path}").parse::<Uri>();
    let uri = uri(host).or_else(|error| {
        tracing::warn!(
            pool = %target.endpoint.pool,
            "health probes name `localhost` as the host: {host:?} can't be sent ({error})"
        );
        uri("localhost")
    });
    uri.unwrap_or_default()
}

/// Makes one probe: on the kept session if there is one, or on a new one if there is none or it was just closed.
pub(super) async fn probe(
    target: &ProbeTarget,
    resolver: &AddressResolver,
    sentinel: Option<SentinelConnection>,
    keep: bool,
    call: ProbeCall<'_>,
    judge: impl Fn(&ProbeReply, Instant) -> (ProbeResult, String),
) -> ProbeAnswer {
    let began = Instant::now();
    let deadline = began + target.health.timeout;
    let judge = |reply: &ProbeReply, session: ProbeSession, listener| {
        let (probe, detail) = judge(reply, began);
        ProbeAnswer {
            listener,
            kept: (keep && session.is_open())
                .then(|| SentinelConnection::session(session, listener)),
            ..ProbeAnswer::new(probe, detail)
        }
    };
    let kept = sentinel.and_then(SentinelConnection::into_session);
    let reused = kept.is_some();
    if let Some((mut session, listener)) = kept {
        match timeout_at(deadline, session.call(call)).await {
            Err(_) => return ProbeAnswer::timeout(target.health.timeout),
            Ok(Ok(reply)) => return judge(&reply, session, listener),
            // The peer closed the connection while the request was on its way.
            Ok(Err(_)) => {}
        }
    }
    let fresh = async {
        let (connection, listener) = connect(target, Alpn::H2, resolver).await?;
        let session = ProbeSession::open(connection).await;
        let mut session = session.map_err(|error| no_answer(&error))?;
        let reply = session.call(call).await;
        let reply = reply.map_err(|error| no_answer(&error))?;
        Ok((reply, session, listener))
    };
    let mut answer = match timeout_at(deadline, fresh).await {
        Err(_) => ProbeAnswer::timeout(target.health.timeout),
        Ok(Err(failed)) => failed,
        Ok(Ok((reply, session, listener))) => judge(&reply, session, listener),
    };
    answer.sentinel_died = reused;
    answer
}

fn no_answer(error: &h2::Error) -> ProbeAnswer {
    let detail = match (error.get_io(), error.reason()) {
        (Some(error), _) => connect::describe(error),
        (None, Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::FRAME_SIZE_ERROR)) => {
            "the answer was not HTTP/2: does it speak that on this port?".to_owned()
        }
        (None, _) => format!("no answer over HTTP/2: {error}"),
    };
    ProbeAnswer::new(ProbeResult::Reset, detail)
}
