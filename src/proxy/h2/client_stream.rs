//! One stream of a session with a backend, as the HTTP/1 plane sees it: a connection that takes one HTTP/1.1 request and
//! gives its response.
//!
//! Nothing is buffered here: what the backend has sent is the `h2` crate's until it is read, and room for as much again
//! is given then; what is written is taken as far as the backend's windows let it.

mod request;

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderMap, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::headers;
use super::translated::{TranslatedStream, poll_read_translated, poll_write_translated};
use crate::core::retry;
use crate::net::stream::{has_no_socket, poll_write_pieces};
use crate::proxy::h1::chunked::start_chunk;
use crate::proxy::memory::{SessionMemory, UntakenAnswer};
use crate::proxy::messages::grpc;
use crate::registry::endpoint::{IdleConnection, SessionStream};
use crate::rt::shutdown_signal::ConnectionInterrupt;
use request::{CompleteHead, OutgoingRequest};

/// A stream to a backend that speaks HTTP/1.1. Dropped before its response is whole, it is reset: so the backend
/// learns that the response is no longer wanted.
#[derive(Debug)]
pub struct ClientStream {
    request: OutgoingRequest,
    download: BackendBody,
    /// Heads and framing that stand before `content`.
    framing: Vec<u8>,
    /// Content that is here and was not read yet.
    content: Bytes,
    /// Why the backend has surely not seen the request.
    unseen: Option<retry::AttemptFailure>,
    /// What is wrong with the request or the response, where that is no lost connection.
    fault: Option<StreamFault>,
    /// Through which the stream's user is interrupted.
    interrupt: Arc<ConnectionInterrupt>,
    /// Counts the content that is here and was not read.
    untaken: Option<UntakenAnswer>,
    /// Last, so that it is dropped last: the end of a stream is signalled when all of the above is gone.
    entered: SessionStream,
}

/// What is wrong with a request or its response, where that is no lost connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFault {
    /// The request can't be expressed in HTTP/2. Nothing was sent.
    Untranslatable,
    /// The response breaks HTTP/2.
    MalformedResponse,
}

/// What is still to come from the backend.
#[derive(Debug)]
enum BackendBody {
    /// Nothing was asked yet.
    Unasked,
    /// The head.
    Head {
        response: ResponseFuture,
        /// The request was HEAD.
        bodiless: bool,
    },
    /// A body with a length; as it is.
    Plain(RecvStream),
    /// Any other; in chunks.
    Chunked(RecvStream),
    /// Nothing.
    Done,
}

impl ClientStream {
    /// A stream that is opened when the head of its request is complete. `scheme`: of the connection. `interrupt`: through
    /// which its user is interrupted.
    pub fn new(
        entered: SessionStream,
        scheme: http::uri::Scheme,
        interrupt: Arc<ConnectionInterrupt>,
    ) -> Self {
        Self {
            request: OutgoingRequest::new(scheme),
            download: BackendBody::Unasked,
            framing: Vec::new(),
            content: Bytes::new(),
            unseen: None,
            fault: None,
            interrupt,
            untaken: None,
            entered,
        }
    }

    /// A connection's stream, if it is one of these.
    pub fn of(connection: &IdleConnection) -> Option<&Self> {
        (*connection.stream).as_any().downcast_ref()
    }

    /// Why the backend has surely not seen the request, if that is so.
    pub fn unseen(&self) -> Option<retry::AttemptFailure> {
        self.unseen
    }

    /// What is wrong with the request or the response, where that is no lost connection.
    pub fn fault(&self) -> Option<StreamFault> {
        self.fault
    }

    /// Whether the answer was ended because its client doesn't take it, and memory is short.
    pub fn is_ended_untaken(&self) -> bool {
        self.untaken.as_ref().is_some_and(UntakenAnswer::is_ended)
    }

