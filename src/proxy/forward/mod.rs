//! One attempt of one request on one upstream connection, with both directions live at once.
//!
//! The client may still be sending while the response arrives (early responses, 100-continue, streams both
//! ways), so neither side waits for the other: each wake-up moves whatever can move.

pub mod forwarded;
mod grpc_call;
mod handshake;
pub mod headers;
pub mod min_rate;
mod outcome;
pub mod passes;
mod response;
pub mod scratch;
pub mod tunnel;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora::protocols::Stream;

pub use grpc_call::patience;
pub use outcome::{ForwardEnd, ForwardFailure, Truncation};
use response::Receiving;

use super::buffer::{Buffer, LARGE};
use crate::config;
use crate::core::Time;
use crate::metrics::Limit;
use crate::net::socket::unsent;
use crate::proxy::client::ClientConnection;
use crate::proxy::client::heard::{Looks, Waited};
use crate::proxy::client::upload::{RequestUpload, UploadError};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::min_rate::Pace;
use crate::proxy::h1::request::{RequestBody, RequestHead};
use crate::proxy::h1::response::{ResponseBody, ResponseHead};
use crate::registry::endpoint::{IdleConnection, StreamGuard};
use crate::rt::clock;
use crate::rt::coop::yield_to_reactor;
use crate::rt::shutdown_signal::Level;

/// Bytes that one exchange moves before it is the others' turn: some tens of microseconds. A large body between two
/// fast peers would else occupy its thread for milliseconds, and quick requests would wait for it.
const TURN: usize = 128 * 1024;

/// Which half is where, upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Active,
    Done,
    /// The backend takes no more; it may still have answered.
    Refused,
}

/// What the exchange needs to know of the request.
pub struct ForwardParams<'a> {
    /// The client's request.
    pub request: &'a RequestHead,
    /// The head as the backend gets it.
    pub head: &'a [u8],
    /// When the request began, as the proxy saw it.
    pub began: Time,
    /// `[server]`.
    pub server: &'a config::ServerConfig,
    /// How long the backend may be silent.
    pub read_timeout: Duration,
    /// When `total_timeout` is over, if there is one.
    pub ends: Option<Time>,
}

/// What the log wants to know afterwards.
#[derive(Debug, Default, Clone, Copy)]
pub struct TransferStats {
    /// Final status, once it is known.
    pub status: u16,
    /// Bytes written to the client.
    pub bytes_out: u64,
    /// Of those, heads.
    pub head_out: u64,
    /// Bytes written to the backend.
    pub bytes_up: u64,
    /// When the response's head was complete.
    pub answered: Option<Time>,
    /// We ended it in its protocol's orderly way.
    pub ended_orderly: bool,
}

/// One attempt.
pub struct Exchange<'a> {
    order: ForwardParams<'a>,
    plane: &'a DataPlane,
    client: &'a mut ClientConnection,
    upload: &'a mut RequestUpload,
    connection: &'a mut IdleConnection,
    response: &'a mut ResponseHead,
    incoming: Buffer,
    /// Bytes of `incoming` that may go to the client as they are.
    passable: usize,
    /// What we wrote ourselves for the client: heads, and unchunked data.
    outgoing: &'a mut Vec<u8>,
    outgoing_sent: usize,
    head_sent: usize,
    sending: Sending,
    receiving: Receiving,
    interim: u32,
    begun: bool,
    keep_alive: bool,
    /// The stream of events is to end after the event under way.
    ending: bool,
    /// Counts it among the streams, once it is one.
    lasting: Option<StreamGuard>,
    progress: Time,
    /// The client sends no slower than this…
    pace_up: Pace,
    /// …and takes no slower than this.
    pace_down: Pace,
    /// The backend has reset a connection that it had not closed.
    reset: bool,
    /// A peer did not take all that there was for it.
    stalled: bool,
    /// Nothing is read from the client at present.
    is_deaf: bool,
    looks: Looks,
    /// How many bytes more it may move in this turn.
    turn: usize,
    unflushed_up: bool,
    unflushed_down: bool,
    tally: TransferStats,
}

