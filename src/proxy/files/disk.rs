//! Waits for the disk on a limited number of separate threads, with a limited queue. A disk that hangs only affects
//! requests for files.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// Maximum number of requests that wait for a disk at once, each on its own thread. A rotating disk can't use more,
/// and a fast one answers too quickly to need them.
const THREADS: usize = 16;

/// Maximum number of requests that wait for one of those threads. Any more get an error with `Retry-After`.
const MOST_QUEUED: usize = 1024;

static TURNS: Semaphore = Semaphore::const_new(THREADS);
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// Too many requests wait for the disk already, or its thread has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskBusyError;

/// One place in the queue, freed on drop, also if the request is given up.
struct QueuedRequest;

impl QueuedRequest {
    fn enter() -> Option<Self> {
        let others = QUEUED.fetch_add(1, Ordering::Relaxed);
        let queued = Self;
        (others < MOST_QUEUED).then_some(queued)
    }
}

impl Drop for QueuedRequest {
    fn drop(&mut self) {
        QUEUED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs work that may have to wait for a disk. If the caller gives up, the thread continues to wait for its disk, and
/// its place stays taken.
///
/// # Errors
/// If too many requests wait already.
pub async fn run_on_disk<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DiskBusyError> {
    let turn = match TURNS.try_acquire() {
        Ok(turn) => turn,
        Err(_) => {
            let queued = QueuedRequest::enter().ok_or(DiskBusyError)?;
            let turn = TURNS.acquire().await.map_err(|_| DiskBusyError)?;
            drop(queued);
            turn
        }
    };
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        job()
    });
    done.await.map_err(|_| DiskBusyError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    /// One test for everything: the threads belong to the process.
    #[tokio::test]
    async fn more_requests_than_threads_queue_up_and_more_than_the_queue_are_refused() {
        let (started, starts) = channel();
        let mut stuck = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..THREADS {
            let (end, ended) = channel::<()>();
            let started = started.clone();
            ends.push(end);
            stuck.push(tokio::spawn(run_on_disk(move || {
                started.send(()).unwrap();
                let _ = ended.recv();
            })));
        }
        for _ in 0..THREADS {
            tokio::task::yield_now().await;
        }
        for _ in 0..THREADS {
            starts.recv().unwrap();
        }
        let queued: Vec<_> = (0..MOST_QUEUED)
            .map(|_| tokio::spawn(run_on_disk(|| 1)))
            .collect();
        while QUEUED.load(Ordering::Relaxed) < MOST_QUEUED {
            tokio::task::yield_now().await;
        }
        assert_eq!(run_on_disk(|| 1).await, Err(DiskBusyError));
        // A request that gives up makes room in the queue.
        queued[0].abort();
        while QUEUED.load(Ordering::Relaxed) == MOST_QUEUED {
            tokio::task::yield_now().await;
        }
        let late = tokio::spawn(run_on_disk(|| 2));
        drop(ends);
        for thread in stuck {
            thread.await.unwrap().unwrap();
        }
        for request in queued.into_iter().skip(1) {
            assert_eq!(request.await.unwrap(), Ok(1));
        }
        assert_eq!(late.await.unwrap(), Ok(2));
        assert_eq!(QUEUED.load(Ordering::Relaxed), 0);
    }
}
