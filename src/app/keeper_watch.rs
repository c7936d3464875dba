//! `lameduck run --keeper` seen from the proxy: when the keeper is killed, the proxy stops in order, whichever
//! process of an upgrade it is. The first one learns it from the kernel (its parent's death); one that has taken over
//! has another parent.

use std::sync::Arc;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tracing::{debug, warn};

use super::lifecycle::ProcessLifecycle;
use crate::net::kept_socket::keeper_pid;
use crate::rt::syscall::poll_for;

/// Stops this process when its keeper ends, if it has one. A thread of its own waits: it needs nothing that may be stuck.
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
        // A signal is another thread's business.
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
