//! Where the disk is waited for: on threads of their own, a bounded number of them, with a bounded queue. A disk that hangs
//! costs requests for files, and nothing else.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// Requests that wait for a disk at once, each on a thread of its own. A rotating disk has no use for more, a fast one
/// answers too soon to need them.
const THREADS: usize = 16;

/// Requests that wait for one of those threads. One more gets an error with `Retry-After`.
const MOST_QUEUED: usize = 1024;

static TURNS: Semaphore = Semaphore::const_new(THREADS);
static QUEUED: AtomicUsize = AtomicUsize::new(0);

/// Too many wait for the disk already, or its thread has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskBusyError;

/// One place in the queue, free again on drop, also where the request is given up.
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

/// Runs work that may have to wait for a disk. When the caller gives up, the thread goes on waiting for its disk, and
/// its place stays taken.
///
/// # Errors
/// Too many wait already.
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

    /// One test for all: the threads are the process's.
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
        // Who gives up makes room in the queue.
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
