//! What one step of a backend works with.

use super::{BackendEffect, BackendPolicy, EventContext};
use crate::core::Time;

/// What one step collects.
pub(super) struct StepEffects<'a> {
    pub(super) context: &'a EventContext,
    pub(super) policy: &'a BackendPolicy,
    pub(super) now: Time,
    pub(super) acts: Vec<BackendEffect>,
    pub(super) reason: String,
    pub(super) shut: bool,
    pub(super) bumped: bool,
    pub(super) probe: bool,
    /// Somebody asked for what follows, so that nobody has to be alarmed.
    pub(super) planned: bool,
    pub(super) alert: bool,
}

impl StepEffects<'_> {
    pub(super) fn set_reason(&mut self, reason: impl Into<String>) {
        self.reason = reason.into();
    }
}
