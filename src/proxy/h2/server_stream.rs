//! One stream of a client's HTTP/2 connection, presented to the HTTP/1 plane as a byte stream that carries one
//! request, whose head was written by [`headers`], and takes the HTTP/1.1 response to it.
//!
//! Only data for which the peer's window has no room yet is buffered here: received bytes stay in the `h2` crate
//! until they are read, and writes are accepted as far as `poll_capacity` allows.

mod async_io;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Response;
use tokio::io::ReadBuf;

use super::headers::{self, BodyForm};
use super::outgoing::{CountedSink, Outgoing, opened, poll_room};
use crate::proxy::h1::chunked::start_chunk;
use crate::proxy::memory::{StreamMemory, UnreadBody, UnsentContent};

/// An HTTP/2 stream that speaks HTTP/1.1. If dropped before its response is complete, it is reset.
#[derive(Debug)]
pub struct ServerStream {
    request: RecvStream,
    upload: StreamUpload,
    /// Framing that precedes `content`.
    framing: Vec<u8>,
    /// Content that has arrived and was not read yet.
    content: Bytes,
    response: SendResponse<UnsentContent>,
    body: Option<CountedSink>,
    /// Counts content that is handed to the `h2` crate.
    memory: Arc<StreamMemory>,
    /// Counts content that has arrived and was not read.
    unread: Option<UnreadBody>,
    download: StreamDownload,
    /// Whether the request was HEAD: its response has no body, whatever the head says.
    head_only: bool,
    /// Whether it is an extended CONNECT.
    connect: bool,
}

/// What is still to come from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamUpload {
    /// This many bytes. The last ones are withheld until the stream has ended too: a request whose content is longer
    /// than announced must not become complete before that is known.
    Length(u64),
    Chunked,
    Tunnel,
    /// Nothing more. The client still waits for its response: HTTP/2 has no half-closed connections.
    Done,
    /// Nothing more, and reads return the end: the other side of a tunnel has ended.
    Ended,
}

/// What is still to be sent to the client.
#[derive(Debug)]
enum StreamDownload {
    /// A head, of which these bytes have been written.
    Head(Vec<u8>),
    Body(Outgoing),
    Tunnel,
    Done,
}

impl ServerStream {
    /// Creates a stream whose request head was written, with a body of this form. `first`: the part of the body that
    /// was read already.
    pub fn new(
        request: RecvStream,
        response: SendResponse<UnsentContent>,
        form: BodyForm,
        head_only: bool,
        first: Bytes,
        memory: Arc<StreamMemory>,
        unread: Option<UnreadBody>,
    ) -> Self {
        let mut framing = Vec::new();
        if form == BodyForm::Chunked && !first.is_empty() {
            start_chunk(&mut framing, first.len());
        }
        Self {
            upload: match form {
                BodyForm::None => StreamUpload::Done,
                BodyForm::Length(length) => StreamUpload::Length(length),
                BodyForm::Chunked => StreamUpload::Chunked,
                BodyForm::Tunnel => StreamUpload::Tunnel,
            },
            request,
            framing,
            content: first,
            response,
            body: None,
            memory,
            unread,
            download: StreamDownload::Head(Vec::new()),
            head_only,
            connect: form == BodyForm::Tunnel,
        }
    }

    // ---- from the client

    /// Returns whether the request is complete.
    pub fn has_ended(&self) -> bool {
        matches!(self.upload, StreamUpload::Done | StreamUpload::Ended)
    }

    /// Waits for the end of a body that is declared empty. Ready: the end has arrived, or the client has
    /// disconnected.
    pub fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.upload == StreamUpload::Length(0) {
            ready!(self.poll_fetch(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Fetches more of the body. Ready: there is something to read, or the end is reached.
    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match ready!(self.request.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => match &mut self.upload {
                    StreamUpload::Length(left) => {
                        // The crate refuses content that is longer than announced in the head.
                        *left = left.saturating_sub(data.len() as u64);
                        self.content = data;
                        if *left > 0 || self.request.is_end_stream() {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    StreamUpload::Chunked => {
                        start_chunk(&mut self.framing, data.len());
                        self.content = data;
                        return Poll::Ready(Ok(()));
                    }
                    StreamUpload::Tunnel => {
                        self.content = data;
                        return Poll::Ready(Ok(()));
                    }
                    StreamUpload::Done | StreamUpload::Ended => {}
                },
                Some(Err(error)) => return Poll::Ready(Err(gone(error))),
                None => return self.poll_last(cx),
            }
        }
    }

    /// Handles the end of the content: waits for trailers.
    fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let trailers = ready!(self.request.poll_trailers(cx)).map_err(gone)?;
        match self.upload {
            StreamUpload::Chunked => {
                let trailers = trailers.unwrap_or_default();
                headers::write_trailers(&mut self.framing, &trailers)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                self.upload = StreamUpload::Done;
            }
            // With a length, HTTP/1 has no place for trailers. They may be dropped (RFC 9110 §6.5.1).
            StreamUpload::Length(_) => self.upload = StreamUpload::Done,
            StreamUpload::Tunnel | StreamUpload::Ended => self.upload = StreamUpload::Ended,
            StreamUpload::Done => {}
        }
        Poll::Ready(Ok(()))
    }

    /// Returns whether the last bytes of a body with a length are withheld because the stream hasn't ended.
    fn is_withheld(&self) -> bool {
        self.upload == StreamUpload::Length(0) && !self.request.is_end_stream()
    }

    /// Copies bytes that have arrived to `out`; returns whether there were any.
    fn hand_out_here(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let before = out.filled().len();
        if !self.framing.is_empty() {
            let count = self.framing.len().min(out.remaining());
            out.put_slice(&self.framing[..count]);
            self.framing.drain(..count);
        }
        if self.framing.is_empty() && !self.content.is_empty() && !self.is_withheld() {
            let count = self.content.len().min(out.remaining());
            out.put_slice(&self.content[..count]);
            self.content.advance(count);
            // The client may send the same number of bytes again.
            let _ = self.request.flow_control().release_capacity(count);
            if let Some(unread) = &self.unread {
                unread.consume(count);
            }
            if self.content.is_empty() && self.upload == StreamUpload::Chunked {
                self.framing.extend_from_slice(b"\r\n");
            }
        }
        out.filled().len() > before
    }

    /// Returns whether the stream has ended before any work was done for it.
    pub async fn is_reset(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.poll_gone(cx).is_ready())).await
    }

