//! Mirrors requests to a second pool. A copy is made when the request has been received, and sent by a task of its
//! own; its response is discarded. The request never waits for its copy, and is not affected by it.
//!
//! To the backend that receives it, a copy is a request like any other: the pool's balancer picks the backend, the copy
//! has a permit (so that a drain waits for it and its deadline cuts it), and it uses keep-alive connections. It is
//! tried once, and never held.

use std::sync::Arc;
use std::time::Duration;

use super::Transaction;
use super::attempt::{AttemptEnd, AttemptPurpose};
use super::guards::RouteAdmission;
use super::judge::FailedAttempt;
use super::record::RequestRecord;
use super::route::{RoutedToPool, begin_upload, prepare_changes};
use crate::config::{Config, MirrorConfig};
use crate::metrics::MirrorDrop;
use crate::proxy::buffer::{Buffer, LARGE};
use crate::proxy::client::ClientConnection;
use crate::proxy::client::discarding::DiscardingStream;
use crate::proxy::client_info::ClientInfo;
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::ForwardFailure;
use crate::proxy::h1::request::{HeadProgress, RequestHead};
use crate::proxy::transaction::request_id::RequestId;
use crate::proxy::upstream::pick;
use crate::registry::routes::RouteRule;
use crate::registry::snapshot::PoolSnapshot;
use crate::rt::clock;

/// Header field that marks a request as a copy.
const MARK: &str = "X-Lameduck-Mirror";

/// Maximum number of concurrent copies of all routes.
const MOST_COPIES: usize = 256;

/// Maximum size of all concurrent copies together, in bytes.
const MOST_BYTES: usize = 16 << 20;

/// Maximum size of a copy's head and body, in bytes. A larger body is streamed to the backend and never buffered as a
/// whole, so it can't be copied.
const MOST_OF_ONE: usize = LARGE + 16 * 1024;

/// Timeout of a copy.
pub(super) const LONGEST_COPY: Duration = Duration::from_secs(30);

/// A copy that is handed over to its task.
struct RequestCopy {
    plane: Arc<DataPlane>,
    config: Arc<Config>,
    pool: Arc<PoolSnapshot>,
    rule: Arc<RouteRule>,
    id: RequestId,
    origin: ClientInfo,
    /// Values that the route's guards pass on to the app.
    admission: Option<Box<RouteAdmission>>,
    bytes: Vec<u8>,
    place: MirrorPlace,
}

/// A place among the concurrent copies, given back on drop.
struct MirrorPlace {
    plane: Arc<DataPlane>,
    bytes: usize,
}

impl Drop for MirrorPlace {
    fn drop(&mut self) {
        self.plane.mirrors.leave(self.bytes);
    }
}

