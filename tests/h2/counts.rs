//! What the proxy counts, a little behind what the client gets of it.

use lameduck_rig::proxy::Rig;
use lameduck_rig::wait::until;

/// So often, and no oftener, did clients run into this limit.
pub async fn was_limited(rig: &Rig, limit: &str, count: u64) {
    until(limit, async || rig.limited(limit).await >= count).await;
    assert_eq!(rig.limited(limit).await, count, "{limit}");
}

/// Waits until so many were turned away for this reason.
pub async fn were_refused(rig: &Rig, reason: &str, count: u64) {
    until(reason, async || rig.refused(reason).await >= count).await;
}
