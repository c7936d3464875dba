//! Reloads the configuration, requested by a signal, by the API, or by an upgrade for which a reload is enough.

use super::lifecycle::ProcessLifecycle;
use super::service::ServiceNotifier;
use crate::registry::RegistryHandle;
use crate::server::listeners::PublicListeners;
use crate::telemetry::access_log::AccessLog;

/// The parts that a reload changes, besides the process.
pub(super) struct ReloadScope<'a> {
    /// Receives the new configuration.
    pub registry: &'a RegistryHandle,
    /// Opens and closes addresses.
    pub listeners: &'a mut PublicListeners,
    /// Is reopened: it may have been rotated.
    pub access_log: &'a AccessLog,
    /// Is notified.
    pub service: &'a ServiceNotifier,
}

impl ReloadScope<'_> {
    /// Reads the configuration again; returns the changes. The supervisor is notified meanwhile, and a stop does not
    /// wait for a reload that hangs.
    ///
    /// # Errors
    /// Why the old configuration stays in effect.
    pub(super) async fn reload(self, lifecycle: &ProcessLifecycle) -> Result<Vec<String>, String> {
        self.service.reloading();
        let outcome = tokio::select! {
            biased;
            outcome = lifecycle.reload(self.registry, self.listeners) => outcome,
            () = lifecycle.stop_is_due() => Err("lameduck is stopping".to_owned()),
        };
        self.access_log.reopen();
        self.service.reloaded();
        outcome
    }
}
