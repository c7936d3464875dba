//! A client's connection: reads one request head after the other and has each one answered.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora::protocols::Stream;

use super::buffer::{Buffer, LARGE};
use super::request::{Limits, Progress, RequestError, RequestHead};
use super::timer::Timer;
use super::transaction;
use crate::clock;
use crate::config;
use crate::core::Time;
use crate::interrupt::{Interrupt, Level};
use crate::proxy::errors::write_local_response;
use crate::proxy::plane::Plane;

/// Longest request target, in bytes (nginx and HAProxy take 8 and 16 KiB of request line).
const MAX_URI: usize = 16 * 1024;

/// How much of what a client still sends is read and thrown away, and for how long, before its connection is
/// closed: a close with unread bytes becomes a reset that can destroy the answer (RFC 9112 §9.6).
const LINGER_BYTES: usize = 256 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// What becomes of the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another request may follow.
    KeepAlive,
    /// It is closed; the client has nothing more to say.
    Close,
    /// It is closed, but the client may still be sending.
    Linger,
    /// It is cut off: the client must be able to tell that its answer is not whole.
    Abort,
}

/// A client's connection.
pub struct Client {
    /// The stream.
    pub stream: Stream,
    /// What was read and not yet consumed; the head of the current request is at its start.
    pub buffer: Buffer,
    /// The connection's one timer.
    pub timer: Timer,
    /// How the shutdown reaches it.
    pub interrupt: Arc<Interrupt>,
    /// The client has finished sending (it may still be reading).
    pub finished: bool,
    /// The client's address.
    pub address: SocketAddr,
    /// The client's IP address as text.
    pub ip: String,
    /// Whether its `X-Forwarded-*` are believed.
    pub trusted: bool,
    /// Whether responses get a `Via`.
    pub via: bool,
}

