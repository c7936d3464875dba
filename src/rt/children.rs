//! Child processes: those that this process starts, and orphans that become its children because it is process 1 of a
//! container or a child subreaper.
//!
//! A call that waits for any child takes the next exit status, whichever child it belongs to. So only this module makes
//! such calls, under one lock, and keeps an exit status that other code waits for.

use std::collections::HashMap;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};

use parking_lot::Mutex;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait, waitpid};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::syscall;

static CHILDREN: Mutex<Option<KnownChildren>> = Mutex::new(None);

/// Processes that were started here, by process id.
#[derive(Default)]
struct KnownChildren {
    /// Processes that other code waits for, with their exit status once they have ended.
    awaited: HashMap<u32, Option<ExitStatus>>,
    /// Processes that no code waits for any more, and that have not ended yet.
    abandoned: Vec<u32>,
}

/// A process that was started here. Its exit status reaches this value even if other code reaps children.
#[derive(Debug)]
pub struct StartedChild {
    pid: u32,
    status: Option<ExitStatus>,
    /// Receiver of SIGCHLD, registered before the process was started, so that its end is not missed.
    ends: Signal,
}

/// Starts a process.
///
/// # Errors
/// Those of fork and exec, or SIGCHLD can't be watched.
pub fn start_child(command: &mut Command) -> io::Result<StartedChild> {
    let ends = signal(SignalKind::child())?;
    let mut known = CHILDREN.lock();
    let known = known.get_or_insert_default();
    known.abandoned.retain(|pid| take_status(*pid).is_none());
    // The lock is held until the process is registered, so that nobody reaps it before, not even if exec fails.
    let pid = command.spawn()?.id();
    known.awaited.insert(pid, None);
    Ok(StartedChild {
        pid,
        status: None,
        ends,
    })
}

/// Reaps one ended process, and keeps its exit status if other code waits for it. Returns its process id; `None`: no
/// process has ended.
pub fn reap_one() -> Option<u32> {
    let mut known = CHILDREN.lock();
    let (pid, status) = wait(WaitOptions::NOHANG).ok().flatten()?;
    let pid = pid.as_raw_nonzero().get().unsigned_abs();
    if let Some(known) = &mut *known {
        if let Some(place) = known.awaited.get_mut(&pid) {
            *place = Some(exit_status(status));
        }
        known.abandoned.retain(|other| *other != pid);
    }
    Some(pid)
}

impl StartedChild {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Waits for the end of the process. Cancel-safe: it may be dropped and called again.
    pub async fn wait(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            let _ = self.ends.recv().await;
        }
    }

    /// Kills it, if it has not ended.
    pub fn kill(&mut self) {
        // The process id can't have been reused, because the exit status was not read yet.
        if self.ended().is_none() {
            let _ = syscall::kill(self.pid, libc::SIGKILL);
        }
    }

    /// Exit status; `None`: the process has not ended.
    fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            let mut known = CHILDREN.lock();
            let awaited = &mut known.get_or_insert_default().awaited;
            let met = awaited.get(&self.pid).copied().flatten();
            self.status = met.or_else(|| take_status(self.pid));
            if self.status.is_some() {
                awaited.remove(&self.pid);
            }
        }
        self.status
    }
}

impl Drop for StartedChild {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let mut known = CHILDREN.lock();
            let known = known.get_or_insert_default();
            known.awaited.remove(&self.pid);
            known.abandoned.push(self.pid);
        }
    }
}

/// The exit status of this child, if it has ended.
fn take_status(pid: u32) -> Option<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let (_, status) = waitpid(Some(pid), WaitOptions::NOHANG).ok().flatten()?;
    Some(exit_status(status))
}

fn exit_status(status: WaitStatus) -> ExitStatus {
    ExitStatus::from_raw(status.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn exit_status_of_a_child_can_be_read_repeatedly_after_its_end() {
        let mut command = Command::new("/bin/sh");
        let mut child = start_child(command.args(["-c", "exit 7"])).unwrap();
        assert_eq!(child.wait().await.code(), Some(7));
        assert_eq!(child.wait().await.code(), Some(7));
        child.kill();
    }

    #[tokio::test]
    async fn killed_child_reports_its_signal_and_a_missing_program_is_an_error() {
        let mut command = Command::new("/bin/sleep");
        let mut child = start_child(command.arg("60")).unwrap();
        child.kill();
        assert_eq!(child.wait().await.signal(), Some(libc::SIGKILL));
        let error = start_child(&mut Command::new("/nowhere/program")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
