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
use crate::proxy::plane::Plane;

/// Serves a stream that brings one request and nothing after it: one of another protocol's, in HTTP/1's dress. Its head
/// is in `buffer`, where it can be said at all (`unfit`). `head_began`: when its first byte came, if its last one came
/// later.
#[allow(
    clippy::too_many_arguments,
    reason = "each is another thing, and all are moved into the stream's task"
)]
pub async fn serve_one(
    plane: &Arc<Plane>,
    stream: Stream,
    buffer: Buffer,
    unfit: Option<RequestError>,
    head_began: Option<Time>,
    origin: Origin,
    interrupt: Arc<Interrupt>,
    config: &Config,
) {
    let mut client = Client::new(stream, origin, interrupt, config);
    client.buffer = buffer;
    client.requests = 1;
    client.head_began = head_began;
    let mut head = RequestHead::new();
    let limits = &config.server;
    let parsed = match unfit {
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
