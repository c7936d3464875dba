//! Forward authentication: another server decides who a client is and what it may do, as oauth2-proxy, Authelia and
//! others offer it.
//!
//! The authentication server gets the request's header fields without its body, as a GET; `X-Forwarded-…` and
//! `X-Original-…` describe the original request. With a 2xx response the request is admitted; any other response goes
//! to the client. Without a response in time, the request is refused.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use tracing::debug;

use super::super::local_response::{answer_without_memory, may_be_kept, send};
use super::{GuardedRequest, Refusal, same_name};
use crate::config::{ForwardAddress, RouteAuth};
use crate::core::Time;
use crate::metrics::RouteRefusal;
use crate::proxy::buffer::SMALL;
use crate::proxy::client::AfterRequest;
use crate::proxy::error_response::reason_phrase;
use crate::proxy::forward::passes;
use crate::proxy::h1::fields::FieldKind;
use crate::proxy::h1::method::Method as AskedMethod;
use crate::proxy::h1::sections::FieldSection;
use crate::proxy::memory::{self, MemoryCharge};
use crate::proxy::messages::grpc;
use crate::rt::clock;

/// Maximum size of a refusal's body that is passed on, in bytes.
const LARGEST_BODY: usize = 256 * 1024;

/// Header fields of a refusal that are passed on.
const PASSED_ON: [&str; 11] = [
    "set-cookie",
    "location",
    "www-authenticate",
    "content-type",
    "content-language",
    "content-encoding",
    "content-security-policy",
    "cache-control",
    "retry-after",
    "refresh",
    "vary",
];

/// Header fields that the authentication server does not get: about the body, a cached copy, or another protocol.
const NOT_ASKED: [&str; 9] = [
    "accept-encoding",
    "range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "content-encoding",
    "content-range",
];

/// Prefixes of further such header fields.
const NOT_ASKED_FAMILIES: [&[u8]; 2] = [b"sec-websocket-", b"proxy-"];

/// A response of the authentication server, with its body.
type AuthAnswer = (Response<()>, AuthBody);

/// The body of such a response, which was read to its end.
#[derive(Default)]
struct AuthBody {
    length: usize,
    /// `None`: nobody needs it, or `max_memory` has no room for it.
    bytes: Option<Vec<u8>>,
    /// The part of `max_memory` that a long one uses.
    charge: MemoryCharge,
}

impl AuthBody {
    /// Adds a piece. As the pages of all refusals, long bodies use half of `max_memory` at most.
    fn push(&mut self, piece: &[u8]) {
        self.length += piece.len();
        let Some(bytes) = &mut self.bytes else {
            return;
        };
        if self.length > bytes.capacity() {
            let size = self.length.next_power_of_two();
            if size > SMALL {
                if !memory::fits_part(size - bytes.capacity(), 2) {
                    self.bytes = None;
                    self.charge.set(0);
                    return;
                }
                self.charge.set(size);
            }
            bytes.reserve_exact(size - bytes.len());
        }
        bytes.extend_from_slice(piece);
    }
}

/// Why there is no response.
enum NoAnswer {
    Late,
    Failed(String),
}

