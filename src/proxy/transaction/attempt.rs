//! One attempt on one backend: a connection, an exchange on it, and what becomes of both.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use super::super::buffer::Buffer;
use super::record::RequestEnd;
use super::{Attempt, Transaction};
use crate::config::ProxyProtocol;
use crate::core::{Time, retry};
use crate::net::socket::local_address;
use crate::proxy::client::AfterRequest;
use crate::proxy::forward::headers::{RequestEdit, write_request};
use crate::proxy::forward::scratch::AttemptScratch;
use crate::proxy::forward::tunnel::{self, TunnelEnd};
use crate::proxy::forward::{self, Exchange, ForwardEnd, ForwardFailure, Truncation};
use crate::proxy::h1::method::Upgrade;
use crate::proxy::h1::request::RequestBody;
use crate::proxy::upstream::connect::{ConnectError, open_connection, wait_for_acceptance};
use crate::proxy::upstream::delivery::undelivered;
use crate::proxy::upstream::h2_session;
use crate::proxy::upstream::pick::admit_unsuspected;
use crate::proxy::upstream::reuse::take_kept;
use crate::proxy::upstream::{self, ProxiedAddrs};
use crate::registry::endpoint::{Endpoint, IdleConnection, Permit, RequestKind};
use crate::rt::clock;

/// Taken off what the app's `Keep-Alive: timeout=` promises: the request has to arrive before it ends.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// An app that doesn't say how long it keeps a connection may close it at any moment: a request that must not be sent
/// twice takes one that was idle for less, or a new one. Apps that keep them for one second exist, for less hardly.
const UNANNOUNCED: Duration = Duration::from_millis(750);

