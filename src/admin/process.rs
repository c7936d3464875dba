//! What the API needs to know about the process, beyond backends.

use std::time::Duration;

use async_trait::async_trait;

use super::upgrade::{UpgradeReport, UpgradeRequest, UpgradeView};
use crate::config::ListenAddress;
use crate::tls::managed::ManagedStatus;
use crate::tls::server::ServedCertificate;

/// The traffic that a lame duck sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietView {
    /// Nothing new is expected any more.
    pub is_quiet: bool,
    /// Requests since it began, health checks aside.
    pub arrivals: u64,
    /// The silence that counts now.
    pub silence: Duration,
    /// How long until nothing new is expected any more, if nothing comes meanwhile.
    pub left: Duration,
}

/// The process as the admin API sees it. The composition root implements it.
#[async_trait]
pub trait ProxyProcess: Send + Sync {
    /// Whether the process works, as far as it knows itself; if not, why, for people.
    ///
    /// # Errors
    /// Why it is not alive.
    fn live(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether the configuration is loaded and every listener bound. Never waits for an app.
    fn started(&self) -> bool;

    /// Whether the first round of probes is over and the proxy is not lame duck; if not, why, for people.
    ///
    /// # Errors
    /// Why it is not ready.
    fn ready(&self) -> Result<(), String>;

    /// The public addresses, with the real port where port 0 was asked for.
    fn listeners(&self) -> Vec<ListenAddress>;

    /// The certificates that they serve.
    fn certificates(&self) -> Vec<ServedCertificate> {
        Vec::new()
    }

    /// The certificates that a listener orders itself.
    fn managed_certificates(&self, listener: &ListenAddress) -> Vec<ManagedStatus> {
        let _ = listener;
        Vec::new()
    }

    /// Begins or ends lame duck: not ready, still serving, clients are asked to go elsewhere.
    fn lame_duck(&self, on: bool, reason: &str);

    /// Begins lame duck for a lease: ends also when the lease does, while other backends take requests.
    fn lame_duck_of_lease(&self, lease: &str, reason: &str) {
        let _ = lease;
        self.lame_duck(true, reason);
    }

    /// Whether it is lame duck.
    fn is_lame_duck(&self) -> bool;

    /// The traffic that it sees while it is a lame duck; `None`: it isn't one.
    fn quiet(&self) -> Option<QuietView> {
        None
    }

    /// The effective configuration: every value, defaults too.
    fn config_json(&self) -> serde_json::Value;

    /// Reads the configuration again; takes a good one as a difference and refuses a bad one whole.
    /// Says what changed.
    ///
    /// # Errors
    /// The diagnostics, rendered for people.
    async fn reload(&self) -> Result<Vec<String>, String>;

    /// Has another lameduck take over; says what was handed over.
    ///
    /// # Errors
    /// Why none did, for people: this process goes on.
    async fn upgrade(&self, request: UpgradeRequest) -> Result<UpgradeReport, String> {
        let _ = request;
        Err("this process can't be upgraded".to_owned())
    }

    /// What is known of upgrades.
    fn upgrade_view(&self) -> UpgradeView {
        UpgradeView::default()
    }

    /// Prometheus' text format.
    fn metrics(&self) -> String;
}