impl Client {
    /// Reads once into the buffer, up to `most` bytes.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<usize>> {
        self.buffer.poll_fill(cx, &mut self.stream, most)
    }

    /// Whether the client has gone while nothing of its answer was on the way. What it sends is kept.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        while self.buffer.has_room(LARGE) {
            match self.poll_read(cx, LARGE) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => return true,
                Poll::Pending => break,
            }
        }
        false
    }

    /// Writes all of `bytes`, or gives up at the deadline.
    pub async fn write_all(&mut self, bytes: &[u8], deadline: Time) -> io::Result<()> {
        let mut sent = 0;
        poll_fn(|cx| {
            while sent < bytes.len() {
                match Pin::new(&mut *self.stream).poll_write(cx, &bytes[sent..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => sent += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return self.poll_late(cx, deadline),
                }
            }
            match Pin::new(&mut *self.stream).poll_flush(cx) {
                Poll::Pending => self.poll_late(cx, deadline),
                ready => ready,
            }
        })
        .await
    }

    fn poll_late(&mut self, cx: &mut Context<'_>, deadline: Time) -> Poll<io::Result<()>> {
        self.timer
            .poll(cx, deadline)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Serves a client until its connection ends.
pub async fn serve(plane: &Arc<Plane>, stream: Stream, address: SocketAddr) {
    let config = plane.registry.snapshot().config.clone();
    let interrupt = plane.clients.join();
    let mut client = Client {
        stream,
        buffer: Buffer::take(),
        timer: Timer::default(),
        interrupt,
        finished: false,
        address,
        ip: address.ip().to_canonical().to_string(),
        trusted: is_trusted(&config.headers, address),
        via: config.headers.via,
    };
    let mut head = RequestHead::new();
    let next = if plane.is_full(&config.server) {
        plane.counters.refused("max_connections");
        answer_error(
            &mut client,
            503,
            "too many connections",
            config.server.header_timeout,
        )
        .await
    } else {
        serve_requests(plane, &mut client, &mut head, &config.server).await
    };
    close(&mut client, next).await;
    let Client {
        stream,
        buffer,
        interrupt,
        ..
    } = client;
    buffer.give_back();
    drop(stream);
    plane.clients.leave(&interrupt);
}

async fn serve_requests(
    plane: &Arc<Plane>,
    client: &mut Client,
    head: &mut RequestHead,
    limits: &config::Server,
) -> Next {
    let mut idle_since = clock::now();
    loop {
        match poll_fn(|cx| poll_head(client, head, limits, idle_since, cx)).await {
            Arrival::Request => {}
            Arrival::Nothing => return Next::Close,
            Arrival::Late => {
                plane.counters.refused("header_timeout");
                return answer_error(
                    client,
                    408,
                    "the request's head took too long",
                    limits.header_timeout,
                )
                .await;
            }
            Arrival::Bad(error) => {
                plane.counters.refused(error.reason());
                return answer_error(
                    client,
                    error.status(),
                    error.reason(),
                    limits.header_timeout,
                )
                .await;
            }
        }
        match transaction::run(plane, client, head).await {
            Next::KeepAlive => idle_since = clock::now(),
            end => return end,
        }
    }
}

enum Arrival {
    Request,
    Nothing,
    Late,
    Bad(RequestError),
}

fn poll_head(
    client: &mut Client,
    head: &mut RequestHead,
    limits: &config::Server,
    idle_since: Time,
    cx: &mut Context<'_>,
) -> Poll<Arrival> {
    let sizes = Limits {
        max_header: limits.max_header,
        max_uri: MAX_URI,
    };
    loop {
        if !client.buffer.is_empty() {
            match head.parse(client.buffer.bytes(), &sizes) {
                Ok(Progress::Complete) => return Poll::Ready(Arrival::Request),
                Ok(Progress::Partial) => {}
                Err(error) => return Poll::Ready(Arrival::Bad(error)),
            }
        }
        // The parser refuses a head that outgrows `max_header`, so there is always room for one byte more.
        match client.poll_read(cx, limits.max_header + LARGE) {
            Poll::Ready(Ok(count)) if count > 0 => {}
            Poll::Ready(_) => return Poll::Ready(Arrival::Nothing),
            Poll::Pending => break,
        }
    }
    client.interrupt.register(cx.waker());
    let level = client.interrupt.level();
    if level == Level::Cut || (level >= Level::Finish && client.buffer.is_empty()) {
        return Poll::Ready(Arrival::Nothing);
    }
    let (limit, end) = if client.buffer.is_empty() {
        (limits.idle_timeout, Arrival::Nothing)
    } else {
        (limits.header_timeout, Arrival::Late)
    };
    client.timer.poll(cx, idle_since + limit).map(|()| end)
}

/// Answers with an error of our own and closes.
async fn answer_error(client: &mut Client, status: u16, detail: &str, patience: Duration) -> Next {
    let mut out = Vec::with_capacity(256);
    write_local_response(&mut out, status, detail, true, false, None);
    match client.write_all(&out, clock::now() + patience).await {
        Ok(()) => Next::Linger,
        Err(_) => Next::Abort,
    }
}

/// Closes the connection in the way its end asks for.
async fn close(client: &mut Client, next: Next) {
    match next {
        Next::KeepAlive | Next::Close => {
            let deadline = clock::now() + LINGER_TIME;
            poll_fn(|cx| match Pin::new(&mut *client.stream).poll_shutdown(cx) {
                Poll::Pending => client.timer.poll(cx, deadline),
                Poll::Ready(_) => Poll::Ready(()),
            })
            .await;
        }
        Next::Linger => linger(client).await,
        // A reset instead of an orderly end: even a body without a length can't be mistaken for a whole one.
        Next::Abort => super::socket::reset_on_close(client.stream.id()),
    }
}

async fn linger(client: &mut Client) {
    let deadline = clock::now() + LINGER_TIME;
    let mut left = LINGER_BYTES;
    let mut shut = false;
    poll_fn(|cx| {
        if !shut {
            match Pin::new(&mut *client.stream).poll_shutdown(cx) {
                Poll::Pending => return client.timer.poll(cx, deadline),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => shut = true,
            }
        }
        loop {
            client.buffer.clear();
            match client.poll_read(cx, LARGE) {
                Poll::Ready(Ok(count)) if count > 0 && count < left => left -= count,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return client.timer.poll(cx, deadline),
            }
        }
    })
    .await;
}

fn is_trusted(headers: &config::Headers, address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    headers.trusted.iter().any(|network| network.contains(&ip))
}
