//! Connections to a backend: each is counted, and can be interrupted from outside.

use std::sync::Arc;

use pingora::protocols::Stream;

use super::Endpoint;
use super::in_flight::{RequestKind, StreamGuard};
use crate::core::Time;
use crate::rt::shutdown_signal::ConnectionInterrupt;

/// An open connection to a backend; counted until dropped.
#[derive(Debug)]
pub struct ConnectionTicket {
    pub(super) interrupt: Arc<ConnectionInterrupt>,
    pub(super) endpoint: Arc<Endpoint>,
}

impl ConnectionTicket {
    /// Returns the interrupt through which the user of the connection is reached.
    pub fn interrupt(&self) -> &Arc<ConnectionInterrupt> {
        &self.interrupt
    }

    /// Returns the backend.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Counts the request on this connection as a stream or an upgrade, until the guard is dropped.
    pub fn lasting(&self, kind: RequestKind) -> StreamGuard {
        StreamGuard::new(self.endpoint.clone(), kind)
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

/// An upstream connection, with everything needed to decide on its reuse.
#[derive(Debug)]
pub struct IdleConnection {
    /// The stream. Declared before the ticket, so that the descriptor is closed first.
    pub stream: Stream,
    /// Epoch in which the connection was opened.
    pub epoch: u64,
    /// Number of the transport with which it was opened.
    pub transport: u32,
    /// Time after which the idle connection must not be reused.
    pub expires: Time,
    /// Time after which the idle connection may carry only requests that can be sent twice: the backend may be about
    /// to close it.
    pub safe_until: Time,
    /// Number of requests that it has carried.
    pub requests: u32,
    /// Bytes written to the network so far, for these requests and before them.
    pub sent: u64,
    /// Whether the backend's process is known to have accepted the connection, so that it is not in the listen queue.
    pub accepted: bool,
    /// Counts the connection among the backend's open connections.
    pub ticket: ConnectionTicket,
}
