//! The process as the API sees it, besides its backends.

use std::time::Duration;

use async_trait::async_trait;

use super::upgrade::{UpgradeReport, UpgradeRequest, UpgradeView};
use crate::config::ListenAddress;
use crate::tls::managed::ManagedStatus;
use crate::tls::server::ServedCertificate;

/// The traffic during the lame-duck phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietView {
    /// Whether no new requests are expected any more.
    pub is_quiet: bool,
    /// Number of requests since the phase began, without health checks.
    pub arrivals: u64,
    /// The length of silence that is required now.
    pub silence: Duration,
    /// Time until no new requests are expected any more, if none arrive meanwhile.
    pub left: Duration,
}

/// The process as the admin API sees it. The composition root implements it.
#[async_trait]
pub trait ProxyProcess: Send + Sync {
    /// Checks whether the process works, as far as it can tell; if not, returns why, for people.
    ///
    /// # Errors
    /// Why it is not alive.
    fn live(&self) -> Result<(), String> {
        Ok(())
    }

    /// Returns whether the configuration is loaded and every listener bound. Never waits for an app.
    fn started(&self) -> bool;

    /// Checks whether the first round of probes is over and the proxy is not lame duck; if not, returns why, for
    /// people.
    ///
    /// # Errors
    /// Why it is not ready.
    fn ready(&self) -> Result<(), String>;

    /// Returns the public addresses, with the real port if port 0 is configured.
    fn listeners(&self) -> Vec<ListenAddress>;

    /// Returns the certificates that the listeners serve.
    fn certificates(&self) -> Vec<ServedCertificate> {
        Vec::new()
    }

    /// Returns the certificates that a listener orders itself.
    fn managed_certificates(&self, listener: &ListenAddress) -> Vec<ManagedStatus> {
        let _ = listener;
        Vec::new()
    }

    /// Begins or ends the lame-duck phase: not ready, still serving, clients are asked to go elsewhere.
    fn lame_duck(&self, on: bool, reason: &str);

    /// Begins a lame-duck phase for a lease: it also ends when the lease does, while other backends take requests.
    fn lame_duck_of_lease(&self, lease: &str, reason: &str) {
        let _ = lease;
        self.lame_duck(true, reason);
    }

    /// Returns whether the process is lame duck.
    fn is_lame_duck(&self) -> bool;

    /// Returns the traffic during the lame-duck phase; `None`: the process is not lame duck.
    fn quiet(&self) -> Option<QuietView> {
        None
    }

    /// Returns the effective configuration: every value, including defaults.
    fn config_json(&self) -> serde_json::Value;

    /// Reads the configuration again; applies the differences of a valid one, and refuses an invalid one completely.
    /// Returns the changes.
    ///
    /// # Errors
    /// The diagnostics, rendered for people.
    async fn reload(&self) -> Result<Vec<String>, String>;

    /// Lets another lameduck take over; returns what was handed over.
    ///
    /// # Errors
    /// Why no process took over, for people: this process continues.
    async fn upgrade(&self, request: UpgradeRequest) -> Result<UpgradeReport, String> {
        let _ = request;
        Err("this process can't be upgraded".to_owned())
    }

    /// Returns the state of upgrades.
    fn upgrade_view(&self) -> UpgradeView {
        UpgradeView::default()
    }

    /// Returns the metrics in Prometheus' text format.
    fn metrics(&self) -> String;
}
