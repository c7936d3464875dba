//! Releases waiting requests when something becomes eligible, at a pace that does not overload a cold instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::snapshot::PoolShared;
use crate::core::hold::ReleasePacer;
use crate::rt::clock;

/// How long one that was let go may take to come for its permit. Those that come later are let go again.
const LEFTOVER: Duration = Duration::from_millis(50);

/// Lets one pool's waiting requests go.
pub(super) struct HoldReleaser {
    shared: Arc<PoolShared>,
    ready: Arc<AtomicUsize>,
    task: Option<JoinHandle<()>>,
}

impl HoldReleaser {
    /// For this pool.
    pub(super) fn new(shared: Arc<PoolShared>) -> Self {
        Self {
            shared,
            ready: Arc::default(),
            task: None,
        }
    }

    /// A snapshot with so many eligible backends was published. To be called after the publication: a waiting request
    /// counts itself first and looks at the snapshot afterwards, so that one of the two sees the other.
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

/// Goes on for as long as a request waits: one that was slow to ask for its permit is released again. Those that wait
/// for room on full backends are let go once, because there is another backend now, or a higher limit; from then on
/// they are woken by requests that leave.
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
        // Those that were let go take their permits now; what is left over would let later ones jump.
        tokio::time::sleep(LEFTOVER).await;
        shared.queue.release.forget_permits(usize::MAX);
        if shared.held.load(Ordering::SeqCst) <= shared.queue.room.waiting() {
            return;
        }
    }
}
