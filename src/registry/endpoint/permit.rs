//! Leave to send one request to a backend.

use std::sync::Arc;

use super::Endpoint;
use super::gate::GateLeave;

/// One request in flight; given back on drop.
#[derive(Debug)]
pub struct Permit {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) epoch: u64,
    pub(super) limited: bool,
}

impl Permit {
    /// Whose.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The epoch in which the gate was entered. Once the endpoint has another, this request goes elsewhere.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let endpoint = &self.endpoint;
        if endpoint.gate.leave() == GateLeave::LastOut {
            endpoint.tell_if_quiet();
        } else if !endpoint.gate.is_closed() {
            endpoint.queue.on_room(self.limited);
        }
    }
}
