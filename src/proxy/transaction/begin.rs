//! What a request is before its first attempt: routed, or answered at once.

use std::sync::Arc;

use super::local_response::{self, LocalResponse, answer_locally, body_answer};
use super::record::RequestRecord;
use super::route::{FoundRoute, find_pool};
use crate::config::Config;
use crate::proxy::client::upload::RequestUpload;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::passes;
use crate::proxy::h1::request::RequestHead;
use crate::registry::snapshot::PoolSnapshot;

/// Why no backend is asked.
pub(super) enum Unrouted {
    /// The listener sends its clients to HTTPS, at this port.
    Redirect(u16),
    /// An answer of our own, and whether the request is here to its end.
    Answer(LocalResponse, bool),
}

/// A request that a pool is to answer.
pub(super) struct RoutedToPool {
    pub(super) config: Arc<Config>,
    pub(super) pool: Arc<PoolSnapshot>,
    pub(super) upload: RequestUpload,
}

/// What somebody has configured who sends requests back to where they come from.
const CIRCLE: &str = "this request has passed lameduck again and again: a backend, or a proxy behind it, sends it back";

/// Finds what a request needs for its first attempt: its configuration, its pool, and the account of its body. `routed`
/// is the pool that has it in its account, even if no backend is asked.
pub(super) fn route_request(
    plane: &DataPlane,
    client: &ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
    routed: &mut Option<Arc<PoolSnapshot>>,
) -> Result<RoutedToPool, Unrouted> {
    if let Some(port) = client.origin.redirect_https {
        return Err(Unrouted::Redirect(port));
    }
    let FoundRoute { config, pool, rule } = find_pool(plane, client, head);
    account.rule = rule;
    let Some(pool) = pool else {
        account.occupied = head.len;
        return Err(Unrouted::Answer(
            LocalResponse::NO_ROUTE,
            head.body.is_empty(),
        ));
    };
    *routed = Some(pool.clone());
    if passes::is_circle(client.buffer.bytes(), head) {
        account.occupied = head.len;
        let answer = LocalResponse::new(508, CIRCLE);
        return Err(Unrouted::Answer(answer, head.body.is_empty()));
    }
    match RequestUpload::new(head.body, head.len, config.server.max_body) {
        Ok(upload) => Ok(RoutedToPool {
            config,
            pool,
            upload,
        }),
        Err(error) => Err(Unrouted::Answer(body_answer(error), false)),
    }
}

/// Answers a request for which no backend is asked.
pub(super) async fn answer_unrouted(
    plane: &DataPlane,
    client: &mut ClientConnection,
    head: &RequestHead,
    account: &mut RequestRecord,
    why: Unrouted,
) -> AfterRequest {
    match why {
        Unrouted::Redirect(port) => {
            local_response::redirect(plane, client, head, account, port).await
        }
        Unrouted::Answer(answer, is_whole) => {
            answer_locally(plane, client, head, account, answer, is_whole).await
        }
    }
}
