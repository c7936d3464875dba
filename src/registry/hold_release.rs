//! Releases waiting requests when a backend becomes eligible, at a pace that does not overload a cold instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::snapshot::PoolShared;
use crate::core::hold::ReleasePacer;
use crate::rt::clock;

/// Time that a released request has to ask for its permit. Requests that are slower are released again.
const LEFTOVER: Duration = Duration::from_millis(50);

/// Releases the waiting requests of one pool.
pub(super) struct HoldReleaser {
    shared: Arc<PoolShared>,
    ready: Arc<AtomicUsize>,
    task: Option<JoinHandle<()>>,
}

impl HoldReleaser {
    /// Creates the releaser of this pool.
    pub(super) fn new(shared: Arc<PoolShared>) -> Self {
        Self {
            shared,
            ready: Arc::default(),
            task: None,
        }
    }

    /// Notes that a snapshot with `ready` eligible backends was published. Call this after the publication: a waiting
    /// request counts itself first and reads the snapshot afterwards, so that one of the two sees the other.
    pub(super) fn published(&mut self, ready: usize) {
        self.ready.store(ready, Ordering::SeqCst);
        if ready == 0 {
            if let Some(task) = self.task.take() {
                task.abort();
            }
            self.shared.queue.release.forget_permits(usize::MAX);
            return;
        }
        let running = self.task.as_ref().is_some_and(|task| !task.is_finished());
        if !running && self.shared.held.load(Ordering::SeqCst) > 0 {
            let (shared, ready) = (self.shared.clone(), self.ready.clone());
            self.task = Some(tokio::spawn(release_held(shared, ready)));
        }
    }
}

impl Drop for HoldReleaser {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Runs for as long as a request waits: a request that was slow to ask for its permit is released again. Requests
/// that wait for room on full backends are released once, because there is another backend now, or a higher limit;
/// from then on they are woken by requests that leave.
async fn release_held(shared: Arc<PoolShared>, ready: Arc<AtomicUsize>) {
    loop {
        let mut pacer = ReleasePacer::new();
        loop {
            let (held, ready) = (
                shared.held.load(Ordering::SeqCst),
                ready.load(Ordering::SeqCst),
            );
            let release = pacer.release(held, ready, clock::now());
            shared.queue.release.add_permits(release.count);
            let Some(again) = release.again else { break };
            tokio::time::sleep_until(clock::instant(again)).await;
        }
        // Released requests take their permits now; with permits left over, later requests would overtake waiting
        // ones.
        tokio::time::sleep(LEFTOVER).await;
        shared.queue.release.forget_permits(usize::MAX);
        if shared.held.load(Ordering::SeqCst) <= shared.queue.room.waiting() {
            return;
        }
    }
}
