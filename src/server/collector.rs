//! Returns memory to the system after a load peak.
//!
//! The allocator keeps memory that its threads have freed, for their next requests. After a peak or an attack, this may
//! be many times what the threads need in quiet times, and in a container it is missing elsewhere.

use std::sync::Arc;
use std::time::Duration;

// mimalloc's functions are linked even if another allocator is used.
use mimalloc as _;

use super::workers::DataThreads;
use crate::proxy::memory;

/// Time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Approximate memory of a task besides large buffers, in bytes: of a connection, or a stream of one.
const TASK_MEMORY: usize = 8 << 10;

/// Peak below which collecting is not worth it, in bytes.
const MIN_PEAK: usize = 4 << 20;

/// Checks the memory again and again, for as long as the process runs.
pub async fn collect_memory(threads: Arc<DataThreads>) {
    let mut round = tokio::time::interval(CHECK_INTERVAL);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut peak = Peak::default();
    loop {
        round.tick().await;
        let all = threads.data().iter();
        let tasks: usize = all.map(|thread| thread.metrics().num_alive_tasks()).sum();
        if peak.is_over(memory::kept() + tasks * TASK_MEMORY) {
            for thread in threads.data() {
                // Memory that a thread has freed can only be returned by that thread.
                thread.spawn(async { collect() });
            }
        }
    }
}

/// Most memory that was needed since the last collection.
#[derive(Debug, Default)]
struct Peak(usize);

impl Peak {
    /// Whether so little memory is needed now that the rest is worth returning.
    fn is_over(&mut self, needed: usize) -> bool {
        let over = self.0 >= MIN_PEAK && needed < self.0 / 2;
        self.0 = if over { needed } else { self.0.max(needed) };
        over
    }
}

/// Returns memory that the calling thread has freed to the system.
#[allow(
    unsafe_code,
    reason = "the crate has no safe form of it without another dependency"
)]
fn collect() {
    unsafe extern "C" {
        /// Function of mimalloc.h: frees the unused part of the calling thread's heap, at once if forced.
        fn mi_collect(force: bool);
    }
    // SAFETY: takes no pointer, and may be called at any time by any thread.
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
