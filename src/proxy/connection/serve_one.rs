//! Serves a client with exactly one request: an HTTP/2 stream, presented as HTTP/1.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use pingora::protocols::Stream;

use super::super::buffer::{Buffer, LARGE};
use super::super::transaction;
use super::close::{LINGER_PAUSE, LINGER_TIME};
use super::serve::refuse;
use crate::config::Config;
use crate::core::Time;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::client_info::ClientInfo;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::h1::request::{HeadProgress, RequestError, RequestHead};
use crate::proxy::h2::server_stream::ServerStream;
use crate::proxy::memory::ConnectionShare;
use crate::proxy::refusal::ClientRefusal;
use crate::rt::clock;
use crate::rt::shutdown_signal::{ConnectionInterrupt, ShutdownLevel};

/// Maximum number of bytes read of a request that has been answered already.
const MOST_RUN_OUT: usize = 64 * 1024 * 1024;

/// A request head, converted for the HTTP/1 plane.
pub struct WrittenHead {
    /// The head, or the part of it that can be logged.
    pub buffer: Buffer,
    /// Why the request can't be expressed in HTTP/1.
    pub unfit: Option<ClientRefusal>,
    /// Time of its first byte, if its last one came later.
    pub began: Option<Time>,
    /// The request's share of its connection's memory limit.
    pub share: ConnectionShare,
}

/// Serves a stream that carries one request and nothing after it, presented as HTTP/1.
pub async fn serve_one(
    plane: &Arc<DataPlane>,
    stream: Stream,
    written: WrittenHead,
    origin: ClientInfo,
    interrupt: Arc<ConnectionInterrupt>,
    config: &Config,
) {
    let mut client = ClientConnection::new(stream, origin, interrupt, config);
    client.buffer = written.buffer;
    client.share = Some(written.share);
    client.requests = 1;
    client.head_began = written.began;
    let mut head = RequestHead::new();
    let limits = &config.server;
    let parsed = match written.unfit {
        Some(refusal) => Err(refusal),
        None => head
            .parse(client.buffer.bytes(), &limits.into())
            .map_err(ClientRefusal::from),
    };
    let next = match parsed {
        Ok(HeadProgress::Complete) => transaction::handle(plane, &mut client, &head).await,
        // The whole head has arrived and still counts as partial: it exceeds the parser's limit.
        Ok(HeadProgress::Partial) => {
            refuse(
                plane,
                &mut client,
                RequestError::HeadTooLarge.into(),
                limits,
            )
            .await
        }
        Err(refusal) => refuse(plane, &mut client, refusal, limits).await,
    };
    if next == AfterRequest::Linger {
        run_out(&mut client).await;
    }
    if next != AfterRequest::Abort {
        let _ = poll_fn(|cx| Pin::new(&mut *client.stream).poll_shutdown(cx)).await;
    }
    std::mem::take(&mut client.buffer).give_back();
}

/// Reads on after the response is complete before its request. Stopping the client with RST_STREAM, NO_ERROR is
/// allowed (RFC 9113 §8.1), but widespread clients (curl before 8, httpx) then discard the response. So what they
/// still send is read for a while, as with HTTP/1.
async fn run_out(client: &mut ClientConnection) {
    let end = clock::now() + LINGER_TIME;
    let mut patience = clock::now() + LINGER_PAUSE;
    let mut taken = 0;
    poll_fn(|cx| {
        client.interrupt.register(cx.waker());
        if client.interrupt.level() == ShutdownLevel::Cut {
            return Poll::Ready(());
        }
        loop {
            let stream = client.stream.as_any().downcast_ref::<ServerStream>();
            if stream.is_none_or(ServerStream::has_ended) {
                return Poll::Ready(());
            }
            client.buffer.clear();
            match client.poll_read(cx, LARGE) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    taken += count;
                    let now = clock::now();
                    patience = end.min(now + LINGER_PAUSE);
                    if taken > MOST_RUN_OUT || now >= end {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return client.timer.poll(cx, patience),
            }
        }
    })
    .await;
}
