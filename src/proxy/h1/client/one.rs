//! A client that brings one request: a stream of another protocol, in HTTP/1's dress.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use pingora::protocols::Stream;

use super::super::buffer::Buffer;
use super::super::request::{Progress, RequestError, RequestHead};
use super::super::transaction;
use super::{Client, Next, refuse};
use crate::config::Config;
use crate::core::Time;
use crate::interrupt::Interrupt;
use crate::proxy::front::Origin;
use crate::proxy::memory::ConnectionShare;
use crate::proxy::plane::Plane;

/// A request's head, as it was written for the HTTP/1 plane.
pub struct WrittenHead {
    /// The head, or as much of it as can be logged.
    pub buffer: Buffer,
    /// Why it can't be said in HTTP/1.
    pub unfit: Option<RequestError>,
    /// When its first byte came, if its last one came later.
    pub began: Option<Time>,
    /// What it keeps of its connection's part of the memory.
    pub share: ConnectionShare,
}

/// Serves a stream that brings one request and nothing after it: one of another protocol's, in HTTP/1's dress.
pub async fn serve_one(
    plane: &Arc<Plane>,
    stream: Stream,
    written: WrittenHead,
    origin: Origin,
    interrupt: Arc<Interrupt>,
    config: &Config,
) {
    let mut client = Client::new(stream, origin, interrupt, config);
    client.buffer = written.buffer;
    client.share = Some(written.share);
    client.requests = 1;
    client.head_began = written.began;
    let mut head = RequestHead::new();
    let limits = &config.server;
    let parsed = match written.unfit {
        Some(error) => Err(error),
        None => head.parse(client.buffer.bytes(), &limits.into()),
    };
    let next = match parsed {
        Ok(Progress::Complete) => transaction::run(plane, &mut client, &head).await,
        // All of it is here, so it is too long to be taken.
        Ok(Progress::Partial) => {
            refuse(
                plane,
                &mut client,
                RequestError::HeadTooLarge.into(),
                limits,
            )
            .await
        }
        Err(error) => refuse(plane, &mut client, error.into(), limits).await,
    };
    if next != Next::Abort {
        let _ = poll_fn(|cx| Pin::new(&mut *client.stream).poll_shutdown(cx)).await;
    }
    std::mem::take(&mut client.buffer).give_back();
}
