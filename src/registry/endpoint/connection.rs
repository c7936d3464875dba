//! Our connections to a backend: each is counted, and can be reached from outside.

use std::sync::Arc;

use pingora::protocols::Stream;

use super::Endpoint;
use super::in_flight::{RequestKind, StreamGuard};
use crate::core::Time;
use crate::rt::shutdown_signal::ConnectionInterrupt;

/// One open connection of ours; counted out on drop.
#[derive(Debug)]
pub struct ConnectionTicket {
    pub(super) interrupt: Arc<ConnectionInterrupt>,
    pub(super) endpoint: Arc<Endpoint>,
}

impl ConnectionTicket {
    /// Through which the user of the connection is interrupted.
    pub fn interrupt(&self) -> &Arc<ConnectionInterrupt> {
        &self.interrupt
    }

    /// The backend.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The request on this connection has become something that lasts.
    pub fn lasting(&self, kind: RequestKind) -> StreamGuard {
        StreamGuard::new(self.endpoint.clone(), kind)
    }
}

impl IdleConnection {
    /// Another process has taken the connection: our descriptor is closed without writing to it. The returned ticket
    /// counts the connection for as long as it is held.
    pub fn hand_over(self) -> ConnectionTicket {
        drop(self.stream);
        self.ticket
    }
}

impl Drop for ConnectionTicket {
    fn drop(&mut self) {
        self.endpoint.connections.leave(&self.interrupt);
        if self.endpoint.gate.is_closed() {
            self.endpoint.tell_if_quiet();
        }
    }
}

/// An upstream connection with what is needed to judge its reuse.
#[derive(Debug)]
pub struct IdleConnection {
    /// The stream. Declared before the ticket: the descriptor closes first.
    pub stream: Stream,
    /// The epoch it was opened in.
    pub epoch: u64,
    /// The number of the transport that it was opened with.
    pub transport: u32,
    /// Idle after this it must not be reused.
    pub expires: Time,
    /// Idle after this it may carry only what can be sent twice: the backend may be about to close it.
    pub safe_until: Time,
    /// Requests it has carried.
    pub requests: u32,
    /// Bytes that were written to the network for these and before them, as far as they were written.
    pub sent: u64,
    /// It is known that the backend's process has accepted it, and that it isn't in the listener's queue.
    pub accepted: bool,
    /// Counts it among the backend's open connections.
    pub ticket: ConnectionTicket,
}