impl GuardedRequest<'_> {
    /// Asks the authentication server; returns the header fields that the app gets if the request is admitted.
    pub(super) async fn ask_server(&mut self, auth: &RouteAuth) -> Result<Vec<u8>, AfterRequest> {
        let Some(address) = &auth.forward else {
            return Ok(Vec::new());
        };
        if self.has_several(b"authorization") {
            // The server might read one field, and the app the other.
            let cause = "a request has one Authorization at most";
            let refusal = Refusal::new(RouteRefusal::Unauthorized, 400, cause);
            return Err(self.refuse(refusal).await);
        }
        let Some(question) = self.question(address) else {
            let cause = "the authentication server can't be asked about this request";
            let refusal = Refusal::new(RouteRefusal::AuthDown, 503, cause);
            return Err(self.refuse(refusal).await);
        };
        match self.ask(question, clock::now() + auth.timeout).await {
            Ok((answer, _)) if answer.status().is_success() => Ok(copied(&answer, &auth.copy)),
            Ok((answer, body)) => Err(self.pass_on(&answer, body).await),
            Err(why) => {
                let (status, cause) = match &why {
                    NoAnswer::Late => (504, "the authentication server did not answer in time"),
                    NoAnswer::Failed(_) => (503, "the authentication server can't be reached"),
                };
                let mut refusal = Refusal::new(RouteRefusal::AuthDown, status, cause).after(1);
                if let NoAnswer::Failed(why) = why {
                    refusal.answer.seen = Some(why);
                }
                Err(self.refuse(refusal).await)
            }
        }
    }

    async fn ask(
        &self,
        question: Request<Empty<Bytes>>,
        until: Time,
    ) -> Result<AuthAnswer, NoAnswer> {
        let client = self.plane.guards.auth_client();
        let asking = async {
            let mut asked = client.request(question.clone()).await;
            // An idle connection may have been closed while the request was on its way; the request is safe to
            // repeat.
            if asked.as_ref().is_err_and(|error| !error.is_connect()) {
                asked = client.request(question).await;
            }
            let answer = asked.map_err(|error| NoAnswer::Failed(explain(&error)))?;
            if answer.status().is_informational() {
                // To the client, this status would announce another protocol.
                let why = "it switches to another protocol instead of answering";
                return Err(NoAnswer::Failed(why.into()));
            }
            let (head, body) = answer.into_parts();
            let head = Response::from_parts(head, ());
            let goes_to_client = !head.status().is_success()
                && !self.head.is_grpc
                && self.head.method != AskedMethod::Head;
            let body = read_body(body, goes_to_client).await?;
            Ok((head, body))
        };
        let left = until.saturating_sub(clock::now());
        match clock::timeout(left.max(Duration::from_millis(1)), asking).await {
            Ok(answered) => answered,
            Err(_) => Err(NoAnswer::Late),
        }
    }

    /// Returns the request for the authentication server.
    fn question(&self, address: &ForwardAddress) -> Option<Request<Empty<Bytes>>> {
        let (buffer, head) = (self.client.buffer.bytes(), self.head);
        let origin = &self.client.origin;
        let said = if origin.trusted { head.kinds } else { 0 };
        let uri = format!("http://{}{}", address.authority, address.target);
        let mut question = Request::builder()
            .method(Method::GET)
            .uri(uri)
            .body(Empty::new())
            .ok()?;
        let fields = question.headers_mut();
        let withheld = FieldSection::RequestHead.withheld()
            | FieldKind::Host.bit()
            | FieldKind::ContentLength.bit()
            | FieldKind::FramingImitation.bit()
            | FieldKind::Expect.bit()
            | FieldKind::Trailer.bit();
        for field in &head.fields {
            let name = field.name.of(buffer);
            let is_asked = withheld & field.kind.bit() == 0
                && !NOT_ASKED
                    .iter()
                    .any(|other| same_name(name, other.as_bytes()))
                && !NOT_ASKED_FAMILIES.iter().any(|family| {
                    let start = name.get(..family.len());
                    start.is_some_and(|start| same_name(start, family))
                });
            if is_asked {
                let name = HeaderName::from_bytes(name).ok()?;
                fields.append(name, HeaderValue::from_bytes(field.value.of(buffer)).ok()?);
            }
        }
        let first = |kind: FieldKind| {
            let mut of_kind = head.fields.iter().filter(|field| field.kind == kind);
            of_kind.next().map(|field| field.value.of(buffer))
        };
        let scheme = match said & FieldKind::XForwardedProto.bit() {
            0 => origin.scheme.as_bytes(),
            _ => first(FieldKind::XForwardedProto)?,
        };
        let host = match said & FieldKind::XForwardedHost.bit() {
            0 => head.authority.of(buffer),
            _ => first(FieldKind::XForwardedHost)?,
        };
        let target = match head.origin.of(buffer) {
            b"" => b"/",
            target => target,
        };
        let method = head.method_span.of(buffer);
        let url = [scheme, b"://", host, target].concat();
        let mut chain = Vec::new();
        if said & FieldKind::XForwardedFor.bit() != 0 {
            for field in &head.fields {
                if field.kind == FieldKind::XForwardedFor && !field.value.is_empty() {
                    chain.extend_from_slice(field.value.of(buffer));
                    chain.extend_from_slice(b", ");
                }
            }
        }
        // The same as the app gets: a hop without an address adds none to the chain.
        match origin.forwarded_ip().as_bytes() {
            [] if chain.is_empty() => chain.extend_from_slice(b"unknown"),
            [] => chain.truncate(chain.len() - b", ".len()),
            own => chain.extend_from_slice(own),
        }
        let client = self.address.map(|address| address.to_string());
        let written: [(&'static str, &[u8]); 8] = [
            ("x-forwarded-method", method),
            ("x-forwarded-proto", scheme),
            ("x-forwarded-host", host),
            ("x-forwarded-uri", target),
            ("x-forwarded-for", &chain),
            ("x-original-method", method),
            ("x-original-url", &url),
            (
                "x-real-ip",
                client.as_deref().unwrap_or("unknown").as_bytes(),
            ),
        ];
        for (name, value) in written {
            fields.insert(name, HeaderValue::from_bytes(value).ok()?);
        }
        // The mark ends a loop in which the authentication server is lameduck too, and asks again.
        let (name, mark) = passes::mark();
        fields.append(name, HeaderValue::from_static(mark));
        Some(question)
    }

    fn has_several(&self, name: &[u8]) -> bool {
        let buffer = self.client.buffer.bytes();
        let fields = self.head.fields.iter();
        let named = fields.filter(|field| same_name(field.name.of(buffer), name));
        named.count() > 1
    }

    /// Sends the client the authentication server's response.
    async fn pass_on(&mut self, answer: &Response<()>, body: AuthBody) -> AfterRequest {
        let status = answer.status().as_u16();
        debug!(status, "the authentication server has refused a request");
        self.count(RouteRefusal::Unauthorized);
        let is_whole = self.head.body.is_empty();
        let keep_alive = may_be_kept(self.plane, self.client, self.head, is_whole);
        let cause = "the authentication server does not let the request pass".into();
        self.account.local(status, cause);
        let mut out = Vec::new();
        if self.head.is_grpc {
            let cause = "the authentication server refuses the call";
            grpc::write_answer(&mut out, status, cause, !keep_alive);
        } else {
            write_head(&mut out, answer, body.length, !keep_alive);
            let is_left_out = body.bytes.is_none() && self.head.method != AskedMethod::Head;
            match &body.bytes {
                Some(bytes) => out.extend_from_slice(bytes),
                None if is_left_out => {
                    out = answer_without_memory(self.plane, self.account, &out, !keep_alive);
                }
                None => {}
            }
        }
        // While a slow client receives the response, one copy stays in memory instead of two.
        drop(body);
        let next = send(
            self.plane,
            self.client,
            self.account,
            out,
            keep_alive,
            is_whole,
        )
        .await;
        self.account.end = super::RequestEnd::Refused(RouteRefusal::Unauthorized);
        next
    }
}

