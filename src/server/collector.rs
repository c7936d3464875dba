//! Gives memory back to the system after a rush.
//!
//! The allocator keeps what its threads have freed, for their next requests. Behind a crowd, or an attack, that may be many
//! times what the threads need in quiet, and in a container it is missing elsewhere.

use std::sync::Arc;
use std::time::Duration;

// Its functions are linked with it, also where it isn't the allocator.
use mimalloc as _;

use super::workers::DataThreads;
use crate::proxy::memory;

/// Between two looks.
const ROUND: Duration = Duration::from_secs(1);

/// What a task needs of memory besides the large buffers, roughly: a connection, or a stream of one.
const TASK: usize = 8 << 10;

/// A peak below that isn't worth it.
const WORTH: usize = 4 << 20;

/// Runs for as long as the process.
pub async fn collect_memory(threads: Arc<DataThreads>) {
    let mut round = tokio::time::interval(ROUND);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut peak = Peak::default();
    loop {
        round.tick().await;
        let all = threads.data().iter();
        let tasks: usize = all.map(|thread| thread.metrics().num_alive_tasks()).sum();
        if peak.is_over(memory::kept() + tasks * TASK) {
            for thread in threads.data() {
                // What a thread has freed, it gives back itself.
                thread.spawn(async { collect() });
            }
        }
    }
}

/// The most that was needed since memory was given back last.
#[derive(Debug, Default)]
struct Peak(usize);

impl Peak {
    /// Whether so few bytes are needed now that the rest is worth giving back.
    fn is_over(&mut self, needed: usize) -> bool {
        let over = self.0 >= WORTH && needed < self.0 / 2;
        self.0 = if over { needed } else { self.0.max(needed) };
        over
    }
}

/// Gives back what the calling thread has freed.
#[allow(
    unsafe_code,
    reason = "the crate has no safe form of it without another dependency"
)]
fn collect() {
    unsafe extern "C" {
        /// `mi_collect` of mimalloc.h: frees what is unused of the calling thread's heap, at once if forced.
        fn mi_collect(force: bool);
    }
    // SAFETY: it takes no memory of ours, and may be called at any time by any thread.
    unsafe { mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_behind_each_peak() {
        let mut peak = Peak::default();
        let over = [1, 40, 60, 31, 29, 28, 10, 10, 2, 0].map(|mib| peak.is_over(mib << 20));
        let expected = [
            false, false, false, false, true, false, true, false, true, false,
        ];
        assert_eq!(over, expected);
    }

    #[test]
    fn memory_is_collected_by_any_thread() {
        collect();
        std::thread::spawn(collect).join().ok();
    }
}
