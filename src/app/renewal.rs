//! Reloads changed files of `[pool.tls]` without a reload of the configuration, like those of listeners.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::lifecycle::ProcessLifecycle;
use crate::config::{BuiltClient, UpstreamTls};
use crate::registry::RegistryHandle;
use crate::tls::fingerprint::FileSet;
use crate::tls::server::{CertificateInventory, ReloadOutcome};
use crate::tls::upstream::BackendTls;
use crate::tls::watch::CHECK_INTERVAL;

/// The files of one pool.
struct WatchedPool {
    settings: UpstreamTls,
    files: FileSet,
}

impl WatchedPool {
    fn new(settings: &UpstreamTls) -> Self {
        Self {
            files: FileSet::new(settings.files().cloned().collect()),
            settings: settings.clone(),
        }
    }

    /// Reads the files, if they have changed. May wait for the disk.
    fn reload_files(&mut self) -> Option<Result<Arc<BackendTls>, String>> {
        if !self.files.have_changed() {
            return None;
        }
        let read = BackendTls::load(&self.settings).map(Arc::new);
        Some(read.map_err(|fault| format!("`{}`: {}", fault.key, fault.message)))
    }
}

/// Watches the files for as long as the process runs.
pub(super) async fn renew_clients(
    lifecycle: Arc<ProcessLifecycle>,
    registry: RegistryHandle,
    counted: Arc<CertificateInventory>,
) {
    let mut watched: HashMap<String, WatchedPool> = HashMap::new();
    let mut round = interval(CHECK_INTERVAL);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        round.tick().await;
        let config = lifecycle.config();
        let mut still = HashMap::new();
        for pool in &config.pools {
            let Some(tls) = pool.tls.as_ref().filter(|tls| tls.files().count() > 0) else {
                continue;
            };
            let known = watched.remove(&pool.name);
            let mut one = known
                .filter(|one| one.settings.is_written_like(tls))
                .unwrap_or_else(|| WatchedPool::new(tls));
            let looked = tokio::task::spawn_blocking(move || (one.reload_files(), one)).await;
            let Ok((seen, mut one)) = looked else {
                continue;
            };
            if let Some(seen) = seen {
                counted.count_outcome(
                    apply_renewed_client(&registry, &pool.name, &mut one, seen).await,
                );
            }
            still.insert(pool.name.clone(), one);
        }
        watched = still;
    }
}

async fn apply_renewed_client(
    registry: &RegistryHandle,
    pool: &str,
    one: &mut WatchedPool,
    seen: Result<Arc<BackendTls>, String>,
) -> ReloadOutcome {
    match seen {
        Ok(client) => {
            let was_told = one.files.are_good();
            let tls = UpstreamTls {
                client: Some(BuiltClient::new(client)),
                ..one.settings.clone()
            };
            let renewed = registry.renew(pool, tls).await.unwrap_or(false);
            if !renewed && !was_told {
                return ReloadOutcome::Same;
            }
            info!(pool, "the files of [pool.tls] were read again");
            ReloadOutcome::Taken
        }
        Err(why) => {
            if !one.files.are_bad(why.clone()) {
                return ReloadOutcome::Same;
            }
            warn!(
                pool,
                "changed files of [pool.tls] are not used, the old ones stay in use: {why}"
            );
            ReloadOutcome::Refused
        }
    }
}
