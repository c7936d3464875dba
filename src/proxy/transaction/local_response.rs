//! Responses that the proxy generates itself, such as error responses: a status and a line of text.

use std::borrow::Cow;
use std::time::Duration;

use super::Transaction;
use super::compressed_answer::compress_answer;
use super::record::{RequestEnd, RequestRecord};
use super::request_id::RequestId;
use crate::core::hold::RETRY_AFTER;
use crate::core::retry;
use crate::metrics::ServerLimit;
use crate::net::connect_fault::ConnectFault;
use crate::proxy::buffer::SMALL;
use crate::proxy::client::upload::UploadError;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::error_pages::{ToldError, choose_form, write_error};
use crate::proxy::error_response::{SHUTTING_DOWN, reason_phrase, write_local_response};
use crate::proxy::forward::ForwardFailure;
use crate::proxy::forward::changed_fields::ChangedFields;
use crate::proxy::forward::headers::{HSTS, hsts};
use crate::proxy::h1::method::{HttpVersion, Method};
use crate::proxy::h1::request::RequestHead;
use crate::proxy::memory::{self, MemoryCharge};
use crate::proxy::messages::grpc;
use crate::proxy::transaction::maintenance::{PAUSED, PageAnswer};
use crate::proxy::transaction::redirect;
use crate::registry::snapshot::PoolSnapshot;
use crate::rt::clock;
use crate::rt::panics;

/// Longest time that a client may take to receive a generated response.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// The detail of the short response that replaces a longer one for lack of memory.
const NO_MEMORY: &str = "no memory is left for this answer";

/// A response that the proxy generates.
#[derive(Debug, Clone)]
pub(super) struct LocalResponse {
    pub(super) status: u16,
    /// Text for the client.
    pub(super) cause: &'static str,
    /// Text that follows `cause` in the log only, because it names backends.
    pub(super) seen: Option<String>,
    pub(super) retry_after: Option<u32>,
    /// The limit of `[server]` that was exceeded.
    pub(super) limit: Option<ServerLimit>,
    /// Further header fields, as lines.
    pub(super) fields: Option<String>,
}

impl LocalResponse {
    /// The response if no route matches the request.
    pub(super) const NO_ROUTE: Self = Self::new(404, "no route matches this host and path");

    pub(super) const fn new(status: u16, cause: &'static str) -> Self {
        Self {
            status,
            cause,
            seen: None,
            retry_after: None,
            limit: None,
            fields: None,
        }
    }

    /// Returns the response for an exceeded limit of `[server]`.
    pub(super) fn limited(limit: ServerLimit, status: u16) -> Self {
        let cause = match limit {
            ServerLimit::BodyTimeout => "the request's body made no progress",
            ServerLimit::BodyRate => "the request's body came too slowly",
            ServerLimit::Body => "the request's body is too large",
            _ if status == 408 => "the request took too long to arrive",
            _ if status == 504 => "the answer took too long",
            _ => "no backend became ready in time",
        };
        Self {
            limit: Some(limit),
            ..Self::new(status, cause)
        }
    }
}

