//! The duties of process 1: in a container, processes that lose their parent become children of process 1, and stay
//! zombies until their exit status is read.

use tokio::signal::unix::{SignalKind, signal};
use tracing::{debug, warn};

use crate::rt::children::reap_one;

/// Reaps orphans for as long as the process runs, if it receives them: as process 1, or as a child subreaper. An exit
/// status that this process itself waits for (an upgrade's new process) is left alone, see [`crate::rt::children`].
///
/// Signals need nothing more: for process 1, the kernel only drops those without a handler, and each signal that
/// stops or reloads the proxy has one.
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
            // Also reaps orphans from before the handler was installed.
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
