//! Threads that check passwords, apart from those that carry traffic, and with limits.
//!
//! A check with bcrypt takes a core for a tenth of a second or longer, and every client can cause one. So few threads
//! do this, at a lower priority than others. Few checks may wait, and even fewer of one client, so that a client that
//! guesses passwords does not lock out others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::UserFile;

/// Most checks that wait for a thread, of all clients together.
const MAX_WAITING: usize = 64;

/// Niceness of these threads: how much lower their priority is than that of others.
const THREAD_NICENESS: i32 = 10;

/// Reason why a password was not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckRefusal {
    /// Too many checks are waiting.
    Busy,
    /// The system can't start another thread.
    NoThread,
}

/// A check in progress.
struct CheckJob {
    file: Arc<UserFile>,
    user: Vec<u8>,
    password: Vec<u8>,
    told: oneshot::Sender<Option<Arc<str>>>,
}

/// The checking threads, which are started with the first check.
#[derive(Debug, Default)]
pub struct PasswordChecker {
    queue: OnceLock<Option<SyncSender<CheckJob>>>,
    checked: AtomicUsize,
}

impl PasswordChecker {
    /// Starts a check. The receiver gets the user's name if the password is right.
    ///
    /// # Errors
    /// There is no room for another check.
    pub fn check(
        &self,
        file: Arc<UserFile>,
        user: Vec<u8>,
        password: Vec<u8>,
    ) -> Result<oneshot::Receiver<Option<Arc<str>>>, CheckRefusal> {
        let queue = self.queue.get_or_init(start_threads).as_ref();
        let (told, answer) = oneshot::channel();
        let job = CheckJob {
            file,
            user,
            password,
            told,
        };
        match queue.ok_or(CheckRefusal::NoThread)?.try_send(job) {
            Ok(()) => {
                self.checked.fetch_add(1, Ordering::Relaxed);
                Ok(answer)
            }
            Err(TrySendError::Full(_)) => Err(CheckRefusal::Busy),
            Err(TrySendError::Disconnected(_)) => Err(CheckRefusal::NoThread),
        }
    }

    /// Number of checks that were accepted.
    pub fn checked(&self) -> usize {
        self.checked.load(Ordering::Relaxed)
    }
}

/// Starts half as many threads as there are cores.
fn start_threads() -> Option<SyncSender<CheckJob>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (queue, jobs) = sync_channel(MAX_WAITING);
    let jobs = Arc::new(Mutex::new(jobs));
    let mut started = 0;
    for _ in 0..(cores / 2).max(1) {
        let jobs = jobs.clone();
        let builder = thread::Builder::new().name("passwords".into());
        started += usize::from(builder.spawn(move || check_passwords(&jobs)).is_ok());
    }
    (started > 0).then_some(queue)
}

fn check_passwords(jobs: &Mutex<Receiver<CheckJob>>) {
    // On Linux this concerns only this thread. If it is refused, passwords are still checked.
    let _ = rustix::process::nice(THREAD_NICENESS);
    loop {
        let Ok(job) = jobs.lock().recv() else {
            return;
        };
        // The client may no longer wait for the result.
        if job.told.is_closed() {
            continue;
        }
        let user = job.file.check(&job.user, &job.password);
        let _ = job.told.send(user);
    }
}
