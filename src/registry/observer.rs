//! Interface through which the registry reports to the process around it.

use std::sync::Arc;

use super::persist;
use super::saves::SaveLedger;
use super::view::DrainResponse;

/// Receives the registry's reports to the process around it.
pub trait RegistryObserver: Send {
    /// Every backend's first probe has ended, and `ready` of `all` take requests.
    fn first_round_finished(&self, ready: usize, all: usize);
    /// A backend was registered. (If only the app restarts, the proxy must not remain a lame duck.)
    fn registered(&self);
    /// Drains or registrations have changed and are to be kept.
    fn persist(&self, state: persist::KeptState);
    /// Returns the record of what was saved; `None`: nothing is kept.
    fn saves(&self) -> Option<Arc<SaveLedger>> {
        None
    }
    /// A drain has ended.
    fn drain_ended(&self, pool: &str, response: &DrainResponse);
    /// A plan that moved the weights of a split has ended.
    fn plan_ended(&self, _outcome: &'static str) {}
    /// A lease has ended; `eligible` backends of all pools still take requests.
    fn lease_ended(&self, _lease: &str, _eligible: usize) {}
}
