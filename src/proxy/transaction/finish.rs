//! What follows an attempt whose response was delivered, or that became a tunnel or an event stream: for the request,
//! the client's connection and the backend's connection.

use super::super::buffer::Buffer;
use super::Transaction;
use super::attempt::{BrokenAttempt, RestingAttempt, UpgradedAttempt};
use super::moved::leave_to_another;
use super::record::RequestEnd;
use crate::proxy::client::AfterRequest;
use crate::proxy::forward::tunnel::{Tunnel, TunnelEnd, run_tunnel};
use crate::proxy::forward::{ForwardEnd, ForwardParams, TransferStats, resume_events};
use crate::proxy::h1::method::UpgradeProtocol;
use crate::registry::endpoint::{CarriedRequest, Endpoint, IdleConnection, Permit, RequestKind};
use crate::rt::clock;

impl Transaction<'_> {
    /// Records what an attempt transferred, and the status of the backend's response.
    pub(super) fn note_stats(&mut self, endpoint: &Endpoint, stats: TransferStats) {
        self.account.tally(stats);
        if stats.status > 0 {
            endpoint.counters.answered(stats.status);
        }
        if stats.status == 503 {
            endpoint.hint();
        }
        if self.session.is_some() && stats.status > 0 {
            self.note_session(stats.ends_session);
        }
    }

    /// Returns what happens to the client's connection after a complete response.
    pub(super) fn after_answer(&self, keep_alive: bool) -> AfterRequest {
        match (keep_alive, self.upload.is_complete()) {
            (true, _) => AfterRequest::KeepAlive,
            (false, true) => AfterRequest::Close,
            (false, false) => AfterRequest::Linger,
        }
    }

    /// Carries the bytes of an upgraded connection in both directions until one side ends.
    pub(super) async fn carry_tunnel(
        &mut self,
        permit: Permit,
        upgraded: UpgradedAttempt,
    ) -> AfterRequest {
        let UpgradedAttempt {
            connection,
            incoming,
            upgrade,
        } = upgraded;
        let websocket = upgrade == Some(UpgradeProtocol::WebSocket);
        // The log line still needs the head after the tunnel has reused the buffer.
        let head = self.client.buffer.bytes()[..self.head.len].to_vec();
        self.client.buffer.consume(self.upload.occupied());
        let timeout = self.pool.config.upstream.tunnel_timeout;
        let outgoing = std::mem::take(&mut self.client.buffer);
        let tunnel = Tunnel::new(outgoing, incoming, websocket, timeout);
        self.follow_tunnel(permit, connection, tunnel, head).await
    }

    /// Continues a tunnel from any point of its life, see [`Self::carry_tunnel`]. `head` is the request's head.
    pub(super) async fn follow_tunnel(
        &mut self,
        permit: Permit,
        mut connection: Box<IdleConnection>,
        mut tunnel: Tunnel,
        head: Vec<u8>,
    ) -> AfterRequest {
        let counted = connection.ticket.lasting(RequestKind::Upgrade);
        let end = loop {
            let carried = CarriedRequest {
                kind: Some(RequestKind::Upgrade),
                since: self.account.began,
                method: self.head.method.as_str(),
                route: (self.account.rule.as_ref()).and_then(|rule| rule.name.as_deref()),
                path: self.head.path.of(&head),
            };
            match run_tunnel(self.client, &mut connection, &mut tunnel, carried).await {
                Some(end) => break end,
                None if self.offer_tunnel(&connection, &tunnel, &head).await => {
                    drop(counted);
                    return leave_to_another(*connection, permit);
                }
                None => {}
            }
        };
        drop(counted);
        self.client.buffer = Buffer::from(head);
        self.account
            .tunnelled(self.client.origin.switched(), tunnel.finish());
        self.account.end = RequestEnd::Tunnel(end);
        if matches!(end, TunnelEnd::Cut | TunnelEnd::Broken) {
            self.account.note_broken(&permit);
        }
        match end {
            TunnelEnd::Cut | TunnelEnd::Broken => AfterRequest::Abort,
            TunnelEnd::Peers | TunnelEnd::Orderly | TunnelEnd::Idle => AfterRequest::Close,
        }
    }

    /// Offers a paused event stream to another process, or continues it here.
    pub(super) async fn carry_events(
        &mut self,
        permit: Permit,
        resting: RestingAttempt,
    ) -> AfterRequest {
        match self.offer_events(&resting).await {
            true => leave_to_another(*resting.connection, permit),
            false => self.follow_events(permit, resting).await,
        }
    }

    /// Continues a paused event stream, in this process or a newer one, until it ends.
    pub(super) async fn follow_events(
        &mut self,
        permit: Permit,
        mut resting: RestingAttempt,
    ) -> AfterRequest {
        loop {
            let began = clock::now();
            let RestingAttempt {
                mut connection,
                incoming,
                mut scratch,
            } = resting;
            let params = ForwardParams {
                request: self.head,
                began,
                since: self.account.began,
                rule: self.account.rule.as_deref(),
                read_timeout: self.pool.config.upstream.read_timeout,
                ends: None,
                server: &self.config.server,
                changes: None,
                compression: None,
                intercept: None,
                watch: self.watch_attempt(&permit, began),
                session: None,
            };
            let (end, mut stats, incoming) = resume_events(
                params,
                self.plane,
                self.client,
                &mut self.upload,
                &mut connection,
                &mut scratch,
                incoming,
            )
            .await;
            stats.answered = Some(self.account.answered());
            self.account.tally(stats);
            match end {
                Ok(ForwardEnd::AtRest) => {
                    resting = RestingAttempt {
                        connection,
                        incoming,
                        scratch,
                    };
                    if self.offer_events(&resting).await {
                        return leave_to_another(*resting.connection, permit);
                    }
                }
                Ok(ForwardEnd::Complete {
                    reusable,
                    keep_alive,
                }) => {
                    let promised = scratch.response.keep_alive_timeout;
                    scratch.give_back();
                    incoming.give_back();
                    if reusable {
                        self.keep_connection(permit.endpoint(), connection, promised, 0);
                    }
                    return self.after_answer(keep_alive);
                }
                // A response that has begun can't end in either of these ways.
                Ok(ForwardEnd::Upgraded | ForwardEnd::Intercepted { .. }) => {
                    return AfterRequest::Abort;
                }
                Err(failure) => {
                    scratch.give_back();
                    incoming.give_back();
                    let broken = BrokenAttempt {
                        failure,
                        connection,
                        stats,
                        began,
                    };
                    let failed = self.note_failure(&permit, broken).await;
                    self.account.note_broken(&permit);
                    let judged = self.judge_failure(failed).await;
                    return judged.unwrap_or(AfterRequest::Abort);
                }
            }
        }
    }
}
