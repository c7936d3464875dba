//! The duties of process 1: in a container, processes that lose their parent become ours, and stay zombies until
//! their exit status is read.

use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, warn};

use crate::rt::children::reap_one;

/// Reaps orphans for as long as the process runs, if they come to us: as process 1, or as a child subreaper. An exit status
/// that this process waits for (an upgrade's new process) stays its own: [`crate::rt::children`] sees to it.
///
/// Signals need nothing more: the kernel drops for process 1 only those without a handler, and each that stops or
/// reloads the proxy has one.
pub fn reap_orphans() {
    if std::process::id() != 1 && !is_subreaper() {
        return;
    }
    let mut children = match signal(SignalKind::child()) {
        Ok(children) => children,
        Err(error) => {
            warn!(%error, "can't watch for orphans: they will stay zombies");
            return;
        }
    };
    debug!("reaping orphans");
    tokio::spawn(async move {
        loop {
            // Also those from before the handler was there.
            while let Some(pid) = reap_one() {
                debug!(pid, "reaped a process");
            }
            if children.recv().await.is_none() {
                return;
            }
        }
    });
}

#[cfg(target_os = "linux")]
fn is_subreaper() -> bool {
    nix::sys::prctl::get_child_subreaper().unwrap_or(false)
}

#[cfg(not(target_os = "linux"))]
fn is_subreaper() -> bool {
    false
}
