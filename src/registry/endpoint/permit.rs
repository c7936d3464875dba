//! Permits: one request in flight each, from the gate and back to it.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::Endpoint;
use super::gate::{GateLeave, SessionEntry};

impl Endpoint {
    /// Enters the gate: one request in flight until the permit is dropped.
    pub fn permit(self: &Arc<Self>, max_in_flight: u32) -> Option<Permit> {
        // Read first: a drain that begins after it is noticed by its new epoch.
        let epoch = self.epoch();
        self.gate.try_enter_below(max_in_flight).then(|| Permit {
            endpoint: self.clone(),
            epoch,
            limited: max_in_flight > 0,
        })
    }

    /// As [`Endpoint::permit`], for a client with a session here: also where the gate is closed only to new clients.
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
    /// even as a last resort, because another actor than the app has closed it meanwhile.
    pub fn permit_anyway(self: &Arc<Self>) -> Option<Permit> {
        self.gate.enter_anyway();
        let permit = Permit {
            endpoint: self.clone(),
            epoch: self.epoch(),
            limited: false,
        };
        // Counted first, looked afterwards; `set_last_resort` does it the other way round.
        fence(Ordering::SeqCst);
        self.last_resort.load(Ordering::Acquire).then_some(permit)
    }

    /// Counts a request in that another process has begun, whatever the state of the backend: a drain waits for it here
    /// as it did there.
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

/// One request in flight; given back on drop.
#[derive(Debug)]
pub struct Permit {
    endpoint: Arc<Endpoint>,
    epoch: u64,
    limited: bool,
}

/// What becomes of a request whose session is here.
#[derive(Debug)]
pub enum SessionPermit {
    /// It may be sent.
    Entered(Permit),
    /// The backend has `max_in_flight` requests.
    Full,
    /// The backend takes nobody's requests.
    Closed,
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
