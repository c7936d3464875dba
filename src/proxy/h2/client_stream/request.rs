//! A request on its way to a backend: from what the HTTP/1 plane writes to frames.

use std::io;
use std::mem;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::uri::Scheme;
use http::{HeaderValue, Method, header};

use super::super::outgoing::Outgoing;
use super::super::{carrier, headers};
use crate::config::MAX_RULES;
use crate::proxy::h1::fields::{FieldKind, classify};
use crate::proxy::h1::request::MAX_FIELDS;

/// A request's way.
#[derive(Debug)]
pub(super) struct OutgoingRequest {
    scheme: Scheme,
    upload: OutgoingBody,
    body: Option<SendStream<Bytes>>,
}

/// What is still to come from the HTTP/1 plane.
#[derive(Debug)]
enum OutgoingBody {
    /// The head, of which this much has come.
    Head(Vec<u8>),
    Body(Outgoing),
    Done,
}

/// A head that is complete.
pub(super) struct CompleteHead {
    pub(super) request: http::Request<()>,
    /// Nothing follows it.
    pub(super) whole: bool,
    /// Its response has no body, whatever that says.
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

    /// It is under way; the body goes here.
    pub(super) fn opened(&mut self, body: SendStream<Bytes>) {
        self.body = Some(body);
    }

    /// Takes it back.
    pub(super) fn reset(&mut self, reason: Reason) {
        if let Some(body) = &mut self.body {
            body.send_reset(reason);
        }
    }

    /// Takes what belongs to the head, and how much that was; `None`: the head was complete before.
    pub(super) fn take_head(
        &mut self,
        bytes: &[u8],
    ) -> io::Result<Option<(usize, Option<CompleteHead>)>> {
        let OutgoingBody::Head(here) = &mut self.upload else {
            return Ok(None);
        };
        let before = here.len();
        // Its end may have begun in the last piece.
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
        // As many as a client's head may have, and those that the plane and the route add.
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

    /// Takes what it can of the body, which has more than nothing.
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

/// Method and target of a request line, whose bytes may be no UTF-8.
fn split_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let method = memchr::memchr(b' ', line)?;
    let target = memchr::memrchr(b' ', line).filter(|end| *end > method)?;
    Some((&line[..method], &line[method + 1..target]))
}
