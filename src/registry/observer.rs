//! What the registry tells the process around it.

use std::sync::Arc;

use super::persist;
use super::saves::SaveLedger;
use super::view::DrainResponse;

/// What the registry tells the process around it.
pub trait RegistryObserver: Send {
    /// Every backend's first probe has ended, and `ready` of `all` take requests.
    fn first_round_finished(&self, ready: usize, all: usize);
    /// A backend registered (an app that restarted alone must not leave the proxy a lame duck).
    fn registered(&self);
    /// Drains or registrations changed: keep them.
    fn persist(&self, state: persist::KeptState);
    /// The record of what was saved; `None`: nothing is kept.
    fn saves(&self) -> Option<Arc<SaveLedger>> {
        None
    }
    /// A drain ended.
    fn drain_ended(&self, pool: &str, response: &DrainResponse);
    /// A plan that moved the weights of a split has ended.
    fn plan_ended(&self, _outcome: &'static str) {}
    /// A lease ended; this many backends of all pools still take requests.
    fn lease_ended(&self, _lease: &str, _eligible: usize) {}
}