impl<'a> Exchange<'a> {
    /// An attempt on `connection`.
    pub fn new(
        order: ForwardParams<'a>,
        plane: &'a DataPlane,
        client: &'a mut ClientConnection,
        upload: &'a mut RequestUpload,
        connection: &'a mut IdleConnection,
        response: &'a mut ResponseHead,
        outgoing: &'a mut Vec<u8>,
    ) -> Self {
        outgoing.clear();
        let has_length = matches!(order.request.body, RequestBody::Length(_));
        Self {
            plane,
            client,
            upload,
            connection,
            response,
            incoming: Buffer::take(),
            passable: 0,
            outgoing,
            outgoing_sent: 0,
            head_sent: 0,
            sending: Sending::Active,
            receiving: Receiving::Head,
            interim: 0,
            begun: false,
            keep_alive: false,
            ending: false,
            lasting: None,
            progress: order.began,
            pace_up: Pace::new(order.server.body_pace(has_length)),
            pace_down: Pace::new(order.server.response_pace()),
            reset: false,
            stalled: false,
            is_deaf: false,
            looks: Looks::default(),
            turn: TURN,
            unflushed_up: false,
            unflushed_down: false,
            tally: TransferStats::default(),
            order,
        }
    }

    /// Runs it to its end. What was read beyond a 101's head comes back as the buffer.
    pub async fn forward_once(
        mut self,
    ) -> (Result<ForwardEnd, ForwardFailure>, TransferStats, Buffer) {
        let mut end = poll_fn(|cx| self.poll(cx)).await;
        if self.outgoing_sent > 0 && end.is_err_and(ForwardFailure::is_clean) {
            end = Err(ForwardFailure::Truncated(Truncation::InterimBroken));
        }
        if let Err(failure) = end {
            self.tell_of(failure).await;
        }
        (end, self.tally, self.incoming)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<ForwardEnd, ForwardFailure>> {
        // Each direction goes on until it has to wait, and neither waits for the other: once is enough.
        self.turn = TURN;
        self.poll_up(cx)?;
        self.poll_down(cx)?;
        if let Receiving::Done = self.receiving
            && self.is_delivered()
        {
            return self.poll_end(cx);
        }
        if self.turn == 0 {
            yield_to_reactor(cx);
        }
        self.watch_client(cx)?;
        self.poll_flush(cx)?;
        self.poll_interrupts(cx)?;
        if self.poll_farewell(cx) {
            return self.poll(cx);
        }
        self.poll_deadline(cx)
    }

    // ---- towards the backend

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<(), ForwardFailure> {
        while self.sending == Sending::Active && self.turn > 0 {
            let head = &self.order.head[self.head_sent..];
            let body = self.upload.unsent(&self.client.buffer);
            if !head.is_empty() || !body.is_empty() {
                match poll_write_both(cx, &mut self.connection.stream, head, body) {
                    Poll::Ready(Ok(count)) if count > 0 => {
                        let of_head = count.min(head.len());
                        self.head_sent += of_head;
                        self.upload.advance(count - of_head);
                        self.tally.bytes_up += count as u64;
                        self.turn = self.turn.saturating_sub(count);
                        self.unflushed_up = true;
                        self.note_progress();
                    }
                    Poll::Ready(result) => {
                        self.sending = Sending::Refused;
                        self.reset |= result.is_err_and(|error| is_reset(&error));
                    }
                    Poll::Pending => {
                        self.stalled = true;
                        return Ok(());
                    }
                }
            } else if self.upload.is_complete() {
                self.sending = Sending::Done;
            } else {
                if self.begun {
                    self.upload.release(&mut self.client.buffer);
                } else {
                    self.upload.make_room(&mut self.client.buffer);
                }
                let most = self.client.buffer.len() + LARGE;
                match self.client.poll_read(cx, most) {
                    Poll::Ready(Ok(count)) if count > 0 => {
                        if let Err(error) = self.upload.absorb(&self.client.buffer) {
                            return Err(match error {
                                _ if !self.begun => ForwardFailure::BadBody(error),
                                UploadError::TooLarge => self.limited(Limit::Body, 413),
                                UploadError::Malformed => {
                                    ForwardFailure::Truncated(Truncation::BadBody)
                                }
                            });
                        }
                        self.progress = clock::now();
                        self.pace_up.moved(self.progress);
                    }
                    Poll::Ready(_) => return Err(ForwardFailure::ClientGone),
                    Poll::Pending => return Ok(()),
                }
            }
        }
        Ok(())
    }

    /// Notices a client that is gone. A client that has merely finished sending still wants its answer.
    fn watch_client(&mut self, cx: &mut Context<'_>) -> Result<(), ForwardFailure> {
        // While the body is on its way, `poll_up` reads.
        while !self.client.finished
            && self.upload.is_complete()
            && self.client.buffer.has_room(LARGE)
        {
            match self.client.poll_read(cx, LARGE) {
                // Nobody listens to events on a connection it has half closed; this client has left.
                Poll::Ready(Ok(0)) if self.begun && self.response.is_event_stream => {
                    return Err(ForwardFailure::ClientGone);
                }
                Poll::Ready(Ok(0)) => self.client.finished = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err(ForwardFailure::ClientGone),
                Poll::Pending => break,
            }
        }
        // What is left unread stays unread: behind a refused body, behind one that the backend takes no more of for now,
        // and where the client has sent more requests than there is room for.
        self.is_deaf = match self.upload.is_complete() {
            true => !self.client.buffer.has_room(LARGE),
            false => self.stalled || self.sending == Sending::Refused,
        };
        match self.is_deaf && self.client.poll_gone_unread(cx, self.upload) {
            true => Err(ForwardFailure::ClientGone),
            false => Ok(()),
        }
    }

    // ---- endings

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<ForwardEnd, ForwardFailure>> {
        match Pin::new(&mut *self.client.stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(ForwardFailure::ClientGone)),
            Poll::Pending => {
                self.poll_interrupts(cx)?;
                return self.poll_deadline(cx);
            }
        }
        if self.response.status == 101 {
            return Poll::Ready(Ok(ForwardEnd::Upgraded));
        }
        let until_close = matches!(self.response.body, ResponseBody::UntilClose);
        Poll::Ready(Ok(ForwardEnd::Complete {
            reusable: self.response.keep_alive
                && self.sending == Sending::Done
                && !self.tally.ended_orderly
                && self.incoming.is_empty()
                && !until_close,
            keep_alive: self.keep_alive && self.upload.is_complete(),
        }))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<(), ForwardFailure> {
        if self.unflushed_up {
            match Pin::new(&mut *self.connection.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed_up = false,
                Poll::Ready(Err(_)) => self.sending = Sending::Refused,
                Poll::Pending => {}
            }
        }
        if self.unflushed_down {
            match Pin::new(&mut *self.client.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed_down = false,
                Poll::Ready(Err(_)) => return Err(ForwardFailure::ClientGone),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    fn poll_interrupts(&mut self, cx: &mut Context<'_>) -> Result<(), ForwardFailure> {
        let upstream = self.connection.ticket.interrupt();
        upstream.register(cx.waker());
        if upstream.level() == Level::Cut {
            return Err(if self.begun {
                ForwardFailure::Truncated(Truncation::CutByDrain)
            } else {
                ForwardFailure::Cut
            });
        }
        self.client.interrupt.register(cx.waker());
        if self.client.interrupt.level() == Level::Cut {
            // A call can be told; whether the app has seen it, nobody knows.
            return Err(match self.order.request.is_grpc && !self.begun {
                true => ForwardFailure::ShutDown,
                false => ForwardFailure::Truncated(Truncation::CutByShutdown),
            });
        }
        Ok(())
    }

    /// Whether it is the client's turn to send: the backend has all that is here, and is not being asked first
    /// whether it wants the body (RFC 9110 §10.1.1).
    fn waits_for_body(&self) -> bool {
        let asked_first = self.order.request.expect_continue;
        self.sending == Sending::Active
            && !self.upload.is_complete()
            && self.head_sent == self.order.head.len()
            && self.upload.unsent(&self.client.buffer).is_empty()
            && !(asked_first && self.interim == 0 && self.upload.total() == 0)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Result<ForwardEnd, ForwardFailure>> {
        let (at, failure) = match self.deadline() {
            Some((at, failure)) => (at, failure),
            None if self.is_deaf => (Time::MAX, ForwardFailure::ClientGone),
            None => return Poll::Pending,
        };
        self.looks
            .poll(cx, self.client, self.is_deaf, at)
            .map(|waited| match waited {
                Waited::Enough => Err(failure),
                Waited::Abandoned => Err(ForwardFailure::ClientGone),
            })
    }

    /// Whoever is waited for now: until when, and what it means if nothing has come by then.
    fn deadline(&mut self) -> Option<(Time, ForwardFailure)> {
        let server = self.order.server;
        let for_body = self.waits_for_body();
        let (mut at, mut failure) = if !self.is_delivered() {
            let end = self.progress + server.body_timeout;
            (end, self.cut(Limit::BodyTimeout))
        } else if self.may_be_silent(for_body) {
            return None;
        } else if !self.begun && for_body {
            let end = self.progress + server.body_timeout;
            (end, self.limited(Limit::BodyTimeout, 408))
        } else {
            let end = self.progress + self.order.read_timeout;
            (
                end,
                match self.begun {
                    true => ForwardFailure::Truncated(Truncation::Silent),
                    false => ForwardFailure::Timeout,
                },
            )
        };
        let mut sooner = |end: Option<Time>, then: ForwardFailure| {
            if let Some(end) = end.filter(|end| *end < at) {
                (at, failure) = (end, then);
            }
        };
        if !self.is_delivered() && self.pace_down.is_waiting() {
            let taken = self
                .tally
                .bytes_out
                .saturating_sub(unsent(&self.client.stream));
            sooner(
                self.pace_down.deadline(taken),
                self.cut(Limit::ResponseRate),
            );
        } else if for_body {
            if self.pace_up.wants_to_know() {
                self.pace_up.wait(clock::now());
            }
            let end = self.pace_up.deadline(self.upload.total());
            sooner(end, self.limited(Limit::BodyRate, 408));
        }
        if self.order.ends.is_some() && !(self.begun && self.may_last()) {
            let status = if for_body { 408 } else { 504 };
            sooner(self.order.ends, self.limited(Limit::TotalTimeout, status));
        }
        Some((at, failure))
    }

    /// A limit was reached: an answer where none has begun.
    fn limited(&self, limit: Limit, status: u16) -> ForwardFailure {
        ForwardFailure::Limited {
            limit,
            answer: (!self.begun).then_some(status),
        }
    }

    /// A limit was reached, and nobody is there to be told.
    fn cut(&self, limit: Limit) -> ForwardFailure {
        ForwardFailure::Limited {
            limit,
            answer: None,
        }
    }
}

/// A reset of an open connection. Behind the peer's close it is reported as a broken pipe instead; and over TLS a close
/// without a goodbye is an unexpected end, any other refusal of the peer's invalid data.
fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, InvalidData, UnexpectedEof};
    !matches!(error.kind(), BrokenPipe | UnexpectedEof | InvalidData)
}

/// Writes two pieces as one.
fn poll_write_both(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    first: &[u8],
    second: &[u8],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(&mut **stream);
    match (first.is_empty(), second.is_empty()) {
        (false, false) => {
            stream.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
        }
        (false, true) => stream.poll_write(cx, first),
        (true, _) => stream.poll_write(cx, second),
    }
}
