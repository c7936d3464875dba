//! Closes idle upstream connections that are too old, or that the backend has closed.
//!
//! Reuse takes the newest connection first, so old ones would otherwise stay until the app closes them.

use std::sync::Arc;
use std::time::Duration;

use crate::proxy::data_plane::DataPlane;
use crate::proxy::upstream::reuse::{IdleState, check_idle};
use crate::rt::clock;

/// Time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Checks again and again, for as long as the process runs.
pub async fn reap_idle(plane: Arc<DataPlane>) {
    let mut round = tokio::time::interval(CHECK_INTERVAL);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        round.tick().await;
        let pools = plane.registry.snapshot().pools.clone();
        for endpoint in pools.iter().flat_map(|pool| pool.backends.iter()) {
            let now = clock::now();
            endpoint.close_outdated_idle(|connection| {
                if connection.expires <= now {
                    return false;
                }
                match check_idle(connection) {
                    IdleState::Quiet => true,
                    IdleState::Talking => false,
                    IdleState::Closed => {
                        endpoint.peer_closed();
                        false
                    }
                }
            });
        }
    }
}