    /// Notes what an error says about the request.
    fn failed(&mut self, error: h2::Error) -> io::Error {
        // The crate has found it out, and has told the backend.
        if error.is_library() && error.is_reset() {
            self.fault = Some(StreamFault::MalformedResponse);
        }
        let is_refusal = error.reason() == Some(Reason::REFUSED_STREAM);
        if matches!(
            self.download,
            BackendBody::Unasked | BackendBody::Head { .. }
        ) && error.is_remote()
        {
            if error.is_reset() && is_refusal {
                self.unseen = Some(retry::AttemptFailure::RefusedStream);
            } else if error.is_go_away() {
                // The crate reports this only for streams beyond the last one that the backend has accepted.
                self.unseen = Some(retry::AttemptFailure::GoAway);
            }
        }
        io::Error::new(io::ErrorKind::ConnectionReset, error)
    }

    // ---- from the backend

    /// Fetches more. Ready: there is something to be read, or the end is reached.
    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.download {
            BackendBody::Unasked => Poll::Pending,
            BackendBody::Done => Poll::Ready(Ok(())),
            BackendBody::Head { response, bodiless } => {
                if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
                    let (parts, ()) = interim.into_parts();
                    self.write_head(parts.status, &parts.headers, ResponseFraming::None);
                    return Poll::Ready(Ok(()));
                }
                let bodiless = *bodiless;
                match ready!(Pin::new(response).poll(cx)) {
                    Ok(response) => {
                        self.take_response(response, bodiless);
                        Poll::Ready(Ok(()))
                    }
                    Err(error) => Poll::Ready(Err(self.failed(error))),
                }
            }
            BackendBody::Plain(body) | BackendBody::Chunked(body) => {
                match ready!(body.poll_data(cx)) {
                    Some(Ok(data)) => {
                        if matches!(self.download, BackendBody::Chunked(_)) && !data.is_empty() {
                            start_chunk(&mut self.framing, data.len());
                        }
                        self.content = data;
                        Poll::Ready(Ok(()))
                    }
                    // A reset behind a whole response (RFC 9113 §8.1) is no error here: the crate keeps the end it has seen.
                    Some(Err(error)) => Poll::Ready(Err(self.failed(error))),
                    None => match ready!(body.poll_trailers(cx)) {
                        Ok(trailers) => {
                            self.take_end(trailers);
                            Poll::Ready(Ok(()))
                        }
                        Err(error) => Poll::Ready(Err(self.failed(error))),
                    },
                }
            }
        }
    }

    fn take_response(&mut self, response: http::Response<RecvStream>, bodiless: bool) {
        let (parts, body) = response.into_parts();
        let bodiless = bodiless || matches!(parts.status.as_u16(), 204 | 304);
        let is_grpc = parts
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| grpc::is_grpc(value.as_bytes()));
        let form = if bodiless {
            ResponseFraming::Length
        } else if body.is_end_stream() {
            ResponseFraming::Empty
        } else if parts.headers.contains_key(header::CONTENT_LENGTH) && !is_grpc {
            ResponseFraming::Length
        } else {
            // In HTTP/1, only chunks have room for trailers.
            ResponseFraming::Chunked
        };
        self.write_head(parts.status, &parts.headers, form);
        self.download = match form {
            _ if bodiless || body.is_end_stream() => BackendBody::Done,
            ResponseFraming::Chunked => BackendBody::Chunked(body),
            _ => BackendBody::Plain(body),
        };
    }

    fn write_head(&mut self, status: StatusCode, fields: &HeaderMap, form: ResponseFraming) {
        let out = &mut self.framing;
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
        let is_framed = form == ResponseFraming::Chunked;
        headers::write_response_fields(out, fields, |name| {
            is_framed && name == header::CONTENT_LENGTH
        });
        match form {
            ResponseFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            ResponseFraming::Empty if !fields.contains_key(header::CONTENT_LENGTH) => {
                out.extend_from_slice(headers::NO_BODY);
            }
            _ => {}
        }
        if form != ResponseFraming::None {
            // To the HTTP/1 plane, a stream is a connection for one request.
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    fn take_end(&mut self, trailers: Option<HeaderMap>) {
        if let BackendBody::Chunked(_) = mem::replace(&mut self.download, BackendBody::Done) {
            headers::write_response_trailers(&mut self.framing, &trailers.unwrap_or_default());
        }
    }

    /// Hands out what is here; says whether that was anything.
    fn hand_out_here(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let before = out.filled().len();
        if !self.framing.is_empty() {
            let count = self.framing.len().min(out.remaining());
            out.put_slice(&self.framing[..count]);
            self.framing.drain(..count);
        }
        if self.framing.is_empty() && !self.content.is_empty() {
            let count = self.content.len().min(out.remaining());
            out.put_slice(&self.content[..count]);
            self.content.advance(count);
            if let Some(untaken) = &self.untaken {
                untaken.consume(count);
            }
            // The backend may send as much again.
            if let BackendBody::Plain(body) | BackendBody::Chunked(body) = &mut self.download {
                let _ = body.flow_control().release_capacity(count);
                if self.content.is_empty() && matches!(self.download, BackendBody::Chunked(_)) {
                    self.framing.extend_from_slice(b"\r\n");
                }
            }
        }
        out.filled().len() > before
    }

    fn has_ended(&self) -> bool {
        matches!(self.download, BackendBody::Done)
            && self.framing.is_empty()
            && self.content.is_empty()
    }

    // ---- towards the backend

    /// The head is complete: opens the stream.
    fn ask(&mut self, begun: CompleteHead) -> io::Result<()> {
        let Some(mut sender) = self.entered.session().sender() else {
            self.unseen = Some(retry::AttemptFailure::GoAway);
            return Err(io::ErrorKind::NotConnected.into());
        };
        match sender.send_request(begun.request, begun.whole) {
            Ok((response, body)) => {
                let stream = response.stream_id().as_u32();
                let memory = self.entered.session().account::<SessionMemory>();
                let memory = memory.unwrap_or_default();
                self.untaken = Some(memory.open_answer(stream, &self.interrupt));
                self.download = BackendBody::Head {
                    response,
                    bodiless: begun.bodiless,
                };
                self.request.opened(body);
                Ok(())
            }
            Err(error) => {
                let error = self.failed(error);
                // Whatever the session died of, this was never sent.
                self.unseen
                    .get_or_insert(retry::AttemptFailure::StaleProven);
                self.download = BackendBody::Done;
                Err(error)
            }
        }
    }
}

/// How a response's head says where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponseFraming {
    /// An interim one: not at all.
    None,
    /// The fields say it, or the request's method or the status.
    Length,
    /// There is none.
    Empty,
    Chunked,
}

impl TranslatedStream for ClientStream {
    fn hand_out(&mut self, out: &mut ReadBuf<'_>) -> bool {
        self.hand_out_here(out)
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        match self.has_ended() {
            true => Poll::Ready(Ok(false)),
            false => self.poll_fetch(cx).map_ok(|()| true),
        }
    }

    fn poll_take(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.request.take_head(bytes) {
            Ok(Some((count, begun))) => {
                let asked = begun.map_or(Ok(()), |begun| self.ask(begun));
                Poll::Ready(asked.map(|()| count))
            }
            Ok(None) => self.request.poll_take_body(cx, bytes),
            Err(error) => {
                self.fault = Some(StreamFault::Untranslatable);
                Poll::Ready(Err(error))
            }
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.unseen.is_some() || this.fault == Some(StreamFault::Untranslatable) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        poll_read_translated(this, cx, out)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        poll_write_translated(self.get_mut(), cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_pieces(self, cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The session's own task writes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A request has an end of its own, and without it, it isn't whole.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if !matches!(self.download, BackendBody::Unasked | BackendBody::Done) {
            self.request.reset(Reason::CANCEL);
        }
    }
}

has_no_socket!(ClientStream);
