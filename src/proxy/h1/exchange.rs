//! One attempt of one request on one upstream connection, with both directions live at once.
//!
//! The client may still be sending while the response arrives (early responses, 100-continue, streams both
//! ways), so neither side waits for the other: each wake-up moves whatever can move.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use pingora::protocols::Stream;

use super::buffer::{Buffer, LARGE};
use super::chunked::{ChunkDecoder, LAST_CHUNK, start_chunk};
use super::client::Client;
use super::method::Version;
use super::request::{Progress, RequestHead};
use super::response::{ResponseBody, ResponseHead};
use super::upload::{Upload, UploadError};
use crate::clock;
use crate::config;
use crate::core::Time;
use crate::interrupt::Level;
use crate::proxy::headers::{ClientFraming, ResponseEdit, write_response};
use crate::proxy::plane::Plane;
use crate::proxy::sse::EventTracker;
use crate::registry::endpoint::Connection;

/// Largest trailer section of a response, in bytes.
const MAX_TRAILER: usize = 64 * 1024;

/// Interim responses (1xx) taken before the final one; more is a broken or hostile backend.
const MAX_INTERIM: u32 = 16;

/// Why a response could not be finished: the backend's doing…
pub const UPSTREAM_CLOSED: &str = "upstream closed in mid-response";

/// …or the drain's.
pub const CUT_BY_DRAIN: &str = "cut by the drain's deadline";

/// How an attempt ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The response was delivered whole.
    Complete {
        /// The upstream connection can carry another request.
        reusable: bool,
        /// The client's connection can.
        keep_alive: bool,
    },
    /// 101: both sides now speak another protocol.
    Upgraded,
}

/// How an attempt failed. The first group left the client untouched, so another answer can still be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The backend closed or reset before a byte of response.
    Died {
        /// By reset rather than by close.
        reset: bool,
    },
    /// No byte of response within `read_timeout`.
    Timeout,
    /// The drain's deadline cut it before the response began.
    Cut,
    /// The response could not be understood (stable reason).
    BadResponse(&'static str),
    /// The client's body could not be taken.
    BadBody(UploadError),
    /// The client's body made no progress.
    BodyTimeout,
    /// The client went away, or stopped taking the response.
    ClientGone,
    /// The response had begun and could not be finished (stable reason): the connection is cut, so that the
    /// client can tell.
    Truncated(&'static str),
}

impl Failure {
    /// Whether the client can still be given another answer.
    pub fn is_clean(self) -> bool {
        !matches!(self, Failure::ClientGone | Failure::Truncated(_))
    }
}

/// Which half is where, upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Active,
    Done,
    /// The backend takes no more; it may still have answered.
    Refused,
}

/// And downwards.
#[derive(Debug)]
enum Receiving {
    Head,
    Body(Download),
    Done,
}

/// What is left of a response's body.
#[derive(Debug)]
enum Download {
    Length(u64),
    Chunked(Box<ChunkDecoder>),
    /// As above, but the client gets the bare data.
    Dechunked(Box<ChunkDecoder>),
    /// Until the backend closes; the client gets chunks, so that it can tell an end from a break.
    Rechunked,
    /// Server-sent events, in chunks of our own: such a stream can be ended between two events.
    Events(Box<Events>),
    /// Until the backend closes, for a client that knows no chunks.
    UntilClose,
}

/// A stream of events under way.
#[derive(Debug)]
struct Events {
    /// `None`: the backend sends until it closes.
    decoder: Option<ChunkDecoder>,
    data: Vec<u8>,
    tracker: EventTracker,
}

/// What the exchange needs to know of the request.
pub struct Order<'a> {
    /// The client's request.
    pub request: &'a RequestHead,
    /// The head as the backend gets it.
    pub head: &'a [u8],
    /// When the request began, as the proxy saw it.
    pub began: Time,
    /// The pool's settings.
    pub upstream: &'a config::Upstream,
    /// `body_timeout`.
    pub body_timeout: Time,
    /// Largest response head.
    pub max_header: usize,
}