impl Transaction<'_> {
    /// Sends a copy of the request to its route's mirror. The request itself doesn't change.
    #[cold]
    #[inline(never)]
    pub(super) fn mirror(&self, rule: &Arc<RouteRule>, mirror: &MirrorConfig) {
        if fastrand::u32(0..1_000_000) >= mirror.millionths || self.is_copy() {
            return;
        }
        let snapshot = self.plane.registry.snapshot();
        let mut pools = snapshot.pools.iter();
        // A reload may just have removed the pool.
        let Some(pool) = pools.find(|pool| *pool.name == *mirror.pool) else {
            return;
        };
        match self.copy(rule, pool) {
            Ok(copy) => {
                tokio::spawn(send_copy(copy));
            }
            Err(why) => pool.shared.counters.mirror.ended(Err(why)),
        }
    }

    fn copy(
        &self,
        rule: &Arc<RouteRule>,
        pool: &Arc<PoolSnapshot>,
    ) -> Result<RequestCopy, MirrorDrop> {
        if self.head.upgrade.is_some() {
            return Err(MirrorDrop::Upgrade);
        }
        let occupied = self.upload.occupied();
        if !self.upload.is_complete() || !self.upload.is_replayable() || occupied > MOST_OF_ONE {
            return Err(MirrorDrop::Body);
        }
        if pool.ready.is_empty() {
            return Err(MirrorDrop::NotReady);
        }
        if !self.plane.mirrors.enter(occupied, MOST_COPIES, MOST_BYTES) {
            return Err(MirrorDrop::TooMany);
        }
        let place = MirrorPlace {
            plane: self.plane.clone(),
            bytes: occupied,
        };
        Ok(RequestCopy {
            plane: self.plane.clone(),
            config: self.config.clone(),
            pool: pool.clone(),
            rule: rule.clone(),
            id: self.id.clone(),
            origin: ClientInfo {
                // The client's protocol doesn't matter, since the response goes to no client.
                protocol: None,
                ..self.client.origin.clone()
            },
            admission: (self.account.admission.as_ref())
                .map(|admission| Box::new(admission.of_copy())),
            bytes: self.copied_bytes(occupied),
            place,
        })
    }

    /// Returns the copy's head and body: the request's, without its session token, which only the pool that answers
    /// may see.
    fn copied_bytes(&self, occupied: usize) -> Vec<u8> {
        let mut bytes = self.client.buffer.bytes()[..occupied].to_vec();
        if let Some(session) = &self.session
            && let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n")
        {
            let body = bytes.split_off(end + 4);
            session.edit_head(&mut bytes);
            bytes.extend_from_slice(&body);
        }
        bytes
    }

    /// Returns whether the request is itself a copy. Copies are not copied again: two proxies that mirror to each
    /// other would never stop.
    fn is_copy(&self) -> bool {
        let buffer = self.client.buffer.bytes();
        let mut fields = self.head.fields.iter();
        fields.any(|field| {
            let name = field.name.of(buffer);
            name.eq_ignore_ascii_case(MARK.as_bytes())
        })
    }

    /// Makes the only attempt, and reads its response to the end.
    async fn send_once(&mut self) -> Result<(), MirrorDrop> {
        self.upload
            .absorb(&self.client.buffer)
            .map_err(|_| MirrorDrop::Body)?;
        let permit = pick::admit(&self.pool, &self.excluded);
        let mut permit = permit.ok_or(MirrorDrop::NotReady)?;
        match self.attempt(&mut permit, AttemptPurpose::Copy).await {
            AttemptEnd::Delivered { .. } | AttemptEnd::Intercepted { .. } => Ok(()),
            AttemptEnd::Upgraded(_) | AttemptEnd::AtRest(_) => Err(MirrorDrop::Failed),
            AttemptEnd::Unsent(FailedAttempt::Final(ForwardFailure::LengthRequired)) => {
                Err(MirrorDrop::Body)
            }
            AttemptEnd::Unsent(_) => Err(MirrorDrop::Connect),
            AttemptEnd::Broken(broken) => {
                if matches!(
                    broken.failure,
                    ForwardFailure::Died { .. } | ForwardFailure::BadResponse(_)
                ) {
                    permit.endpoint().hint();
                }
                Err(MirrorDrop::Failed)
            }
        }
    }
}

/// Adds the header field that marks the request as a copy and names its route.
pub(super) fn mark_copy(head: &mut Vec<u8>, rule: Option<&RouteRule>) {
    // The head's closing empty line is removed first, and appended again.
    head.truncate(head.len().saturating_sub(2));
    let name = rule.and_then(|rule| rule.name.as_deref());
    let line = format!("{MARK}: {}\r\n\r\n", name.unwrap_or("1"));
    head.extend_from_slice(line.as_bytes());
}

async fn send_copy(copy: RequestCopy) {
    let counters = copy.pool.shared.clone();
    let end = try_copy(copy).await;
    counters.counters.mirror.ended(end);
}

async fn try_copy(copy: RequestCopy) -> Result<(), MirrorDrop> {
    let RequestCopy {
        plane,
        config,
        pool,
        rule,
        id,
        origin,
        admission,
        bytes,
        place: _place,
    } = copy;
    let mut client =
        ClientConnection::new(Box::new(DiscardingStream), origin, Arc::default(), &config);
    client.buffer = Buffer::from(bytes);
    client.requests = 1;
    let mut head = RequestHead::new();
    // The request has been parsed before, by the same limits or by those before a reload.
    match head.parse(client.buffer.bytes(), &(&config.server).into()) {
        Ok(HeadProgress::Complete) => {}
        _ => return Err(MirrorDrop::Failed),
    }
    let now = clock::now();
    let mut account = RequestRecord::new(now, now);
    account.rule = Some(rule);
    // The copy gets the same changes as the request.
    account.admission = admission;
    prepare_changes(&config, &client, &head, &mut account, &id).map_err(|_| MirrorDrop::Failed)?;
    let upload = begin_upload(&head, &account, 0).map_err(|_| MirrorDrop::Body)?;
    let route = RoutedToPool {
        config,
        pool,
        upload,
    };
    Transaction::new(&plane, &mut client, &head, &mut account, &id, route)
        .send_once()
        .await
}