impl Transaction<'_> {
    pub(super) async fn give_up_as(&mut self, failure: retry::AttemptFailure) -> AfterRequest {
        let answer = match failure {
            retry::AttemptFailure::ConnectFailed => {
                self.none_ready("no backend could be reached", ConnectFault::cause)
            }
            retry::AttemptFailure::RefusedStream => {
                LocalResponse::new(502, "the backend refused the request's HTTP/2 stream")
            }
            retry::AttemptFailure::GoAway => LocalResponse::new(
                502,
                "the backend closed its HTTP/2 session without taking the request",
            ),
            retry::AttemptFailure::Timeout => {
                LocalResponse::new(504, "the backend did not answer in time")
            }
            _ if self.account.end == RequestEnd::Cut => {
                LocalResponse::new(502, "the backend is stopping and did not answer in time")
            }
            _ => LocalResponse::new(502, "the backend closed the connection before it answered"),
        };
        self.account.end = match failure {
            retry::AttemptFailure::Timeout => RequestEnd::Timeout,
            _ if self.account.end == RequestEnd::Cut => RequestEnd::Cut,
            _ => RequestEnd::UpstreamDied,
        };
        self.answer(answer).await
    }

    /// Returns the 503 response of a request that got no backend. If a connect of the request failed, the text for the
    /// client says why (`tried`); otherwise it is `cause`, followed in the log by the result of the pool's last probe.
    pub(super) fn none_ready(
        &self,
        cause: &'static str,
        tried: fn(ConnectFault) -> &'static str,
    ) -> LocalResponse {
        LocalResponse {
            retry_after: Some(RETRY_AFTER),
            seen: match self.last_fault {
                Some(_) => None,
                None => Some(last_seen(&self.pool)),
            },
            ..LocalResponse::new(503, self.last_fault.map_or(cause, tried))
        }
    }

    pub(super) async fn give_up(&mut self, failure: ForwardFailure) -> AfterRequest {
        let answer = match failure {
            ForwardFailure::BadResponse(cause) => LocalResponse::new(502, cause),
            ForwardFailure::BadBody(error) => body_answer(error),
            ForwardFailure::LengthRequired => LocalResponse::new(
                411,
                "the backend speaks HTTP/1.0: the request's body needs a Content-Length",
            ),
            ForwardFailure::Untranslatable => LocalResponse::new(
                400,
                "the request can't be said in HTTP/2, which the pool speaks",
            ),
            ForwardFailure::ShutDown => LocalResponse::new(503, SHUTTING_DOWN),
            ForwardFailure::Limited {
                limit,
                answer: Some(status),
            } => LocalResponse::limited(limit, status),
            _ => LocalResponse::new(502, "the backend's answer could not be passed on"),
        };
        self.answer(answer).await
    }

    pub(super) async fn answer(&mut self, answer: LocalResponse) -> AfterRequest {
        answer_locally(
            self.plane,
            self.client,
            self.head,
            self.account,
            answer,
            self.upload.is_complete(),
        )
        .await
    }
}

/// Returns the result of the pool's last probe as text.
fn last_seen(pool: &PoolSnapshot) -> String {
    let seen = pool.backends.iter();
    let seen = seen.filter_map(|endpoint| Some((endpoint, endpoint.last_probe.get()?)));
    match seen.max_by_key(|(_, probe)| probe.at) {
        Some((endpoint, probe)) => format!("last probe of {}: {}", endpoint.name, probe.detail),
        None if pool.backends.is_empty() => "its pool has no backends".to_owned(),
        None => "no probe has ended yet".to_owned(),
    }
}

/// Ends a request after a panic: the client gets status 500 if no response has begun, otherwise it is cut off. Its
/// connection is closed in both cases, since it is unknown how much of the request was read.
pub(super) async fn after_panic(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
) -> AfterRequest {
    let next = match client.is_answered {
        true => {
            account.cause = Cow::Borrowed(panics::CAUSE);
            AfterRequest::Abort
        }
        false => {
            let answer = LocalResponse::new(500, panics::CAUSE);
            answer_locally(plane, client, head, account, answer, false).await
        }
    };
    account.end = RequestEnd::Panicked;
    next
}

pub(super) fn body_answer(error: UploadError) -> LocalResponse {
    match error {
        UploadError::TooLarge => LocalResponse::limited(ServerLimit::Body, 413),
        UploadError::Malformed => {
            LocalResponse::new(400, "the request's chunked body is malformed")
        }
    }
}