impl Transaction<'_> {
    /// A kept connection of the backend that was entered, if there is one. Where none is left because the backend has
    /// closed them, it may be stopping, and a new one would end in a listener's queue that nobody serves any more:
    /// then another backend is better, if there is one.
    pub(super) fn connection_of(
        &self,
        mut permit: Permit,
        now: Time,
    ) -> (Permit, Option<Box<IdleConnection>>) {
        if self.fresh {
            return (permit, None);
        }
        for _ in 0..self.pool.ready.len() {
            let once = || !self.may_be_repeated();
            let reused = match self.is_for_session() {
                true => h2_session::reuse(&permit),
                false => take_kept(permit.endpoint(), now, once),
            };
            if reused.is_some() || !permit.endpoint().suspicion.is_raised() {
                return (permit, reused);
            }
            match admit_unsuspected(&self.pool, &self.excluded) {
                Some(other) => permit = other,
                None => break,
            }
        }
        (permit, None)
    }

    /// Whether it goes over HTTP/2. There are no upgrades in it (RFC 9113 §8.6).
    fn is_for_session(&self) -> bool {
        self.pool.config.upstream.http2 && self.head.upgrade.is_none()
    }

    /// One attempt on the backend that was entered; on a new connection, unless there is one to be reused.
    pub(super) async fn on_backend(
        &mut self,
        permit: Permit,
        reused: Option<Box<IdleConnection>>,
        began: Time,
    ) -> Attempt {
        let outcome = self.exchange(&permit, reused, began).await;
        // The connection is pooled or closed by now; only then may the backend be called idle.
        drop(permit);
        outcome
    }

    async fn exchange(
        &mut self,
        permit: &Permit,
        reused: Option<Box<IdleConnection>>,
        began: Time,
    ) -> Attempt {
        let endpoint = permit.endpoint();
        if self.head.body == RequestBody::Chunked && endpoint.is_http10.load(Ordering::Relaxed) {
            // RFC 9112, section 6.1: a server that isn't known to take chunks must not be sent any.
            self.note(ForwardFailure::LengthRequired, endpoint);
            return Attempt::Failed(ForwardFailure::LengthRequired);
        }
        let mut connection = match reused {
            Some(connection) => connection,
            // Boxed: most requests find a connection, and each would have to keep room for the making of one (9 KiB).
            None => match Box::pin(self.connect(permit)).await {
                Ok(_) if self.client.has_reset(&mut self.upload).await => {
                    return Attempt::Over(self.client_gone());
                }
                Ok(connection) => connection,
                Err(ConnectError::Unwanted) => return Attempt::Over(self.client_gone()),
                Err(error) => {
                    // A drain is known already, and slow is not dead.
                    let fault = error.fault();
                    self.pool.shared.counters.connect_failed(fault);
                    if fault.is_own_shortage() {
                        upstream::note_shortage(&error, endpoint);
                    } else if !matches!(error, ConnectError::Moved | ConnectError::Ignored) {
                        endpoint.suspicion.raise();
                        endpoint.hint();
                        endpoint.address_doubts.notify_one();
                    }
                    tracing::debug!(pool = %endpoint.pool, backend = %endpoint.name, %error, "connect failed");
                    return Attempt::NotConnected(fault);
                }
            },
        };
        let mut scratch = AttemptScratch::take();
        self.write_head(endpoint, &mut scratch.head);
        endpoint.counters.sent();
        connection.requests += 1;
        let order = forward::ForwardParams {
            request: self.head,
            head: &scratch.head,
            began,
            read_timeout: forward::patience(
                self.head,
                self.client.buffer.bytes(),
                self.pool.config.upstream.read_timeout,
            ),
            server: &self.config.server,
            ends: self.ends(),
        };
        let (end, tally, incoming) = Exchange::new(
            order,
            self.plane,
            self.client,
            &mut self.upload,
            &mut connection,
            &mut scratch.response,
            &mut scratch.outgoing,
        )
        .forward_once()
        .await;
        self.account.tally(tally);
        self.has_passed = tally.bytes_out > 0;
        self.undelivered = match end {
            Err(ForwardFailure::Died { reset }) => {
                undelivered(&connection, tally.bytes_up, reset).await
            }
            _ => None,
        };
        if self.undelivered.is_some() {
            upstream::note_refusal(&connection, endpoint);
        }
        upstream::note_written(&mut connection, tally.bytes_up);
        if tally.status > 0 {
            endpoint.counters.answered(tally.status);
        }
        if tally.status == 503 {
            endpoint.hint();
        }
        let outcome = match end {
            Ok(ForwardEnd::Complete {
                reusable,
                keep_alive,
            }) => {
                incoming.give_back();
                if reusable {
                    let promised = scratch.response.keep_alive_timeout;
                    self.keep(endpoint, connection, promised);
                }
                Attempt::Over(match (keep_alive, self.upload.is_complete()) {
                    (true, _) => AfterRequest::KeepAlive,
                    (false, true) => AfterRequest::Close,
                    (false, false) => AfterRequest::Linger,
                })
            }
            Ok(ForwardEnd::Upgraded) => {
                let websocket = scratch.response.upgrade == Some(Upgrade::WebSocket);
                // The log still wants to read the head when the tunnel has used the buffer.
                let head = self.client.buffer.bytes()[..self.head.len].to_vec();
                self.client.buffer.consume(self.upload.occupied());
                let _counted = connection.ticket.lasting(RequestKind::Upgrade);
                let timeout = self.pool.config.upstream.tunnel_timeout;
                let (end, passed) =
                    tunnel::run_tunnel(self.client, &mut connection, incoming, websocket, timeout)
                        .await;
                self.client.buffer = Buffer::from(head);
                self.account
                    .tunnelled(self.client.origin.switched(), passed);
                self.account.end = RequestEnd::Tunnel(end);
                Attempt::Over(match end {
                    TunnelEnd::Cut | TunnelEnd::Broken => AfterRequest::Abort,
                    TunnelEnd::Peers | TunnelEnd::Orderly | TunnelEnd::Idle => AfterRequest::Close,
                })
            }
            Err(failure) => {
                incoming.give_back();
                self.note(failure, endpoint);
                if failure.is_clean() {
                    Attempt::Failed(failure)
                } else {
                    Attempt::Over(AfterRequest::Abort)
                }
            }
        };
        scratch.give_back();
        outcome
    }

    /// Keeps a connection for the next request, for as long as the app said it would.
    fn keep(
        &self,
        endpoint: &Endpoint,
        mut connection: Box<IdleConnection>,
        promised: Option<u32>,
    ) {
        let settings = &self.pool.config.upstream;
        if settings.proxy_protocol != ProxyProtocol::Off {
            // It is this client's. To the backend, every request on it would be.
            return;
        }
        let mut idle = settings.idle_timeout;
        if let Some(seconds) = promised {
            idle =
                idle.min(Duration::from_secs(u64::from(seconds)).saturating_sub(KEEP_ALIVE_MARGIN));
        }
        let since = self.account.answered();
        connection.expires = since.saturating_add(idle);
        let safe = if promised.is_some() {
            idle
        } else {
            UNANNOUNCED
        };
        connection.safe_until = since.saturating_add(safe);
        endpoint.release(connection);
    }

    /// A new connection: one that the backend has accepted, as far as that can be known, for a request that must not be
    /// sent twice, and for one that has met a death already. What nobody has accepted uses up none of its attempts. A
    /// client that goes meanwhile holds no place on the backend.
    async fn connect(&mut self, permit: &Permit) -> Result<Box<IdleConnection>, ConnectError> {
        let is_for_session = self.is_for_session();
        let is_delicate = self.tried.unproven > 0 || !self.may_be_repeated();
        let others = is_delicate && self.excluded.leaves_any_but(&self.pool, permit.endpoint());
        let settings = &self.pool.config.upstream;
        let plane = self.plane;
        let wanted = settings.proxy_protocol != ProxyProtocol::Off;
        let behalf = ProxiedAddrs {
            client: self
                .client
                .origin
                .known
                .then_some(self.client.origin.address),
            local: wanted.then(|| local_address(&self.client.stream)).flatten(),
        };
        let mut connecting = pin!(async move {
            if is_for_session {
                return h2_session::connect(plane, permit, settings).await;
            }
            let mut connection = open_connection(plane, permit, settings, behalf).await?;
            if is_delicate {
                let patience = settings.connect_timeout;
                wait_for_acceptance(&mut connection, permit, patience, others).await?;
            }
            Ok(connection)
        });
        let (client, upload) = (&mut *self.client, &mut self.upload);
        poll_fn(|cx| match connecting.as_mut().poll(cx) {
            Poll::Pending if client.poll_gone_unread(cx, upload) => {
                Poll::Ready(Err(ConnectError::Unwanted))
            }
            other => other,
        })
        .await
    }

    fn write_head(&self, endpoint: &Endpoint, out: &mut Vec<u8>) {
        out.clear();
        let preserve = self.pool.config.upstream.preserve_host;
        let edit = RequestEdit {
            policy: &self.config.headers,
            client_ip: &self.client.origin.ip,
            trusted: self.client.origin.trusted,
            scheme: self.client.origin.scheme,
            identity: self.client.origin.identity.as_deref().unwrap_or_default(),
            request_id: self.id.as_str(),
            host_override: (!preserve).then_some(&*endpoint.authority),
            fallback_host: &endpoint.authority,
        };
        write_request(out, self.client.buffer.bytes(), self.head, &edit);
    }

    /// Takes note of a failed attempt: for the log, for people, and as a hint for the prober.
    fn note(&mut self, failure: ForwardFailure, endpoint: &Endpoint) {
        self.account.end = match failure {
            ForwardFailure::Died { .. } => RequestEnd::UpstreamDied,
            ForwardFailure::Timeout => RequestEnd::Timeout,
            ForwardFailure::Cut | ForwardFailure::ShutDown => RequestEnd::Cut,
            ForwardFailure::BadResponse(_) => RequestEnd::BadResponse,
            ForwardFailure::BadBody(_)
            | ForwardFailure::Untranslatable
            | ForwardFailure::LengthRequired => RequestEnd::BadRequest,
            ForwardFailure::Limited { limit, .. } => RequestEnd::Limited(limit),
            ForwardFailure::ClientGone => RequestEnd::ClientClosed,
            ForwardFailure::Truncated(Truncation::CutByDrain) => RequestEnd::Cut,
            ForwardFailure::Truncated(_) => RequestEnd::Truncated,
        };
        match failure {
            // It has said so itself: nothing has broken.
            ForwardFailure::Died { .. }
                if matches!(
                    self.undelivered,
                    Some(retry::AttemptFailure::RefusedStream | retry::AttemptFailure::GoAway)
                ) =>
            {
                endpoint.hint();
            }
            ForwardFailure::Died { .. } => endpoint.request_lost(),
            ForwardFailure::BadResponse(_) => endpoint.hint(),
            // It was never asked.
            ForwardFailure::Untranslatable | ForwardFailure::LengthRequired => {
                self.account.backend = None
            }
            // Where an answer can be given, it is counted with that.
            ForwardFailure::Limited {
                limit,
                answer: None,
            } => {
                self.plane.counters.limited(limit);
                self.account.cause = "cut at a limit of [server]".into();
            }
            ForwardFailure::Truncated(cause) => {
                self.account.cause = cause.as_str().into();
                if cause == Truncation::UpstreamClosed {
                    endpoint.request_lost();
                }
            }
            _ => {}
        }
        if matches!(
            failure,
            ForwardFailure::Cut | ForwardFailure::Truncated(Truncation::CutByDrain)
        ) {
            let buffer = self.client.buffer.bytes();
            tracing::warn!(
                pool = %endpoint.pool,
                backend = %endpoint.name,
                method = self.head.method.as_str(),
                path = %String::from_utf8_lossy(self.head.path.of(buffer)),
                age_ms = clock::now().saturating_sub(self.account.began).as_millis() as u64,
                "a request was cut at the drain's deadline"
            );
        }
    }
}
