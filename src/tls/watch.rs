//! Notices changed files. By asking: directories that Kubernetes, certbot and network file systems fill tell of their
//! changes in too many ways, or in none.

use std::sync::Arc;
use std::time::Duration;

use super::server::CertificateInventory;

/// Between two looks.
pub const ROUND: Duration = Duration::from_secs(1);

/// Runs for as long as the process.
pub async fn watch_files(inventory: Arc<CertificateInventory>) {
    let mut round = tokio::time::interval(ROUND);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        round.tick().await;
        if inventory.is_empty() {
            continue;
        }
        let inventory = inventory.clone();
        // A disk may be slow.
        let _ = tokio::task::spawn_blocking(move || inventory.check_all_files()).await;
    }
}
