//! One stream of an HTTP/2 session with a backend, presented to the HTTP/1 plane as a connection that takes one
//! HTTP/1.1 request and returns its response.
//!
//! Nothing is buffered here: received bytes stay in the `h2` crate until they are read, and only then is the
//! flow-control window extended; writes are accepted as far as the backend's windows allow.

mod request;

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::headers;
use super::outgoing::CountedSink;
use super::translated::{TranslatedStream, poll_read_translated, poll_write_translated};
use crate::core::retry;
use crate::net::stream::{has_no_socket, poll_write_pieces};
use crate::proxy::h1::chunked::start_chunk;
use crate::proxy::memory::{SessionMemory, UnreadAnswer, UnsentContent};
use crate::proxy::messages::grpc;
use crate::registry::endpoint::{IdleConnection, SessionStream};
use crate::rt::shutdown_signal::ConnectionInterrupt;
use request::{CompleteHead, OutgoingRequest};

/// Opens the streams of a session with a backend.
#[derive(Debug)]
pub struct SessionLink {
    sender: Mutex<Option<SendRequest<UnsentContent>>>,
    memory: Arc<SessionMemory>,
}

impl SessionLink {
    /// Creates a link of this handle, and what counts the session's memory.
    pub fn new(sender: SendRequest<UnsentContent>, memory: Arc<SessionMemory>) -> Arc<Self> {
        let sender = Mutex::new(Some(sender));
        Arc::new(Self { sender, memory })
    }

    /// Drops the handle that opens streams: without it, the connection ends by itself.
    pub fn end(&self) {
        self.sender.lock().take();
    }
}

/// A stream to a backend that speaks HTTP/1.1. If dropped before its response is complete, it is reset, so that the
/// backend learns that the response is no longer wanted.
#[derive(Debug)]
pub struct ClientStream {
    request: OutgoingRequest,
    download: BackendBody,
    /// Heads and framing that precede `content`.
    framing: Vec<u8>,
    /// Content that has arrived and was not read yet.
    content: Bytes,
    /// Why the backend has certainly not processed the request.
    unseen: Option<retry::AttemptFailure>,
    /// The fault in the request or the response, if the failure is not a lost connection.
    fault: Option<StreamFault>,
    /// Interrupts the task that uses the stream.
    interrupt: Arc<ConnectionInterrupt>,
    /// Counts the content that has arrived and was not read.
    unread: Option<UnreadAnswer>,
    /// Last, so that it is dropped last: the end of a stream is signalled after everything above is dropped.
    entered: SessionStream,
}

/// A fault in a request or its response, as opposed to a lost connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFault {
    /// The request can't be expressed in HTTP/2. Nothing was sent.
    Untranslatable,
    /// The response violates HTTP/2.
    MalformedResponse,
}

/// What is still to come from the backend.
#[derive(Debug)]
enum BackendBody {
    /// No request was sent yet.
    Unasked,
    /// The response head.
    Head {
        response: ResponseFuture,
        /// Whether the request was HEAD.
        bodiless: bool,
    },
    /// A body with a length; passed on unchanged.
    Plain(RecvStream),
    /// Any other body; passed on in chunks.
    Chunked(RecvStream),
    /// Nothing more.
    Done,
}

impl ClientStream {
    /// Creates a stream that is opened once the head of its request is complete. `scheme`: of the connection.
    /// `interrupt` interrupts the task that uses it.
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
            unread: None,
            entered,
        }
    }

    /// Returns a connection's stream, if it is a [`ClientStream`].
    pub fn of(connection: &IdleConnection) -> Option<&Self> {
        (*connection.stream).as_any().downcast_ref()
    }

    /// Returns why the backend has certainly not processed the request, if that is so.
    pub fn unseen(&self) -> Option<retry::AttemptFailure> {
        self.unseen
    }

    /// Returns the fault in the request or the response, if the failure is not a lost connection.
    pub fn fault(&self) -> Option<StreamFault> {
        self.fault
    }

    /// Whether the answer was ended because its client doesn't read it, and memory is short.
    pub fn is_ended_unread(&self) -> bool {
        self.unread.as_ref().is_some_and(UnreadAnswer::is_ended)
    }

    /// Notes what an error reveals about the request.
    fn failed(&mut self, error: h2::Error) -> io::Error {
        // The `h2` crate has detected the error, and has reset the stream.
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

    /// Fetches more. Ready: there is something to read, or the end is reached.
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
                    // A reset after a complete response (RFC 9113 §8.1) is no error here: the crate keeps the end
                    // that it has seen.
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
            // In HTTP/1, only a chunked body can have trailers.
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

    /// Copies bytes that have arrived to `out`; returns whether there were any.
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
            if let Some(unread) = &self.unread {
                unread.consume(count);
            }
            // The backend may send the same number of bytes again.
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

    /// Opens the stream: the request head is complete.
    fn ask(&mut self, begun: CompleteHead) -> io::Result<()> {
        let link = self.entered.session().link::<SessionLink>();
        let opening = link.and_then(|link| Some((link.sender.lock().clone()?, &link.memory)));
        let Some((mut sender, memory)) = opening else {
            self.unseen = Some(retry::AttemptFailure::GoAway);
            return Err(io::ErrorKind::NotConnected.into());
        };
        match sender.send_request(begun.request, begun.whole) {
            Ok((response, stream)) => {
                let number = response.stream_id().as_u32();
                self.unread = Some(memory.open_answer(number, &self.interrupt));
                let memory = memory.uploads().clone();
                self.download = BackendBody::Head {
                    response,
                    bodiless: begun.bodiless,
                };
                self.request.opened(CountedSink::new(stream, memory));
                Ok(())
            }
            Err(error) => {
                let error = self.failed(error);
                // Whatever ended the session, this request was never sent.
                self.unseen
                    .get_or_insert(retry::AttemptFailure::StaleProven);
                self.download = BackendBody::Done;
                Err(error)
            }
        }
    }
}

/// How a response head describes the end of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponseFraming {
    /// An interim response: not at all.
    None,
    /// By its header fields, the request's method, or the status.
    Length,
    /// There is no body.
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

    /// Does nothing: the session's own task writes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing: the end of a request is part of its framing, and without it the request is incomplete.
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
