//! A reload, whether asked for by a signal, by the API, or by an upgrade that needs no more.

use super::lifecycle::ProcessLifecycle;
use super::service::ServiceNotifier;
use crate::registry::RegistryHandle;
use crate::server::listeners::PublicListeners;
use crate::telemetry::access_log::AccessLog;

/// What a reload has to do with, beside the process.
pub(super) struct ReloadScope<'a> {
    /// Takes the configuration.
    pub registry: &'a RegistryHandle,
    /// May open and close addresses.
    pub listeners: &'a mut PublicListeners,
    /// Is opened anew: it may have been rotated.
    pub access_log: &'a AccessLog,
    /// Is told.
    pub service: &'a ServiceNotifier,
}

impl ReloadScope<'_> {
    /// Reads the configuration again; says what has changed. The supervisor knows of it meanwhile, and a stop does not wait for
    /// one that hangs.
    ///
    /// # Errors
    /// Why the old configuration stays in force.
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
