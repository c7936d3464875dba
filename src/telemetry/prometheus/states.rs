//! The backends' states, for the gauge: the registry tells them only to those who ask, and a scrape can't wait.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::broadcast::error::RecvError;

use crate::registry::Handle;
use crate::registry::view::PoolView;
use crate::rt::owned_task::OwnedTask;

/// A restart changes many states; one question answers for all that changed in this time.
const GATHER: Duration = Duration::from_millis(50);

/// The latest known states, kept fresh by a task until dropped.
#[derive(Debug)]
pub(super) struct States {
    pools: Arc<ArcSwap<Vec<PoolView>>>,
    _task: OwnedTask,
}

impl States {
    pub(super) fn watch(registry: &Handle) -> Self {
        let pools = Arc::new(ArcSwap::from_pointee(Vec::new()));
        let follow = follow(registry.clone(), pools.clone());
        Self {
            pools,
            _task: OwnedTask::spawn(follow),
        }
    }

    /// The state of a backend as it is shown; one that was just made is starting.
    pub(super) fn of(&self, pool: &str, backend: &str) -> String {
        let pools = self.pools.load();
        pools
            .iter()
            .filter(|view| view.name == pool)
            .flat_map(|view| &view.backends)
            .find(|view| view.name == backend)
            .map_or_else(|| "starting".to_owned(), |view| view.state.clone())
    }
}

async fn follow(registry: Handle, pools: Arc<ArcSwap<Vec<PoolView>>>) {
    // Subscribed before the first question, so that no change falls in between.
    let mut events = registry.subscribe();
    while let Ok(views) = registry.pools().await {
        pools.store(Arc::new(views));
        if let Err(RecvError::Closed) = events.recv().await {
            return;
        }
        tokio::time::sleep(GATHER).await;
        events = events.resubscribe();
    }
}
