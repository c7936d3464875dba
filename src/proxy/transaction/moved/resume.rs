//! Continues a request that another process has begun.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::super::attempt::RestingAttempt;
use super::super::record::RequestRecord;
use super::super::request_id::RequestId;
use super::super::route::RoutedToPool;
use super::super::route::find_pool;
use super::super::{Transaction, guards};
use crate::config::Config;
use crate::proxy::buffer::Buffer;
use crate::proxy::client::upload::RequestUpload;
use crate::proxy::client::{AfterRequest, ClientConnection};
use crate::proxy::data_plane::DataPlane;
use crate::proxy::forward::events::RestingEvents;
use crate::proxy::forward::scratch::AttemptScratch;
use crate::proxy::forward::tunnel::Tunnel;
use crate::proxy::h1::chunked::ChunkPosition;
use crate::proxy::h1::request::{HeadLimits, HeadProgress, RequestHead};
use crate::proxy::h1::response::ResponseBody;
use crate::proxy::messages::sse::EventTracker;
use crate::proxy::messages::websocket::FrameTracker;
use crate::proxy::moving::AdoptError;
use crate::proxy::moving::state::{
    CarriedBytes, MovedBackend, MovedClient, MovedDirection, MovedEvents, MovedRequest, MovedTunnel,
};
use crate::proxy::upstream::moved::{AdoptedSocket, find_backend, import_connection};
use crate::registry::endpoint::Permit;
use crate::registry::snapshot::PoolSnapshot;

/// A request taken over from another process. It is not continued before that process has released it, but counts as
/// in flight from the start, so that a drain waits for it.
pub struct ResumedRequest {
    socket: AdoptedSocket,
    permit: Permit,
    pool: Arc<PoolSnapshot>,
    backend: MovedBackend,
    request: MovedRequest,
    head: RequestHead,
    rest: RestOfRequest,
}

enum RestOfRequest {
    Tunnel {
        up: MovedDirection,
        down: MovedDirection,
        silent_since_ns: Option<u64>,
    },
    Events {
        incoming: CarriedBytes,
        outgoing: CarriedBytes,
        chunks: Option<ChunkPosition>,
        events: EventTracker,
        keep_alive: bool,
        is_reusable: bool,
        keep_alive_timeout: Option<u32>,
    },
}

impl ResumedRequest {
    /// Imports a tunnel and its client.
    ///
    /// # Errors
    /// Why the tunnel can't be continued here.
    pub fn tunnel(
        plane: &DataPlane,
        socket: OwnedFd,
        tunnel: MovedTunnel,
    ) -> Result<(Self, MovedClient), AdoptError> {
        let MovedTunnel {
            client,
            request,
            backend,
            up,
            down,
            silent_since_ns,
        } = tunnel;
        let is_sound =
            |frames: &Option<FrameTracker>| frames.as_ref().is_none_or(FrameTracker::is_sound);
        let is_one_websocket = up.frames.is_some() == down.frames.is_some();
        if !is_sound(&up.frames) || !is_sound(&down.frames) || !is_one_websocket {
            return Err(AdoptError::Malformed("its frames stand nowhere"));
        }
        let rest = RestOfRequest::Tunnel {
            up,
            down,
            silent_since_ns,
        };
        let resumed = Self::new(plane, socket, request, backend, rest)?;
        Ok((resumed, client))
    }

    /// Imports an event stream and its client.
    ///
    /// # Errors
    /// Why the stream can't be continued here.
    pub fn events(
        plane: &DataPlane,
        socket: OwnedFd,
        events: MovedEvents,
    ) -> Result<(Self, MovedClient), AdoptError> {
        let MovedEvents {
            client,
            request,
            backend,
            incoming,
            outgoing,
            chunks,
            events,
            keep_alive,
            is_reusable,
            keep_alive_timeout,
        } = events;
        if !client.buffer.0.starts_with(&request.head.0) {
            return Err(AdoptError::Malformed("its request is not in its buffer"));
        }
        let rest = RestOfRequest::Events {
            incoming,
            outgoing,
            chunks,
            events,
            keep_alive,
            is_reusable,
            keep_alive_timeout,
        };
        let resumed = Self::new(plane, socket, request, backend, rest)?;
        Ok((resumed, client))
    }

