//! Threads of the data plane. Each has a runtime of its own, and a connection stays on its thread: nothing on the path
//! of a request is shared with another thread's scheduler, and no thread is woken to look for work.
//!
//! One further thread accepts for all of them and distributes the connections, so that a burst of new ones does not
//! delay requests, and busy threads get fewer. It also runs the timers of all threads.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::rt::{clock, worker};

/// The threads; they end some time after this is dropped.
#[derive(Debug)]
pub struct DataThreads {
    data: Vec<Handle>,
    accept: Handle,
    next: AtomicUsize,
    /// Number of connections that were distributed and have not ended.
    dealt: Arc<AtomicUsize>,
    _until: Vec<oneshot::Sender<()>>,
}

impl DataThreads {
    /// Starts this many data threads (0: as many as there are cores), and the accepting thread.
    ///
    /// # Errors
    /// No thread or descriptor is left.
    pub fn start(count: usize) -> io::Result<Self> {
        let count = match count {
            0 => std::thread::available_parallelism()?.get(),
            count => count,
        };
        worker::set_count(count);
        let mut until = Vec::with_capacity(count + 1);
        let mut spawn = |name: &str, lane, runtime: Runtime| {
            let (dropped, end) = oneshot::channel();
            until.push(dropped);
            spawn(name, lane, runtime, end)
        };
        let accept = Builder::new_current_thread().enable_all().build()?;
        clock::set_timers(accept.handle().clone());
        let data = |index| {
            // Without a time driver: see `clock::set_timers`.
            let runtime = Builder::new_current_thread().enable_io().build()?;
            spawn("proxy", index, runtime)
        };
        Ok(Self {
            data: (0..count).map(data).collect::<io::Result<_>>()?,
            accept: spawn("accept", 0, accept)?,
            next: AtomicUsize::new(0),
            dealt: Arc::default(),
            _until: until,
        })
    }

    /// Runtime for accept loops.
    pub fn accept(&self) -> &Handle {
        &self.accept
    }

    /// Runtimes for connections.
    pub fn data(&self) -> &[Handle] {
        &self.data
    }

    /// Runs a connection on the data thread with the fewest tasks; if several have as few, they take turns.
    pub fn deal(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let dealt = CountedConnection::new(&self.dealt);
        self.least_busy().spawn(async move {
            let _dealt = dealt;
            connection.await;
        });
    }

    fn least_busy(&self) -> &Handle {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.data.len();
        let (before, after) = self.data.split_at(turn);
        let in_turn = after.iter().chain(before);
        in_turn
            .min_by_key(|handle| handle.metrics().num_alive_tasks())
            .unwrap_or(&self.data[0])
    }

    /// Whether there is still a connection, including those whose task has not run yet.
    pub fn have_connections(&self) -> bool {
        self.dealt.load(Ordering::Acquire) > 0
    }

    /// Whether there is a task of any kind, including sessions with backends.
    pub fn have_tasks(&self) -> bool {
        let mut all = self.data.iter();
        all.any(|handle| handle.metrics().num_alive_tasks() > 0)
    }
}

/// A distributed connection; subtracted from the count on drop.
struct CountedConnection(Arc<AtomicUsize>);

impl CountedConnection {
    fn new(dealt: &Arc<AtomicUsize>) -> Self {
        dealt.fetch_add(1, Ordering::AcqRel);
        Self(dealt.clone())
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Starts a thread that runs a runtime until the sender of `end` is dropped.
fn spawn(
    name: &str,
    lane: usize,
    runtime: Runtime,
    end: oneshot::Receiver<()>,
) -> io::Result<Handle> {
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            worker::enter(lane);
            let _ = runtime.block_on(end);
        })?;
    Ok(handle)
}
