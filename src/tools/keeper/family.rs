//! Processes of a proxy: the one that serves, earlier ones that finish their connections, and one that may be about to
//! take over when the proxy dies.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

use crate::rt::syscall::{is_readable, kill};

/// Proxy processes that the keeper follows.
#[derive(Default)]
pub(super) struct ProxyFamily {
    main: Option<u32>,
    /// Descriptor (pidfd) of the serving process, which may have another parent: after an upgrade, that is the process
    /// before it.
    end: Option<OwnedFd>,
    former: Vec<u32>,
}

impl ProxyFamily {
    /// Process id of the proxy, while there is one.
    pub(super) fn main(&self) -> Option<u32> {
        self.main
    }

    /// Follows another process that serves from now on; the one before it finishes its connections.
    pub(super) fn follow(&mut self, pid: u32) {
        if let Some(before) = self.main.filter(|before| *before != pid) {
            self.former.retain(|former| kill(*former, 0).is_ok());
            self.former.push(before);
        }
        self.main = Some(pid);
        self.end = to_pid(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
    }

    /// Descriptor that is readable once the serving process has ended.
    pub(super) fn main_end(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(OwnedFd::as_fd)
    }

    /// Whether the serving process has ended and is no child of this one, so that only its parent knows its exit
    /// status.
    pub(super) fn has_ended_elsewhere(&self) -> bool {
        let is_over = (self.main_end()).is_some_and(|end| is_readable(end, Duration::ZERO));
        // The exit status of a child is read later.
        let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let is_strange = |pid| matches!(waitid(WaitId::Pid(pid), peek), Err(Errno::CHILD));
        is_over && self.main.and_then(to_pid).is_some_and(is_strange)
    }

    /// Removes a process that has ended; returns whether it was the serving one.
    pub(super) fn forget(&mut self, pid: u32) -> bool {
        self.former.retain(|former| *former != pid);
        let is_main = self.main == Some(pid);
        if is_main {
            (self.main, self.end) = (None, None);
        }
        is_main
    }

    /// Children of this process that have never served: the proxy died while they were about to take over.
    pub(super) fn orphans(&self) -> Vec<u32> {
        let mut children = children_of(std::process::id());
        children.retain(|pid| self.main != Some(*pid) && !self.former.contains(pid));
        children
    }

    /// Kills them.
    pub(super) fn end_orphans(&self) {
        for pid in self.orphans() {
            let _ = kill(pid, libc::SIGKILL);
        }
    }
}

fn to_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Children of a process, by proc_pid_stat(5), without zombies.
fn children_of(parent: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name is in parentheses, and may contain anything.
        let fields = stat
            .rsplit_once(')')
            .map(|(_, fields)| fields.split_whitespace());
        let mut fields = fields.into_iter().flatten();
        fields.next().is_some_and(|state| state != "Z")
            && fields.next().and_then(|ppid| ppid.parse().ok()) == Some(parent)
    };
    all.filter(is_child).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_that_has_never_served_is_an_orphan_and_one_that_has_is_none() {
        let mut command = std::process::Command::new("/bin/sleep");
        let mut child = command.arg("60").spawn().unwrap();
        let mut family = ProxyFamily::default();
        assert!(family.orphans().contains(&child.id()));
        family.follow(child.id());
        assert!(!family.orphans().contains(&child.id()));
        // Another process has taken over, and this one finishes its connections.
        family.follow(std::process::id());
        assert!(!family.orphans().contains(&child.id()));
        family.follow(child.id());
        assert!(!family.has_ended_elsewhere());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(family.has_ended_elsewhere(), "its status is gone");
        assert!(family.forget(child.id()));
    }
}