/// Sends the client a generated response.
pub(super) async fn answer_locally(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
    answer: LocalResponse,
    body_complete: bool,
) -> AfterRequest {
    if let Some(limit) = answer.limit {
        plane.counters.limited(limit);
        account.end = RequestEnd::Limited(limit);
    }
    let keep_alive = may_be_kept(plane, client, head, body_complete);
    let mut out = Vec::with_capacity(256);
    let head_only = head.method == Method::Head;
    if head.is_grpc {
        grpc::write_answer(&mut out, answer.status, answer.cause, !keep_alive);
        follow_local_call(client, answer.status);
    } else {
        let buffer = client.buffer.bytes();
        let id = account.request_id(buffer, head);
        let told = ToldError {
            status: answer.status,
            detail: answer.cause,
            request_id: id.as_ref().map_or("", RequestId::as_str),
            close: !keep_alive,
            head_only,
            retry_after: answer.retry_after,
        };
        let config = &plane.registry.snapshot().config;
        let route = account.rule.as_ref().map(|rule| &*rule.route);
        let page = config.error_page(answer.status, route);
        write_error(&mut out, &told, choose_form(buffer, head, page));
    }
    if let Some(fields) = &answer.fields {
        add_fields(&mut out, fields);
    }
    let cause = match answer.seen {
        Some(seen) => Cow::Owned(format!("{}: {seen}", answer.cause)),
        None => Cow::Borrowed(answer.cause),
    };
    account.local(answer.status, cause);
    let out = compress_answer(plane, client, head, account, out).await;
    let next = send(plane, client, account, out, keep_alive, body_complete).await;
    if next == AfterRequest::Abort && answer.limit.is_none() {
        account.end = RequestEnd::ClientClosed;
    }
    next
}

/// Records what the client of a gRPC call gets: status 200 and a gRPC code, instead of the HTTP status.
fn follow_local_call(client: &mut ClientConnection, status: u16) {
    client.follow_call(grpc::code(status));
    let followed = client.followed.as_mut();
    if let Some(trace) = followed.and_then(|followed| followed.trace.as_mut()) {
        trace.status = 200;
    }
}

/// Adds lines to the head of a response that is followed by its body in the same buffer.
fn add_fields(out: &mut Vec<u8>, fields: &str) {
    if let Some(end) = memchr::memmem::find(out, b"\r\n\r\n") {
        out.splice(end + 2..end + 2, fields.bytes());
    }
}

/// Sends the client the page of a paused pool.
pub(super) async fn send_page(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
    page: PageAnswer<'_>,
    body_complete: bool,
) -> AfterRequest {
    let keep_alive = may_be_kept(plane, client, head, body_complete);
    let mut out = Vec::new();
    match head.is_grpc {
        true => {
            grpc::write_answer(&mut out, page.status, PAUSED, !keep_alive);
            follow_local_call(client, page.status);
        }
        false => page.write(&mut out, !keep_alive, head.method == Method::Head),
    }
    account.local(page.status, Cow::Borrowed(PAUSED));
    let out = compress_answer(plane, client, head, account, out).await;
    let next = send(plane, client, account, out, keep_alive, body_complete).await;
    if next == AfterRequest::Abort {
        account.end = RequestEnd::ClientClosed;
    }
    next
}

/// Redirects the client to HTTPS: with 301 if any client repeats the request with the same method, otherwise with
/// 308, which keeps method and body (RFC 9110, sections 15.4.2 and 15.4.9).
pub(super) async fn redirect(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
    port: u16,
) -> AfterRequest {
    account.occupied = head.len;
    let whole = head.body.is_empty();
    let buffer = client.buffer.bytes();
    let Some(location) = redirect::location(buffer, head, port) else {
        let answer = LocalResponse::new(400, "without a Host there is nothing to redirect to");
        return answer_locally(plane, client, head, account, answer, whole).await;
    };
    let status = match head.method {
        Method::Get | Method::Head => 301,
        _ => 308,
    };
    let keep_alive = may_be_kept(plane, client, head, whole);
    let mut out = Vec::with_capacity(256 + location.len());
    redirect::write(&mut out, status, &location, !keep_alive);
    account.local(status, Cow::Borrowed(""));
    let next = send(plane, client, account, out, keep_alive, whole).await;
    if next == AfterRequest::Abort {
        account.end = RequestEnd::ClientClosed;
    }
    next
}

/// Answers a certificate authority's request for a token (RFC 8555, section 8.3).
pub(super) async fn answer_challenge(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
    answer: &str,
) -> AfterRequest {
    account.occupied = head.len;
    let whole = head.body.is_empty();
    let keep_alive = may_be_kept(plane, client, head, whole);
    let close = if keep_alive {
        ""
    } else {
        "Connection: close\r\n"
    };
    let body = match head.method {
        Method::Head => "",
        _ => answer,
    };
    let out = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nCache-Control: no-store\r\n\
         Content-Length: {}\r\n{close}\r\n{body}",
        answer.len()
    );
    account.local(200, Cow::Borrowed("a certificate authority's challenge"));
    let next = send(plane, client, account, out.into_bytes(), keep_alive, whole).await;
    if next == AfterRequest::Abort {
        account.end = RequestEnd::ClientClosed;
    }
    next
}