/// What the log wants to know afterwards.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    /// Final status, once it is known.
    pub status: u16,
    /// Bytes written to the client.
    pub bytes_out: u64,
    /// When the response's head was complete.
    pub answered: Option<Time>,
    /// We ended it in its protocol's orderly way.
    pub ended_orderly: bool,
}

/// One attempt.
pub struct Exchange<'a> {
    order: Order<'a>,
    plane: &'a Plane,
    client: &'a mut Client,
    upload: &'a mut Upload,
    connection: &'a mut Connection,
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
    progress: Time,
    /// A peer did not take all that there was for it.
    stalled: bool,
    unflushed_up: bool,
    unflushed_down: bool,
    tally: Tally,
}

impl<'a> Exchange<'a> {
    /// An attempt on `connection`.
    pub fn new(
        order: Order<'a>,
        plane: &'a Plane,
        client: &'a mut Client,
        upload: &'a mut Upload,
        connection: &'a mut Connection,
        response: &'a mut ResponseHead,
        outgoing: &'a mut Vec<u8>,
    ) -> Self {
        outgoing.clear();
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
            progress: order.began,
            stalled: false,
            unflushed_up: false,
            unflushed_down: false,
            tally: Tally::default(),
            order,
        }
    }

    /// Runs it to its end. What was read beyond a 101's head comes back as the buffer.
    pub async fn run(mut self) -> (Result<End, Failure>, Tally, Buffer) {
        let mut end = poll_fn(|cx| self.poll(cx)).await;
        if self.outgoing_sent > 0 && end.is_err_and(Failure::is_clean) {
            end = Err(Failure::Truncated("an interim response broke off"));
        }
        (end, self.tally, self.incoming)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, Failure>> {
        // Each direction goes on until it has to wait, and neither waits for the other: once is enough.
        self.poll_up(cx)?;
        self.poll_down(cx)?;
        if let Receiving::Done = self.receiving
            && self.is_delivered()
        {
            return self.poll_end(cx);
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

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        while self.sending == Sending::Active {
            let head = &self.order.head[self.head_sent..];
            let body = self.upload.unsent(&self.client.buffer);
            if !head.is_empty() || !body.is_empty() {
                match poll_write_both(cx, &mut self.connection.stream, head, body) {
                    Poll::Ready(Ok(count)) if count > 0 => {
                        let of_head = count.min(head.len());
                        self.head_sent += of_head;
                        self.upload.advance(count - of_head);
                        self.unflushed_up = true;
                        self.note_progress();
                    }
                    Poll::Ready(_) => self.sending = Sending::Refused,
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
                            return Err(if self.begun {
                                Failure::Truncated("the request's body went wrong in mid-response")
                            } else {
                                Failure::BadBody(error)
                            });
                        }
                        self.progress = clock::now();
                    }
                    Poll::Ready(_) => return Err(Failure::ClientGone),
                    Poll::Pending => return Ok(()),
                }
            }
        }
        Ok(())
    }

    /// Notices a client that is gone. A client that has merely finished sending still wants its answer.
    fn watch_client(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        // While the body is on its way, `poll_up` reads; what a refused body leaves unread stays unread.
        while !self.client.finished
            && self.upload.is_complete()
            && self.client.buffer.has_room(LARGE)
        {
            match self.client.poll_read(cx, LARGE) {
                // Nobody listens to events on a connection it has half closed; this client has left.
                Poll::Ready(Ok(0)) if self.begun && self.response.is_event_stream => {
                    return Err(Failure::ClientGone);
                }
                Poll::Ready(Ok(0)) => self.client.finished = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err(Failure::ClientGone),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    // ---- towards the client

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        loop {
            if !self.is_delivered() {
                if self.poll_deliver(cx)?.is_pending() {
                    return Ok(());
                }
                continue;
            }
            if let Receiving::Done = self.receiving {
                return Ok(());
            }
            // Nothing can be passed on, so what is here is at most a part of a head.
            if self.poll_receive(cx)?.is_pending() {
                return Ok(());
            }
            self.digest()?;
        }
    }

    fn is_delivered(&self) -> bool {
        self.outgoing_sent == self.outgoing.len() && self.passable == 0
    }

    fn poll_deliver(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Failure> {
        let own = &self.outgoing[self.outgoing_sent..];
        let passing = &self.incoming.bytes()[..self.passable];
        match poll_write_both(cx, &mut self.client.stream, own, passing) {
            Poll::Ready(Ok(count)) if count > 0 => {
                let of_own = count.min(own.len());
                self.outgoing_sent += of_own;
                if self.outgoing_sent == self.outgoing.len() {
                    self.outgoing.clear();
                    self.outgoing_sent = 0;
                }
                self.incoming.consume(count - of_own);
                self.passable -= count - of_own;
                self.tally.bytes_out += count as u64;
                self.unflushed_down = true;
                self.note_progress();
                Ok(Poll::Ready(()))
            }
            Poll::Ready(_) => Err(Failure::ClientGone),
            Poll::Pending => {
                self.stalled = true;
                Ok(Poll::Pending)
            }
        }
    }

    /// Something was written. After a stall that is progress; what goes through at once needs no clock.
    fn note_progress(&mut self) {
        if std::mem::take(&mut self.stalled) {
            self.progress = clock::now();
        }
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Failure> {
        let most = match self.receiving {
            Receiving::Head => self.order.max_header,
            _ => LARGE,
        };
        if !self.incoming.has_room(most) {
            return Err(self.broken("response head too large"));
        }
        match self
            .incoming
            .poll_fill(cx, &mut self.connection.stream, most)
        {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(count)) if count > 0 => {
                if self.begun {
                    // The clock is read once per piece, and not at all for an answer in one piece.
                    self.progress = clock::now();
                }
                Ok(Poll::Ready(()))
            }
            Poll::Ready(result) => {
                let whole =
                    result.is_ok() && self.connection.ticket.interrupt().level() < Level::Cut;
                match self.receiving {
                    Receiving::Body(Download::UntilClose) if whole => {}
                    Receiving::Body(Download::Rechunked) if whole => {
                        self.outgoing.extend_from_slice(LAST_CHUNK);
                    }
                    Receiving::Body(Download::Events(ref events))
                        if whole && events.decoder.is_none() =>
                    {
                        self.outgoing.extend_from_slice(LAST_CHUNK);
                    }
                    _ => return Err(self.died(result.is_err())),
                }
                self.receiving = Receiving::Done;
                Ok(Poll::Ready(()))
            }
        }
    }

    fn died(&self, reset: bool) -> Failure {
        if self.begun {
            return Failure::Truncated(UPSTREAM_CLOSED);
        }
        if self.connection.ticket.interrupt().level() == Level::Cut {
            return Failure::Cut;
        }
        if self.incoming.is_empty() {
            Failure::Died { reset }
        } else {
            Failure::BadResponse("upstream closed within the response head")
        }
    }

    fn broken(&self, reason: &'static str) -> Failure {
        if self.begun {
            Failure::Truncated(reason)
        } else {
            Failure::BadResponse(reason)
        }
    }

    /// Turns what was read into what can be passed on.
    fn digest(&mut self) -> Result<(), Failure> {
        match &mut self.receiving {
            Receiving::Head => self.digest_head(),
            Receiving::Body(download) => {
                let bytes = self.incoming.bytes();
                let malformed = |_| Failure::Truncated("malformed chunk from upstream");
                match download {
                    Download::Length(left) => {
                        let taken = (*left).min(bytes.len() as u64);
                        *left -= taken;
                        self.passable = taken as usize;
                        if *left == 0 {
                            self.receiving = Receiving::Done;
                        }
                    }
                    Download::Chunked(decoder) => {
                        let (taken, complete) = decoder.skim(bytes).map_err(malformed)?;
                        self.passable = taken;
                        if complete {
                            self.receiving = Receiving::Done;
                        }
                    }
                    Download::Dechunked(decoder) => {
                        let (taken, complete) =
                            decoder.decode(bytes, self.outgoing).map_err(malformed)?;
                        self.incoming.consume(taken);
                        if complete {
                            self.receiving = Receiving::Done;
                        }
                    }
                    Download::Rechunked => {
                        start_chunk(self.outgoing, bytes.len());
                        self.outgoing.extend_from_slice(bytes);
                        self.outgoing.extend_from_slice(b"\r\n");
                        self.incoming.clear();
                    }
                    Download::Events(_) => return self.digest_events(),
                    Download::UntilClose => self.passable = bytes.len(),
                }
                Ok(())
            }
            Receiving::Done => Ok(()),
        }
    }

    fn digest_events(&mut self) -> Result<(), Failure> {
        let Receiving::Body(Download::Events(events)) = &mut self.receiving else {
            return Ok(());
        };
        events.data.clear();
        let mut complete = false;
        match &mut events.decoder {
            Some(decoder) => {
                let (taken, last) = decoder
                    .decode(self.incoming.bytes(), &mut events.data)
                    .map_err(|_| Failure::Truncated("malformed chunk from upstream"))?;
                self.incoming.consume(taken);
                complete = last;
            }
            None => {
                events.data.extend_from_slice(self.incoming.bytes());
                self.incoming.clear();
            }
        }
        if self.ending
            && let Some(end) = events.tracker.last_end(&events.data)
        {
            events.data.truncate(end);
            complete = true;
            self.tally.ended_orderly = true;
        }
        events.tracker.feed(&events.data);
        if !events.data.is_empty() {
            start_chunk(self.outgoing, events.data.len());
            self.outgoing.extend_from_slice(&events.data);
            self.outgoing.extend_from_slice(b"\r\n");
        }
        if complete {
            self.outgoing.extend_from_slice(LAST_CHUNK);
            self.receiving = Receiving::Done;
        }
        Ok(())
    }

    /// A drain or a shutdown wants streams to end: between two events, at this connection's own moment.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> bool {
        let Receiving::Body(Download::Events(events)) = &self.receiving else {
            return false;
        };
        let upstream = self.connection.ticket.interrupt();
        let at = if upstream.level() >= Level::End {
            upstream.at()
        } else if self.client.interrupt.level() >= Level::End {
            self.client.interrupt.at()
        } else {
            return false;
        };
        if self.ending || self.client.timer.poll(cx, at).is_pending() {
            return false;
        }
        self.ending = true;
        if events.tracker.is_between_events() && self.is_delivered() {
            self.outgoing.extend_from_slice(LAST_CHUNK);
            self.receiving = Receiving::Done;
            self.tally.ended_orderly = true;
        }
        true
    }

    fn digest_head(&mut self) -> Result<(), Failure> {
        if self.incoming.is_empty() {
            return Ok(());
        }
        let progress = self
            .response
            .parse(
                self.incoming.bytes(),
                self.order.request.method,
                self.order.request.upgrade.is_some(),
                self.order.max_header,
            )
            .map_err(|error| Failure::BadResponse(error.reason()))?;
        if progress == Progress::Partial {
            return Ok(());
        }
        if self.response.interim() {
            return self.digest_interim();
        }
        if self.response.status == 101 && !self.response.agrees(self.order.request.upgrade) {
            return Err(Failure::BadResponse(
                "101 to another protocol than was asked for",
            ));
        }
        let now = clock::now();
        self.tally.status = self.response.status;
        self.tally.answered = Some(now);
        self.progress = now;
        let old_client = self.order.request.version == Version::Http10;
        let framing = ClientFraming::choose(self.response, self.order.request.version);
        let events = !old_client && self.response.is_event_stream;
        let until_close = old_client
            && matches!(
                self.response.body,
                ResponseBody::Chunked | ResponseBody::UntilClose
            );
        // A response that overtakes its request's body leaves a connection that nobody can make sense of.
        self.keep_alive = self.order.request.keep_alive
            && self.upload.is_complete()
            && !self.client.finished
            && !until_close
            && !self.plane.is_lame();
        let upgraded = self.response.status == 101;
        write_response(
            self.outgoing,
            self.incoming.bytes(),
            self.response,
            &ResponseEdit {
                close: !self.keep_alive && !upgraded,
                client_version: self.order.request.version,
                framing,
                via: self.client.via,
            },
        );
        self.incoming.consume(self.response.len);
        self.begun = true;
        self.receiving = match self.response.body {
            _ if upgraded => Receiving::Done,
            ResponseBody::None | ResponseBody::Length(0) => Receiving::Done,
            ResponseBody::Length(length) => Receiving::Body(Download::Length(length)),
            ResponseBody::Chunked | ResponseBody::UntilClose if events => {
                let chunked = matches!(self.response.body, ResponseBody::Chunked);
                Receiving::Body(Download::Events(Box::new(Events {
                    decoder: chunked.then(|| ChunkDecoder::new(MAX_TRAILER)),
                    data: Vec::new(),
                    tracker: EventTracker::default(),
                })))
            }
            ResponseBody::Chunked => {
                let decoder = Box::new(ChunkDecoder::new(MAX_TRAILER));
                Receiving::Body(if old_client {
                    Download::Dechunked(decoder)
                } else {
                    Download::Chunked(decoder)
                })
            }
            ResponseBody::UntilClose if old_client => Receiving::Body(Download::UntilClose),
            ResponseBody::UntilClose => Receiving::Body(Download::Rechunked),
        };
        if !self.incoming.is_empty() {
            self.digest()
        } else {
            Ok(())
        }
    }

    /// RFC 9110 §15.2: interim responses go to clients that can take them, and are dropped for others.
    fn digest_interim(&mut self) -> Result<(), Failure> {
        self.interim += 1;
        self.progress = clock::now();
        if self.interim > MAX_INTERIM {
            return Err(Failure::BadResponse("too many interim responses"));
        }
        if self.order.request.version != Version::Http10 {
            write_response(
                self.outgoing,
                self.incoming.bytes(),
                self.response,
                &ResponseEdit {
                    close: false,
                    client_version: self.order.request.version,
                    framing: ClientFraming::Same,
                    via: self.client.via,
                },
            );
        }
        self.incoming.consume(self.response.len);
        self.digest_head()
    }

    // ---- endings

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, Failure>> {
        match Pin::new(&mut *self.client.stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::ClientGone)),
            Poll::Pending => {
                self.poll_interrupts(cx)?;
                return self.poll_deadline(cx);
            }
        }
        if self.response.status == 101 {
            return Poll::Ready(Ok(End::Upgraded));
        }
        let until_close = matches!(self.response.body, ResponseBody::UntilClose);
        Poll::Ready(Ok(End::Complete {
            reusable: self.response.keep_alive
                && self.sending == Sending::Done
                && !self.tally.ended_orderly
                && self.incoming.is_empty()
                && !until_close,
            keep_alive: self.keep_alive && self.upload.is_complete(),
        }))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
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
                Poll::Ready(Err(_)) => return Err(Failure::ClientGone),
                Poll::Pending => {}
            }
        }
        Ok(())
    }

    fn poll_interrupts(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        let upstream = self.connection.ticket.interrupt();
        upstream.register(cx.waker());
        if upstream.level() == Level::Cut {
            return Err(if self.begun {
                Failure::Truncated(CUT_BY_DRAIN)
            } else {
                Failure::Cut
            });
        }
        self.client.interrupt.register(cx.waker());
        if self.client.interrupt.level() == Level::Cut {
            return Err(Failure::Truncated("cut by the shutdown's deadline"));
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

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, Failure>> {
        let (limit, failure) = if !self.is_delivered() {
            (self.order.body_timeout, Failure::ClientGone)
        } else if !self.begun && self.waits_for_body() {
            (self.order.body_timeout, Failure::BodyTimeout)
        } else if self.begun && self.response.is_event_stream {
            return Poll::Pending;
        } else if self.begun {
            (
                self.order.upstream.read_timeout,
                Failure::Truncated("upstream sent nothing for too long"),
            )
        } else {
            (self.order.upstream.read_timeout, Failure::Timeout)
        };
        self.client
            .timer
            .poll(cx, self.progress + limit)
            .map(|()| Err(failure))
    }
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
