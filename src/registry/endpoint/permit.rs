//! Permits: each stands for one request in flight.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::Endpoint;
use super::gate::{GateLeave, SessionEntry};

impl Endpoint {
    /// Enters the gate: counts as one request in flight until the permit is dropped.
    pub fn permit(self: &Arc<Self>, max_in_flight: u32) -> Option<Permit> {
        // Read first: a drain that begins afterwards is noticed by its new epoch.
        let epoch = self.epoch();
        self.gate.try_enter_below(max_in_flight).then(|| Permit {
            endpoint: self.clone(),
            epoch,
            limited: max_in_flight > 0,
        })
    }

    /// As [`Endpoint::permit`], for a client with a session on this backend: also enters if the gate is closed only
    /// to new clients.
    pub fn permit_for_session(self: &Arc<Self>, max_in_flight: u32) -> SessionPermit {
        let epoch = self.epoch();
        match self.gate.try_enter_with_session(max_in_flight) {
            SessionEntry::Entered => SessionPermit::Entered(Permit {
                endpoint: self.clone(),
                epoch,
                limited: max_in_flight > 0,
            }),
            SessionEntry::Full => SessionPermit::Full,
            SessionEntry::Closed => SessionPermit::Closed,
        }
    }

    /// Counts a request in although the gate is closed, for `fail_open` only. `None`: the backend may not be used
    /// even as a last resort, because an actor other than the app has closed it meanwhile.
    pub fn permit_anyway(self: &Arc<Self>) -> Option<Permit> {
        self.gate.enter_anyway();
        let permit = Permit {
            endpoint: self.clone(),
            epoch: self.epoch(),
            limited: false,
        };
        // Counted first, checked afterwards; `set_last_resort` does it in the opposite order.
        fence(Ordering::SeqCst);
        self.last_resort.load(Ordering::Acquire).then_some(permit)
    }

    /// Counts a request in that another process has begun, whatever the state of the backend: a drain waits for it
    /// here as it did in that process.
    pub fn permit_moved(self: &Arc<Self>, max_in_flight: u32) -> Permit {
        let epoch = self.epoch();
        self.gate.enter_anyway();
        Permit {
            endpoint: self.clone(),
            epoch,
            limited: max_in_flight > 0,
        }
    }
}

/// One request in flight; released on drop.
#[derive(Debug)]
pub struct Permit {
    endpoint: Arc<Endpoint>,
    epoch: u64,
    limited: bool,
}

/// Result of asking for a permit for a request with a session on the backend.
#[derive(Debug)]
pub enum SessionPermit {
    /// The request may be sent.
    Entered(Permit),
    /// The backend has `max_in_flight` requests in flight.
    Full,
    /// The backend takes no requests.
    Closed,
}

impl Permit {
    /// Returns the backend.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Returns the epoch in which the gate was entered. Once the endpoint has another epoch, this request has to use
    /// another backend.
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