    /// Ready once the client has reset the stream, or its connection is lost.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let reset = match &mut self.body {
            Some(body) => body.stream.poll_reset(cx),
            None => self.response.poll_reset(cx),
        };
        reset.map(|reset| match reset {
            Ok(reason) => gone(reason.into()),
            Err(error) => gone(error),
        })
    }

    // ---- towards the client

    /// Takes as much as possible of `bytes`, which are not empty.
    fn poll_take_response(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.download {
            StreamDownload::Head(_) => Poll::Ready(self.take_head(bytes)),
            StreamDownload::Body(outgoing) => {
                let taken = outgoing.poll_take(&mut self.body, cx, bytes);
                let (count, whole) = ready!(taken)?;
                if whole {
                    self.download = StreamDownload::Done;
                }
                Poll::Ready(Ok(count))
            }
            StreamDownload::Tunnel => {
                let room = ready!(poll_room(&mut self.body, cx, bytes.len()))?;
                let count = room.min(bytes.len());
                self.send(Bytes::copy_from_slice(&bytes[..count]), false)?;
                Poll::Ready(Ok(count))
            }
            StreamDownload::Done => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Sends a part of the content, and ends the stream with the last part.
    fn send(&mut self, content: Bytes, last: bool) -> io::Result<()> {
        opened(&mut self.body)?.send(content, last).map_err(gone)?;
        if last {
            self.download = StreamDownload::Done;
        }
        Ok(())
    }

    /// Takes a head, or a part of one. All heads but the last are interim responses.
    fn take_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let StreamDownload::Head(here) = &mut self.download else {
            return Ok(0);
        };
        let before = here.len();
        let read = if before == 0 {
            headers::read_response(bytes)
        } else {
            here.extend_from_slice(bytes);
            headers::read_response(here)
        };
        let Some(read) = read.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))? else {
            if before == 0 {
                here.extend_from_slice(bytes);
            }
            return Ok(bytes.len());
        };
        here.clear();
        let taken = read.len - before;
        let mut response = Response::new(());
        *response.status_mut() = read.status;
        *response.headers_mut() = read.fields;
        if read.form == BodyForm::Tunnel {
            if !self.connect {
                return Err(io::ErrorKind::InvalidData.into());
            }
            // RFC 8441 §5: the response to the handshake of RFC 6455 is not used.
            *response.status_mut() = http::StatusCode::OK;
            response.headers_mut().remove("sec-websocket-accept");
        } else if read.status.is_informational() {
            self.response.send_informational(response).map_err(gone)?;
            return Ok(taken);
        }
        let bodiless = self.head_only || matches!(read.status.as_u16(), 204 | 304);
        self.download = match read.form {
            BodyForm::Tunnel => StreamDownload::Tunnel,
            _ if bodiless => StreamDownload::Done,
            BodyForm::None => StreamDownload::Done,
            BodyForm::Length(length) => StreamDownload::Body(Outgoing::of_response(Some(length))),
            BodyForm::Chunked => StreamDownload::Body(Outgoing::of_response(None)),
        };
        let whole = matches!(self.download, StreamDownload::Done);
        let stream = self.response.send_response(response, whole).map_err(gone)?;
        let memory = self.memory.clone();
        self.body = Some(CountedSink::new(stream, memory));
        Ok(taken)
    }
}

/// To the HTTP/1 plane, a stream that was reset is a client that has disconnected.
fn gone(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

impl Drop for ServerStream {
    fn drop(&mut self) {
        // If no response has begun, the crate resets with CANCEL; after a response that was complete before its
        // request, with NO_ERROR (RFC 9113 §8.1).
        let reason = match self.download {
            StreamDownload::Body(_) => Reason::INTERNAL_ERROR,
            StreamDownload::Tunnel => Reason::CANCEL,
            StreamDownload::Head(_) | StreamDownload::Done => return,
        };
        if let Some(body) = &mut self.body {
            body.stream.send_reset(reason);
        }
    }
}
