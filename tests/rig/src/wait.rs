//! Waits for what nothing announces.

use std::time::Duration;

use tokio::time::Instant;

/// Longest wait for anything that should happen where other tests load the machine, too.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; panics with `what` after [`PATIENCE`].
pub async fn until(what: &str, condition: impl AsyncFnMut() -> bool) {
    until_within(what, PATIENCE, condition).await;
}

/// The same with a patience of one's own.
pub async fn until_within(
    what: &str,
    patience: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) {
    let end = Instant::now() + patience;
    while !condition().await {
        assert!(
            Instant::now() < end,
            "still waiting after {patience:?}: {what}"
        );
        // Nothing tells us when; asking is all there is.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
