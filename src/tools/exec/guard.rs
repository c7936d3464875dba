//! A second process that kills the app's process group if the launcher is killed.
//!
//! The kernel does that only for the app's first process (`PR_SET_PDEATHSIG`), and not for its children: behind
//! `npm start` or `sh -c`, the server would outlive the launcher.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use super::syscall;

/// A guard process for one app. Dropping this ends it.
#[derive(Debug)]
pub(super) struct AppGuard {
    pid: u32,
    line: UnixStream,
}

impl AppGuard {
    /// Starts a guard for the process group that `leader` leads.
    ///
    /// # Errors
    /// Those of socketpair(2) and fork(2).
    pub(super) fn start(leader: u32) -> io::Result<Self> {
        let (line, end) = UnixStream::pair()?;
        let pid = syscall::fork_guard(&end, leader)?;
        Ok(Self { pid, line })
    }

    /// Process id of the guard.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for AppGuard {
    fn drop(&mut self) {
        // If the connection ends without this byte, the launcher was killed.
        let _ = self.line.write_all(b".");
    }
}
