//! Reads the beginning of a stream: the part of its body that has arrived together with its head.
//!
//! Many clients end the stream with a separate frame after the head. HTTP/1.1 needs to know that before the head is
//! written: servers refuse a GET with a chunked body, and chunks would replace a `Content-Length`.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::RecvStream;
use http::{Method, header, request};

use crate::config;
use crate::metrics::ServerLimit;
use crate::proxy::client::bounded_wait::BoundedWait;
use crate::proxy::h2::server_stream::ServerStream;
use crate::proxy::refusal::ClientRefusal;
use crate::rt::clock;
use crate::rt::shutdown_signal::ConnectionInterrupt;

/// Returns what has arrived of a body without a length, or with the length 0; empty: nothing. After that, the stream
/// knows whether the body has ended.
pub(super) fn read_first(parts: &request::Parts, body: &mut RecvStream) -> Bytes {
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let has_length = length.is_some_and(|length| length.as_bytes() != b"0");
    if has_length || parts.method == Method::CONNECT {
        return Bytes::new();
    }
    // This poll never waits, so it needs no waker: the reader of the body polls again.
    let mut cx = Context::from_waker(Waker::noop());
    while !body.is_end_stream() {
        match body.poll_data(&mut cx) {
            Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
            Poll::Ready(Some(Ok(data))) => return data,
            // Trailers, or an error, which the body's reader gets again.
            _ => break,
        }
    }
    Bytes::new()
}

/// How the wait for the end of a body ended that is declared empty.
pub(super) enum EmptyEnd {
    Here,
    /// The client took too long.
    Late(ClientRefusal),
    /// The client has disconnected, or the proxy is about to close the connection.
    Gone,
}

/// Waits for the end of the body: a request must not be complete before its stream is.
pub(super) async fn wait_for_end(
    stream: &mut ServerStream,
    interrupt: &ConnectionInterrupt,
    limits: &config::ServerConfig,
) -> EmptyEnd {
    let (since, mut wait) = (clock::now(), BoundedWait::new(interrupt));
    let ended = poll_fn(|cx| {
        let polled = stream.poll_empty(cx);
        wait.poll_or(cx, polled, EmptyEnd::Gone, |_| {
            let detail = "the request's body made no progress";
            let late = ClientRefusal::limited(ServerLimit::BodyTimeout, 408, detail);
            (since + limits.body_timeout, EmptyEnd::Late(late))
        })
    });
    match ended.await {
        Ok(Ok(())) => EmptyEnd::Here,
        Ok(Err(_)) => EmptyEnd::Gone,
        Err(end) => end,
    }
}
