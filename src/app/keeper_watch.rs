//! The proxy's side of `lameduck run --keeper`: when the keeper is killed, the proxy stops gracefully, whichever
//! process of an upgrade it is. The kernel notifies the first process (its parent's death); a process that has taken
//! over has a different parent.

use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tracing::{debug, warn};

use super::lifecycle::ProcessLifecycle;
use crate::net::kept_socket::keeper_pid;
use crate::rt::syscall::poll_for;

/// Stops this process when its keeper ends, if it has one. A separate thread waits, so that it doesn't depend on
/// anything that may be stuck.
pub(super) fn follow_keeper(lifecycle: Arc<ProcessLifecycle>) {
    let pid = keeper_pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let Some(pid) = pid else { return };
    let end = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(end) => end,
        Err(Errno::SRCH) => return stop(&lifecycle),
        Err(error) => return debug!(%error, "the keeper's end can't be watched"),
    };
    let watch = move || {
        let mut polled = [PollFd::new(&end, PollFlags::IN)];
        // Signals are handled by another thread.
        while poll_for(&mut polled, None).is_err() {}
        stop(&lifecycle);
    };
    let thread = std::thread::Builder::new().name("keeper".to_owned());
    if let Err(error) = thread.spawn(watch) {
        debug!(%error, "the keeper's end can't be watched");
    }
}

fn stop(lifecycle: &ProcessLifecycle) {
    warn!("the keeper was killed: stopping");
    lifecycle.stop_signal();
}
