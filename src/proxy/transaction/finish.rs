//! What becomes of a request whose answer has arrived, and of the two connections.

use super::super::buffer::Buffer;
use super::Transaction;
use super::attempt::UpgradedAttempt;
use super::record::RequestEnd;
use crate::proxy::client::AfterRequest;
use crate::proxy::forward::TransferStats;
use crate::proxy::forward::tunnel::{TunnelEnd, run_tunnel};
use crate::proxy::h1::method::Upgrade;
use crate::registry::endpoint::{Endpoint, RequestKind};

impl Transaction<'_> {
    /// Takes note of what an attempt has moved, and of the status that the backend has answered with.
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

    /// What becomes of the client's connection after a whole answer.
    pub(super) fn after_answer(&self, keep_alive: bool) -> AfterRequest {
        match (keep_alive, self.upload.is_complete()) {
            (true, _) => AfterRequest::KeepAlive,
            (false, true) => AfterRequest::Close,
            (false, false) => AfterRequest::Linger,
        }
    }

    /// Both sides speak another protocol now: carries their bytes until one of them ends.
    pub(super) async fn carry_tunnel(&mut self, upgraded: UpgradedAttempt) -> AfterRequest {
        let UpgradedAttempt {
            mut connection,
            incoming,
            upgrade,
        } = upgraded;
        let websocket = upgrade == Some(Upgrade::WebSocket);
        // The log still wants to read the head when the tunnel has used the buffer.
        let head = self.client.buffer.bytes()[..self.head.len].to_vec();
        self.client.buffer.consume(self.upload.occupied());
        let _counted = connection.ticket.lasting(RequestKind::Upgrade);
        let timeout = self.pool.config.upstream.tunnel_timeout;
        let (end, passed) =
            run_tunnel(self.client, &mut connection, incoming, websocket, timeout).await;
        self.client.buffer = Buffer::from(head);
        self.account
            .tunnelled(self.client.origin.switched(), passed);
        self.account.end = RequestEnd::Tunnel(end);
        match end {
            TunnelEnd::Cut | TunnelEnd::Broken => AfterRequest::Abort,
            TunnelEnd::Peers | TunnelEnd::Orderly | TunnelEnd::Idle => AfterRequest::Close,
        }
    }
}
