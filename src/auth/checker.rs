//! The threads on which passwords are checked, away from those that carry traffic, and no more than they can take.
//!
//! A check with bcrypt takes a core for a tenth of a second or longer, and every client can cause one. So there are
//! few threads for them, with a lower priority than the others; few checks may wait, and fewer still of one client,
//! so that a client that tries passwords doesn't lock out others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::UserFile;

/// Checks that wait for a thread, of all clients.
const WAITING: usize = 64;

/// How much less than others these threads want a core.
const NICENESS: i32 = 10;

/// Why a password was not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckRefusal {
    /// Too many wait already.
    Busy,
    /// The system has no thread left.
    NoThread,
}

/// A check under way.
struct CheckJob {
    file: Arc<UserFile>,
    user: Vec<u8>,
    password: Vec<u8>,
    told: oneshot::Sender<Option<Arc<str>>>,
}

/// The threads, started with the first check.
#[derive(Debug, Default)]
pub struct PasswordChecker {
    queue: OnceLock<Option<SyncSender<CheckJob>>>,
    checked: AtomicUsize,
}

impl PasswordChecker {
    /// Checks a password; the receiver gets the user's name where it is right.
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

    /// Checks that were taken on.
    pub fn checked(&self) -> usize {
        self.checked.load(Ordering::Relaxed)
    }
}

/// Half as many threads as there are cores.
fn start_threads() -> Option<SyncSender<CheckJob>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (queue, jobs) = sync_channel(WAITING);
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
    // On Linux this is about the thread alone. Where it is refused, passwords are checked all the same.
    let _ = rustix::process::nice(NICENESS);
    loop {
        let Ok(job) = jobs.lock().recv() else {
            return;
        };
        // The client does not wait for it any more.
        if job.told.is_closed() {
            continue;
        }
        let user = job.file.check(&job.user, &job.password);
        let _ = job.told.send(user);
    }
}
