//! A second process that kills the app's group if the launcher is killed.
//!
//! The kernel does that for the app's first process (`PR_SET_PDEATHSIG`), and for none that it starts itself: behind
//! `npm start` or `sh -c`, the server would outlive the launcher.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use super::syscall;

/// Watches over one app. Dropping it ends the watch.
#[derive(Debug)]
pub(super) struct AppGuard {
    pid: u32,
    line: UnixStream,
}

impl AppGuard {
    /// Watches over the process group that `leader` leads.
    ///
    /// # Errors
    /// Those of socketpair(2) and fork(2).
    pub(super) fn start(leader: u32) -> io::Result<Self> {
        let (line, end) = UnixStream::pair()?;
        let pid = syscall::fork_guard(&end, leader)?;
        Ok(Self { pid, line })
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for AppGuard {
    fn drop(&mut self) {
        // If the line ends without this byte, the launcher was killed.
        let _ = self.line.write_all(b".");
    }
}
