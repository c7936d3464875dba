//! The part of a backend's state that matters to others: when it changes, the snapshot or the kept state is out of
//! date.

use crate::core::backend::BackendState;
use crate::core::drain::DrainActor;

/// The part of a backend's state that matters to others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct BackendOutline {
    pub(super) eligible: bool,
    pub(super) last_resort: bool,
    /// Whether clients with a session may still use the backend.
    pub(super) hands_over: bool,
    pub(super) incarnation: u64,
    /// Number of drains that survive the process.
    pub(super) kept: usize,
}

/// Returns the present outline of a backend.
pub(super) fn outline(backend: &BackendState) -> BackendOutline {
    let others = backend
        .drains()
        .filter(|(_, drain)| drain.actor != DrainActor::App);
    BackendOutline {
        eligible: backend.is_eligible(),
        last_resort: backend.may_fail_open(),
        hands_over: backend.hands_over(),
        incarnation: backend.incarnation(),
        kept: others.count(),
    }
}
