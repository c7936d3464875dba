//! Converts a request to a backend: from the HTTP/1 plane's bytes to frames.

use std::io;
use std::mem;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use http::uri::Scheme;
use http::{HeaderValue, Method, header};

use super::super::outgoing::{CountedSink, Outgoing};
use super::super::{carrier, headers};
use crate::config::MAX_RULES;
use crate::proxy::h1::fields::{FieldKind, classify};
use crate::proxy::h1::request::MAX_FIELDS;

/// The state of a request that is being sent.
#[derive(Debug)]
pub(super) struct OutgoingRequest {
    scheme: Scheme,
    upload: OutgoingBody,
    body: Option<CountedSink>,
}

/// The part of the request that is expected next from the HTTP/1 plane.
#[derive(Debug)]
enum OutgoingBody {
    /// The head, of which these bytes have arrived.
    Head(Vec<u8>),
    Body(Outgoing),
    Done,
}

/// A complete request head.
pub(super) struct CompleteHead {
    pub(super) request: http::Request<()>,
    /// Whether nothing follows it.
    pub(super) whole: bool,
    /// Whether its response has no body, whatever the response head says.
    pub(super) bodiless: bool,
}

impl OutgoingRequest {
    pub(super) fn new(scheme: Scheme) -> Self {
        Self {
            scheme,
            upload: OutgoingBody::Head(Vec::new()),
            body: None,
        }
    }

    /// Sets the stream for the body, once the request has been opened.
    pub(super) fn opened(&mut self, body: CountedSink) {
        self.body = Some(body);
    }

    /// Resets the stream.
    pub(super) fn reset(&mut self, reason: Reason) {
        if let Some(body) = &mut self.body {
            body.stream.send_reset(reason);
        }
    }

    /// Takes the bytes that belong to the head, and returns their number; `None`: the head was complete before.
    pub(super) fn take_head(
        &mut self,
        bytes: &[u8],
    ) -> io::Result<Option<(usize, Option<CompleteHead>)>> {
        let OutgoingBody::Head(here) = &mut self.upload else {
            return Ok(None);
        };
        let before = here.len();
        // The end of the head may have begun in the previous bytes.
        let from = before.saturating_sub(3);
        here.extend_from_slice(bytes);
        let Some(end) = memchr::memmem::find(&here[from..], b"\r\n\r\n") else {
            return Ok(Some((bytes.len(), None)));
        };
        here.truncate(from + end + 4);
        let taken = here.len() - before;
        let head = Bytes::from(mem::take(here));
        self.begin(&head).map(|begun| Some((taken, Some(begun))))
    }

    fn begin(&mut self, head: &Bytes) -> io::Result<CompleteHead> {
        let ours = || io::Error::from(io::ErrorKind::InvalidInput);
        // As many as a client's head may have, plus those that the plane and the route add.
        let mut storage = [httparse::EMPTY_HEADER; MAX_FIELDS + 16 + 2 * MAX_RULES];
        let line = memchr::memmem::find(head, b"\r\n").ok_or_else(ours)?;
        let (method, path) = split_line(&head[..line]).ok_or_else(ours)?;
        let Ok(httparse::Status::Complete((_, parsed))) =
            httparse::parse_headers(&head[line + 2..], &mut storage)
        else {
            return Err(ours());
        };
        let is_chunked = parsed
            .iter()
            .any(|field| classify(field.name.as_bytes()) == FieldKind::TransferEncoding);
        let mut fields = headers::read_fields(head, parsed).map_err(|_| ours())?;
        let host = fields.remove(header::HOST);
        let length = fields
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        self.upload = match length {
            _ if is_chunked => OutgoingBody::Body(Outgoing::of_request(None)),
            None | Some(0) => OutgoingBody::Done,
            length => OutgoingBody::Body(Outgoing::of_request(length)),
        };
        let method = Method::from_bytes(method).map_err(|_| ours())?;
        let bodiless = method == Method::HEAD;
        let host = host.as_ref().map(HeaderValue::as_bytes);
        let uri =
            carrier::write_address(&mut fields, &self.scheme, host, path).map_err(|_| ours())?;
        let mut request = http::Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = fields;
        Ok(CompleteHead {
            request,
            whole: matches!(self.upload, OutgoingBody::Done),
            bodiless,
        })
    }

    /// Takes as much as possible of the body, which is not empty.
    pub(super) fn poll_take_body(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let OutgoingBody::Body(outgoing) = &mut self.upload else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let (count, whole) = ready!(outgoing.poll_take(&mut self.body, cx, bytes))?;
        if whole {
            self.upload = OutgoingBody::Done;
        }
        Poll::Ready(Ok(count))
    }
}

/// Splits a request line into method and target, which may not be UTF-8.
fn split_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let method = memchr::memchr(b' ', line)?;
    let target = memchr::memrchr(b' ', line).filter(|end| *end > method)?;
    Some((&line[..method], &line[method + 1..target]))
}