/// Reads the body to its end, up to the maximum size.
async fn read_body(mut body: Incoming, is_kept: bool) -> Result<AuthBody, NoAnswer> {
    let mut read = AuthBody {
        bytes: is_kept.then(Vec::new),
        ..AuthBody::default()
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| NoAnswer::Failed(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            if read.length + data.len() > LARGEST_BODY {
                let why = "its answer is larger than 256KiB";
                return Err(NoAnswer::Failed(why.into()));
            }
            read.push(&data);
        }
    }
    Ok(read)
}

/// Returns an error's text with all its causes.
fn explain(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

/// Returns the header fields that the app gets, as lines.
fn copied(answer: &Response<()>, names: &[String]) -> Vec<u8> {
    let mut lines = Vec::new();
    for name in names {
        for value in answer.headers().get_all(name.as_str()) {
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
    }
    lines
}

fn write_head(out: &mut Vec<u8>, answer: &Response<()>, length: usize, close: bool) {
    let status = answer.status();
    let phrase = status.canonical_reason();
    let phrase = phrase.unwrap_or_else(|| reason_phrase(status.as_u16()));
    out.extend_from_slice(format!("HTTP/1.1 {} {phrase}\r\n", status.as_u16()).as_bytes());
    for name in PASSED_ON {
        for value in answer.headers().get_all(name) {
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
    if !answer.headers().contains_key("cache-control") {
        out.extend_from_slice(b"Cache-Control: no-store\r\n");
    }
    if status != http::StatusCode::NOT_MODIFIED {
        out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
    }
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
}
