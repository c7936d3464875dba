//! What of a backend matters outside of it: when that changes, snapshot or kept state are out of date.

use crate::core::backend::BackendState;
use crate::core::drain::DrainActor;

/// What of a backend matters outside of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct BackendOutline {
    pub(super) eligible: bool,
    pub(super) last_resort: bool,
    /// Those who have a session still go there.
    pub(super) hands_over: bool,
    pub(super) incarnation: u64,
    /// Drains that survive the process.
    pub(super) kept: usize,
}

/// What there is of it now.
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
