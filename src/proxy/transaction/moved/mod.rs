//! Requests that continue in another process: tunnels and event streams.
//!
//! This file offers requests and hands them over; `account` exports and imports their records; `resume` continues a
//! request that came from another process.

mod account;
mod resume;

use std::os::fd::OwnedFd;

pub use resume::ResumedRequest;

use super::Transaction;
use super::attempt::RestingAttempt;
use crate::proxy::client::AfterRequest;
use crate::proxy::forward::tunnel::Tunnel;
use crate::proxy::moving::state::{
    CarriedBytes, MovedBackend, MovedClient, MovedEvents, MovedKind, MovedTunnel,
};
use crate::proxy::moving::{MovedConnection, StayReason};
use crate::proxy::upstream::moved::export_connection;
use crate::registry::endpoint::{IdleConnection, Permit};

/// The sockets of a client and a backend, and the state of both.
type MovedEnds = (Vec<OwnedFd>, MovedClient, MovedBackend);

impl Transaction<'_> {
    /// Offers the next process a tunnel that is paused while it waits for bytes. Returns true if that process has
    /// taken it.
    pub(super) async fn offer_tunnel(
        &mut self,
        connection: &IdleConnection,
        tunnel: &Tunnel,
        head: &[u8],
    ) -> bool {
        let (descriptors, client, backend) = match self.export_ends(connection) {
            Ok(ends) => ends,
            Err(reason) => return self.stay(reason),
        };
        let (up, down, silent_since_ns) = tunnel.export();
        // Bytes that the client has sent are in the tunnel's own buffer.
        let mut request = self.account.export(self.id, head);
        request.trace_id = self.client.trace_id_text().unwrap_or_default();
        request.status = self.client.origin.switched();
        request.bytes_in += self.upload.total();
        let tunnel = MovedTunnel {
            client,
            request,
            backend,
            up,
            down,
            silent_since_ns,
        };
        self.offer(descriptors, MovedKind::Tunnel(Box::new(tunnel)))
            .await
    }

    /// Offers the next process an event stream that is paused while it waits for bytes. Returns true if that
    /// process has taken it.
    pub(super) async fn offer_events(&mut self, resting: &RestingAttempt) -> bool {
        let (descriptors, client, backend) = match self.export_ends(&resting.connection) {
            Ok(ends) => ends,
            Err(reason) => return self.stay(reason),
        };
        let Some(events) = resting.scratch.resting.as_ref() else {
            return self.stay(StayReason::Stream);
        };
        let (chunks, events, keep_alive) = events.export();
        let head = &self.client.buffer.bytes()[..self.head.len];
        let mut request = self.account.export(self.id, head);
        request.trace_id = self.client.trace_id_text().unwrap_or_default();
        request.bytes_in += self.upload.total();
        let response = &resting.scratch.response;
        let events = MovedEvents {
            client,
            request,
            backend,
            incoming: CarriedBytes(resting.incoming.bytes().to_vec()),
            outgoing: CarriedBytes(resting.scratch.outgoing.clone()),
            chunks,
            events,
            keep_alive,
            is_reusable: response.keep_alive,
            keep_alive_timeout: response.keep_alive_timeout,
        };
        self.offer(descriptors, MovedKind::Events(Box::new(events)))
            .await
    }

    async fn offer(&self, descriptors: Vec<OwnedFd>, kind: MovedKind) -> bool {
        let moved = MovedConnection {
            descriptors,
            state: kind.into(),
        };
        self.plane.moving.offer(&self.client.interrupt, moved).await
    }

    fn export_ends(&self, connection: &IdleConnection) -> Result<MovedEnds, StayReason> {
        let (client_socket, client) = self.client.export()?;
        let (backend_socket, backend) = export_connection(connection)?;
        Ok((vec![client_socket, backend_socket], client, backend))
    }

    /// Records that the request doesn't move in this hand-over.
    fn stay(&self, reason: StayReason) -> bool {
        let interrupt = &self.client.interrupt;
        interrupt.decline(reason.code(), reason.is_lasting());
        false
    }
}

/// Leaves the request to the process that has taken it, which counts it from now on.
pub(super) fn leave_to_another(connection: IdleConnection, permit: Permit) -> AfterRequest {
    // Only the descriptor is closed, and nothing is written to it.
    drop(connection);
    // Last: without it, the backend may count as drained here.
    drop(permit);
    AfterRequest::Moved
}
