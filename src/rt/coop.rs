//! Cooperative scheduling on one thread: a task that could go on lets others run first.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, ready};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// Wakes this task again after its thread has checked all sockets for readiness. The caller then returns pending; in an
/// async function, [`tokio::task::yield_now`] does both.
pub(crate) fn yield_to_reactor(cx: &mut Context<'_>) {
    // The first poll registers the wake-up; it is never ready.
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

thread_local! {
    /// Permit for the one long step that this thread may make at a time.
    static STEP: Arc<Semaphore> = Arc::new(Semaphore::new(1));
}

/// A place in the queue for tasks with long steps, such as TLS handshakes, which compute for a quarter of a
/// millisecond. On each thread one of them makes a step; then all other tasks run, and only then the next one makes its
/// step. When thousands of clients come back at once, other tasks wait for one handshake and not for all.
#[derive(Debug)]
pub(crate) struct FairQueue {
    queue: PollSemaphore,
    /// Set after a step, until all other tasks have run.
    round: Option<Arc<Round>>,
}

impl Default for FairQueue {
    /// Joins the queue of this thread.
    fn default() -> Self {
        Self {
            queue: PollSemaphore::new(STEP.with(Arc::clone)),
            round: None,
        }
    }
}

impl FairQueue {
    /// Calls `step` when it is this task's turn. If `step` has nothing to do yet (pending), the next task has its turn
    /// at once; otherwise all other tasks run first, after this one has dealt with the result and yielded.
    pub(crate) fn poll_step<T>(
        &mut self,
        cx: &mut Context<'_>,
        step: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if let Some(round) = &self.round {
            ready!(round.poll_over(cx));
            self.round = None;
        }
        let turn = ready!(self.queue.poll_acquire(cx));
        let stepped = step(cx);
        if stepped.is_ready() {
            // The turn passes on even if this task never polls again: its handshake may be stuck in writing.
            self.round = turn.map(Round::begin);
        }
        stepped
    }
}

/// One run of all other tasks, after which the next in the queue has its turn. A task may make several steps in one
/// poll, so a second call does not mean that the others have run.
#[derive(Debug)]
struct Round {
    turn: Mutex<Option<OwnedSemaphorePermit>>,
    task: AtomicWaker,
}

impl Round {
    fn begin(turn: OwnedSemaphorePermit) -> Arc<Self> {
        let round = Arc::new(Self {
            turn: Mutex::new(Some(turn)),
            task: AtomicWaker::new(),
        });
        yield_to_reactor(&mut Context::from_waker(&round.clone().into()));
        round
    }

    fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.task.register(cx.waker());
        match *self.turn.lock() {
            None => Poll::Ready(()),
            Some(_) => Poll::Pending,
        }
    }
}

impl Wake for Round {
    fn wake(self: Arc<Self>) {
        *self.turn.lock() = None;
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {

    use std::cell::RefCell;
    use std::future::poll_fn;

    use super::*;

    /// Order of events where `steps` tasks of two steps each share a thread with one task that is always ready.
    async fn order(steps: usize) -> String {
        let seen = RefCell::new(String::new());
        let long = |name: char| {
            let seen = &seen;
            async move {
                let mut turns = FairQueue::default();
                for _ in 0..2 {
                    // As rustls does: it polls again if nothing could be read.
                    poll_fn(|cx| {
                        let first = turns.poll_step(cx, |_| Poll::Ready(()));
                        match first.is_ready() {
                            true => first,
                            false => turns.poll_step(cx, |_| Poll::Ready(())),
                        }
                    })
                    .await;
                    seen.borrow_mut().push(name);
                }
            }
        };
        let other = async {
            for _ in 0..2 * steps {
                seen.borrow_mut().push('.');
                tokio::task::yield_now().await;
            }
        };
        let longs = ('a'..).take(steps).map(long);
        futures_util::future::join(futures_util::future::join_all(longs), other).await;
        seen.into_inner()
    }

    #[tokio::test]
    async fn other_tasks_run_between_two_steps() {
        let order = order(4).await;
        let longest = order.split('.').map(str::len).max();
        assert_eq!(longest, Some(1), "{order}");
    }

    #[tokio::test]
    async fn task_without_work_does_not_block_the_queue() {
        let (mut idle, mut busy) = (FairQueue::default(), FairQueue::default());
        let none = poll_fn(|cx| Poll::Ready(idle.poll_step(cx, |_| Poll::<()>::Pending))).await;
        assert!(none.is_pending());
        poll_fn(|cx| busy.poll_step(cx, |_| Poll::Ready(()))).await;
    }

    #[tokio::test]
    async fn task_that_stops_polling_does_not_block_the_queue() {
        let (mut stuck, mut next) = (FairQueue::default(), FairQueue::default());
        poll_fn(|cx| stuck.poll_step(cx, |_| Poll::Ready(()))).await;
        let step = poll_fn(|cx| next.poll_step(cx, |_| Poll::Ready(())));
        let patience = std::time::Duration::from_secs(10);
        tokio::time::timeout(patience, step).await.unwrap();
        drop(stuck);
    }

    #[tokio::test]
    async fn dropped_task_passes_its_turn_on() {
        let (mut first, mut second, mut third) = (
            FairQueue::default(),
            FairQueue::default(),
            FairQueue::default(),
        );
        poll_fn(|cx| first.poll_step(cx, |_| Poll::Ready(()))).await;
        let waits = |turns: &mut FairQueue, cx: &mut Context<'_>| {
            Poll::Ready(turns.poll_step(cx, |_| Poll::Ready(())).is_pending())
        };
        assert!(poll_fn(|cx| waits(&mut second, cx)).await);
        assert!(poll_fn(|cx| waits(&mut third, cx)).await);
        // The second task is dropped while it waits in the queue.
        drop(second);
        drop(first);
        poll_fn(|cx| third.poll_step(cx, |_| Poll::Ready(()))).await;
    }
}