    fn new(
        plane: &DataPlane,
        socket: OwnedFd,
        request: MovedRequest,
        backend: MovedBackend,
        rest: RestOfRequest,
    ) -> Result<Self, AdoptError> {
        let mut head = RequestHead::new();
        let bytes = &request.head.0;
        // The request was accepted by the limits that applied when it arrived.
        let limits = HeadLimits {
            max_header: bytes.len(),
            max_uri: bytes.len(),
        };
        match head.parse(bytes, &limits) {
            Ok(HeadProgress::Complete) if head.len == bytes.len() => {}
            _ => return Err(AdoptError::Malformed("its request's head is none")),
        }
        let (pool, endpoint) = find_backend(plane, &backend)?;
        let permit = endpoint.permit_moved(pool.config.upstream.max_in_flight);
        let socket = AdoptedSocket::new(&endpoint, socket);
        Ok(Self {
            socket,
            permit,
            pool,
            backend,
            request,
            head,
            rest,
        })
    }

    /// Continues the request to its end, and returns what happens to the client's connection. `head` is replaced by
    /// the head of this request. Must be called on a data thread.
    pub async fn resume(
        self,
        plane: &Arc<DataPlane>,
        client: &mut ClientConnection,
        head: &mut RequestHead,
        config: &Arc<Config>,
    ) -> AfterRequest {
        let Self {
            socket,
            permit,
            pool,
            backend,
            request,
            head: parsed,
            rest,
        } = self;
        *head = parsed;
        let head = &*head;
        let connection = match import_connection(socket, &backend) {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "the backend's end of a moved connection can't be watched");
                return AfterRequest::Abort;
            }
        };
        let head_bytes = request.head.0.clone();
        if let RestOfRequest::Tunnel { .. } = rest {
            // The buffer holds the request head for code that reads it later.
            client.buffer = Buffer::of_carried(&head_bytes);
        }
        let id = RequestId::given(request.id.as_bytes());
        client.follow_trace(&request.trace_id);
        let mut account = RequestRecord::import(&request);
        account.backend = Some(permit.endpoint().clone());
        let rule = find_pool(plane, client, head).rule;
        account.rule = rule.filter(|rule| rule.name.as_deref() == request.route.as_deref());
        guards::readmit(plane, client, head, &mut account);
        let route = RoutedToPool {
            config: config.clone(),
            pool: pool.clone(),
            upload: RequestUpload::sent(head.len),
        };
        let mut transaction = Transaction::new(plane, client, head, &mut account, &id, route);
        let next = match rest {
            RestOfRequest::Tunnel {
                up,
                down,
                silent_since_ns,
            } => {
                transaction.client.buffer.clear();
                let timeout = transaction.pool.config.upstream.tunnel_timeout;
                let tunnel = Tunnel::import(up, down, silent_since_ns, timeout);
                let follow = transaction.follow_tunnel(permit, connection, tunnel, head_bytes);
                follow.await
            }
            RestOfRequest::Events {
                incoming,
                outgoing,
                chunks,
                events,
                keep_alive,
                is_reusable,
                keep_alive_timeout,
            } => {
                let mut scratch = AttemptScratch::take();
                scratch.head.clear();
                let response = &mut scratch.response;
                response.status = request.status;
                response.is_event_stream = true;
                response.upgrade = None;
                response.keep_alive = is_reusable;
                response.keep_alive_timeout = keep_alive_timeout;
                response.body = match chunks {
                    Some(_) => ResponseBody::Chunked,
                    None => ResponseBody::UntilClose,
                };
                scratch.outgoing = outgoing.0;
                let resting = RestingEvents::import(chunks, events, keep_alive);
                scratch.resting = Some(Box::new(resting));
                let resting = RestingAttempt {
                    connection,
                    incoming: Buffer::of_carried(&incoming.0),
                    scratch,
                };
                transaction.follow_events(permit, resting).await
            }
        };
        let occupied = transaction.upload.occupied();
        if next == AfterRequest::Moved {
            return next;
        }
        account.occupied = occupied;
        account.close(plane, client, head, &id, Some(&pool));
        client.followed = None;
        if next == AfterRequest::KeepAlive {
            client.buffer.consume(occupied);
        }
        next
    }
}