/// Returns whether the connection may be used again after a generated response.
pub(super) fn may_be_kept(
    plane: &DataPlane,
    client: &ClientConnection,
    head: &RequestHead,
    body_complete: bool,
) -> bool {
    // Unread bytes of the body would be taken for the next request. An HTTP/1.0 client would need a `Connection:
    // keep-alive` header field, which generated responses don't have.
    head.keep_alive
        && head.version == HttpVersion::Http11
        && body_complete
        && !client.finished
        && !plane.is_lame()
}

/// Returns a generated response with the route's changes applied.
#[cold]
fn changed_head(answer: &[u8], changes: &ChangedFields<'_>) -> Vec<u8> {
    let end = head_length(answer);
    let mut changed = Vec::with_capacity(answer.len() + changes.lines.len());
    changes.apply(&answer[..end], &mut changed);
    changed.extend_from_slice(&answer[end..]);
    changed
}

/// Returns the offset of the body in a generated response.
fn head_length(answer: &[u8]) -> usize {
    memchr::memmem::find(answer, b"\r\n\r\n").map_or(answer.len(), |end| end + 4)
}

/// Header fields that describe the body; a response that loses its page gets other ones.
const OF_THE_BODY: [&[u8]; 5] = [
    b"content-type",
    b"content-length",
    b"content-encoding",
    b"transfer-encoding",
    b"etag",
];

/// Returns the short response that replaces a long one for which `max_memory` leaves no room. Errors and redirects
/// only lose their page; if the body was the requested content itself, the client has to ask again.
#[cold]
pub(super) fn answer_without_memory(
    plane: &DataPlane,
    account: &mut RequestRecord,
    head: &[u8],
    close: bool,
) -> Vec<u8> {
    plane.counters.limited(ServerLimit::Memory);
    let status = account.status();
    let mut out = Vec::new();
    if status < 300 {
        let cause = format!("{NO_MEMORY}, whose status is {status}");
        account.local(503, Cow::Owned(cause));
        write_local_response(&mut out, 503, NO_MEMORY, close, false, Some(RETRY_AFTER));
        return out;
    }
    let text = reason_phrase(status);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let is_of_body = OF_THE_BODY.iter().any(|own| name.eq_ignore_ascii_case(own));
        if line != b"\r\n" && !is_of_body {
            out.extend_from_slice(line);
        }
    }
    let length = text.len() + 1;
    let rest = format!(
        "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{text}\n"
    );
    out.extend_from_slice(rest.as_bytes());
    out
}

/// Sends a generated response. Long ones count towards `max_memory` until the client has received them, and use at
/// most half of it: the other half is for requests.
pub(super) async fn send(
    plane: &DataPlane,
    client: &mut ClientConnection,
    account: &mut RequestRecord,
    mut out: Vec<u8>,
    keep_alive: bool,
    body_complete: bool,
) -> AfterRequest {
    let mut head = head_length(&out);
    // The client decides how long the memory is used.
    let mut charge = MemoryCharge::default();
    if out.len() - head > SMALL {
        match memory::fits_part(out.len(), 2) {
            true => charge.set(out.len()),
            false => {
                out = answer_without_memory(plane, account, &out[..head], !keep_alive);
                head = head_length(&out);
            }
        }
    }
    account.local_bytes((out.len() - head) as u64);
    let changes = account.response_changes();
    if client.origin.hsts > 0 && !changes.is_some_and(|changes| changes.dropped.has(HSTS)) {
        let body = out.split_off(head);
        out.truncate(head.saturating_sub(2));
        hsts(&mut out, client.origin.hsts);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&body);
    }
    if let Some(changes) = changes {
        out = changed_head(&out, &changes);
    }
    match client.write_all(&out, clock::now() + SEND_TIMEOUT).await {
        Ok(()) if keep_alive => AfterRequest::KeepAlive,
        Ok(()) if body_complete => AfterRequest::Close,
        Ok(()) => AfterRequest::Linger,
        Err(_) => AfterRequest::Abort,
    }
}
