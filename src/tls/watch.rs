//! Notices changed files by polling. Notifications would miss some: Kubernetes, certbot and network file systems report
//! changes of directories in different ways, or not at all.

use std::sync::Arc;
use std::time::Duration;

use super::server::CertificateInventory;

/// Time between two checks.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Checks the files again and again, for as long as the process runs.
pub async fn watch_files(inventory: Arc<CertificateInventory>) {
    let mut timer = tokio::time::interval(CHECK_INTERVAL);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        if inventory.is_empty() {
            continue;
        }
        let inventory = inventory.clone();
        // The disk may be slow, so this must not block the runtime.
        let _ = tokio::task::spawn_blocking(move || inventory.check_all_files()).await;
    }
}
