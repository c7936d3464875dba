//! Working state of one step of a backend.

use super::{BackendEffect, BackendPolicy, EventContext};
use crate::core::Time;

/// Context and effects of one step.
pub(super) struct StepEffects<'a> {
    pub(super) context: &'a EventContext,
    pub(super) policy: &'a BackendPolicy,
    pub(super) now: Time,
    pub(super) acts: Vec<BackendEffect>,
    pub(super) reason: String,
    pub(super) shut: bool,
    pub(super) bumped: bool,
    pub(super) probe: bool,
    /// Whether the effects were asked for, so that no alert is needed.
    pub(super) planned: bool,
    pub(super) alert: bool,
}

impl StepEffects<'_> {
    pub(super) fn set_reason(&mut self, reason: impl Into<String>) {
        self.reason = reason.into();
    }
}
