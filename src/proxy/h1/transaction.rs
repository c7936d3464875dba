//! One request, from its parsed head to its log line: route, pick, permit, connection, exchange, retry.

use std::sync::Arc;
use std::time::Duration;

use super::buffer::Buffer;
use super::client::{Client, Next};
use super::exchange::{self, End, Exchange, Failure, Tally};
use super::request::{RequestHead, Upgrade};
use super::response::ResponseHead;
use super::tunnel::{self, TunnelEnd};
use super::upload::{Upload, UploadError};
use crate::clock;
use crate::core::Time;
use crate::core::retry::{self, Verdict};
use crate::proxy::errors::write_local_response;
use crate::proxy::headers::{RequestEdit, incoming_request_id, write_request};
use crate::proxy::hold::{self, Held};
use crate::proxy::plane::Plane;
use crate::proxy::request_id::RequestId;
use crate::proxy::upstream::{self, Tried};
use crate::registry::endpoint::{Connection, Key, Permit};
use crate::registry::snapshot::Pool;
use crate::telemetry::access_log::Record;

/// What `Retry-After` says when nothing is eligible, in seconds.
const RETRY_AFTER: u32 = 1;

/// Taken off what the app's `Keep-Alive: timeout=` promises: the request has to arrive before it ends.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// What the log line needs, gathered on the way.
struct Account {
    began: Time,
    held: Duration,
    attempts: u32,
    retry_reason: &'static str,
    backend: Option<Arc<str>>,
    tally: Tally,
    end: &'static str,
    cause: &'static str,
    bytes_in: u64,
}

/// How a request ended that has no response from a backend to show.
struct Answer {
    status: u16,
    cause: &'static str,
    retry_after: Option<u32>,
}

/// One request under way.
struct Transaction<'a> {
    plane: &'a Arc<Plane>,
    client: &'a mut Client,
    head: &'a RequestHead,
    pool: Arc<Pool>,
    id: RequestId,
    upload: Upload,
    account: Account,
    tried: Tried,
    /// The backend that failed last: a retry goes elsewhere if it can.
    avoid: Option<Key>,
}

/// Answers the request whose head is at the start of the client's buffer.
pub async fn run(plane: &Arc<Plane>, client: &mut Client, head: &RequestHead) -> Next {
    let began = clock::now();
    let buffer = client.buffer.bytes();
    let id = match incoming_request_id(buffer, head) {
        Some(given) => RequestId::given(given),
        None => RequestId::made(plane.next_request()),
    };
    let mut account = Account {
        began,
        held: Duration::ZERO,
        attempts: 0,
        retry_reason: "",
        backend: None,
        tally: Tally::default(),
        end: "",
        cause: "",
        bytes_in: head.len as u64,
    };
    let (pool, limits) = {
        let snapshot = plane.registry.snapshot();
        let route = snapshot.routes.lookup(head.host.of(buffer), head.path.of(buffer));
        (route.and_then(|index| snapshot.pools.get(index).cloned()), snapshot.config.clone())
    };
    let Some(pool) = pool else {
        let answer = Answer { status: 404, cause: "no route matches this host and path", retry_after: None };
        account.cause = answer.cause;
        let next = answer_locally(client, head, &mut account, &answer, head_only_body(head)).await;
        log(plane, client, head, &id, "", &account);
        client.buffer.consume(head.len.min(client.buffer.len()));
        return next;
    };
    let upload = match Upload::new(head.body, head.len, limits.server.max_body) {
        Ok(upload) => upload,
        Err(error) => {
            let answer = body_answer(error);
            account.cause = answer.cause;
            let next = answer_locally(client, head, &mut account, &answer, false).await;
            log(plane, client, head, &id, &pool.name, &account);
            return next;
        }
    };
    let mut transaction =
        Transaction { plane, client, head, pool, id, upload, account, tried: Tried::default(), avoid: None };
    let next = transaction.run(limits.server.body_timeout, limits.server.max_header, &limits.headers).await;
    transaction.finish(next)
}
