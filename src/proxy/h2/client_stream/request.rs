//! A request on its way to a backend: from what the HTTP/1 plane writes to frames.

use std::io;
use std::mem;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri, header};

use super::super::heads;
use super::super::server_stream::{available, poll_room};
use crate::proxy::h1::chunked::ChunkDecoder;
use crate::proxy::h1::request::MAX_FIELDS;

/// Largest trailer section of a request, in bytes: the HTTP/1 plane's own bound is smaller.
const MAX_TRAILER: usize = 64 * 1024;

/// A request's way.
#[derive(Debug)]
pub(super) struct Request {
    scheme: Scheme,
    upload: Upload,
    body: Option<SendStream<Bytes>>,
}

/// What is still to come from the HTTP/1 plane.
#[derive(Debug)]
enum Upload {
    /// The head, of which this much has come.
    Head(Vec<u8>),
    /// So many bytes.
    Length(u64),
    Chunked(Box<(ChunkDecoder, Vec<u8>)>),
    Done,
}

/// A head that is complete.
pub(super) struct Begun {
    /// `None`: HTTP/2 can't say it.
    pub(super) request: Option<http::Request<()>>,
    /// Nothing follows it.
    pub(super) whole: bool,
    /// Its response has no body, whatever that says.
    pub(super) bodiless: bool,
}

impl Request {
    pub(super) fn new(scheme: Scheme) -> Self {
        Self {
            scheme,
            upload: Upload::Head(Vec::new()),
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
    pub(super) fn take_head(&mut self, bytes: &[u8]) -> io::Result<Option<(usize, Option<Begun>)>> {
        let Upload::Head(here) = &mut self.upload else {
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

    fn begin(&mut self, head: &Bytes) -> io::Result<Begun> {
        let ours = || io::Error::from(io::ErrorKind::InvalidInput);
        // As many as a client's head may have, and those that the plane adds.
        let mut storage = [httparse::EMPTY_HEADER; MAX_FIELDS + 16];
        let mut parsed = httparse::Request::new(&mut storage);
        if !matches!(parsed.parse(head), Ok(httparse::Status::Complete(_))) {
            return Err(ours());
        }
        let is_chunked = parsed
            .headers
            .iter()
            .any(|field| field.name.eq_ignore_ascii_case("transfer-encoding"));
        let mut fields = heads::read_fields(head, parsed.headers).map_err(|_| ours())?;
        let host = fields.remove(header::HOST);
        let length = fields
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        self.upload = match length {
            _ if is_chunked => {
                Upload::Chunked(Box::new((ChunkDecoder::new(MAX_TRAILER), Vec::new())))
            }
            None | Some(0) => Upload::Done,
            Some(length) => Upload::Length(length),
        };
        let method =
            Method::from_bytes(parsed.method.unwrap_or_default().as_bytes()).map_err(|_| ours())?;
        let bodiless = method == Method::HEAD;
        let uri = host.and_then(|host| {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(self.scheme.clone());
            parts.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
            parts.path_and_query = Some(PathAndQuery::try_from(parsed.path?).ok()?);
            Uri::from_parts(parts).ok()
        });
        let request = uri.map(|uri| {
            let mut request = http::Request::new(());
            *request.method_mut() = method;
            *request.uri_mut() = uri;
            *request.headers_mut() = fields;
            request
        });
        Ok(Begun {
            request,
            whole: matches!(self.upload, Upload::Done),
            bodiless,
        })
    }

    /// Takes what it can of the body, which has more than nothing.
    pub(super) fn poll_take_body(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.upload {
            Upload::Length(left) => {
                let wanted = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                let count = ready!(poll_room(&mut self.body, cx, wanted))?.min(wanted);
                *left -= count as u64;
                let last = *left == 0;
                self.send(Bytes::copy_from_slice(&bytes[..count]), last)?;
                Poll::Ready(Ok(count))
            }
            Upload::Chunked(_) => self.poll_take_chunks(cx, bytes),
            Upload::Head(_) | Upload::Done => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Takes chunks apart. What comes in one write leaves in one DATA frame, as far as there is room.
    fn poll_take_chunks(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut room = None;
        loop {
            let Upload::Chunked(chunks) = &mut self.upload else {
                return Poll::Ready(Ok(0));
            };
            let (decoder, section) = &mut **chunks;
            let (mut at, mut content) = (0, Vec::new());
            while at < bytes.len() {
                let piece = decoder
                    .next_piece(&bytes[at..], section)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                at += piece.framing;
                if piece.content == 0 {
                    break;
                }
                let room = *room.get_or_insert_with(|| available(&mut self.body, bytes.len()));
                let count = piece.content.min(room.saturating_sub(content.len()));
                if count == 0 {
                    break;
                }
                content.extend_from_slice(&bytes[at..at + count]);
                decoder.took(count);
                at += count;
            }
            let whole = decoder.is_complete();
            let trailers = whole
                .then(|| heads::read_trailers(mem::take(section)))
                .flatten();
            let last = whole && trailers.is_none();
            if !content.is_empty() || last {
                self.send(content.into(), last)?;
            }
            if let Some(trailers) = trailers {
                self.upload = Upload::Done;
                let body = self.body.as_mut().ok_or(io::ErrorKind::NotConnected)?;
                body.send_trailers(trailers).map_err(gone)?;
            }
            if at > 0 {
                return Poll::Ready(Ok(at));
            }
            room = Some(ready!(poll_room(&mut self.body, cx, bytes.len()))?);
        }
    }

    /// Sends a piece of content, and with the last one ends the request.
    fn send(&mut self, content: Bytes, last: bool) -> io::Result<()> {
        if last {
            self.upload = Upload::Done;
        }
        let body = self.body.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        body.send_data(content, last).map_err(gone)
    }
}

fn gone(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}
