//! The proxy as a process: started with the held descriptors from number 3 on, and reaped.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::prctl::{set_pdeathsig, set_thp_disable};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{ForkResult, fork};
use rustix::io::fcntl_dupfd_cloexec;

use super::super::exec::{footprint, syscall};
use super::held::{HeldSockets, MOST};
use crate::core::launch::ProcessExit;
use crate::net::kept_socket::{FDSTORE, KEPT};
use crate::net::sd_notify::NOTIFY_SOCKET;
use crate::rt::output::complain;
use crate::rt::syscall::exit_now;

/// The first descriptor that is passed, sd_listen_fds(3).
const FIRST: i32 = 3;
/// As shells have it: the program could not be started.
const NOT_STARTED: u8 = 127;

/// How the proxy is started: as this process was, without `--keeper`.
pub(super) struct ProxyCommand {
    program: PathBuf,
    words: Vec<OsString>,
}

impl ProxyCommand {
    pub(super) fn of_this_process() -> io::Result<Self> {
        let words = std::env::args_os().skip(1);
        Ok(Self {
            program: std::env::current_exe()?,
            words: words.filter(|word| word != "--keeper").collect(),
        })
    }

    /// Starts it; its process id.
    ///
    /// It gets SIGTERM if the keeper is killed: another keeper that is started then finds the addresses free soon.
    #[allow(unsafe_code, reason = "std can't fork")]
    pub(super) fn start(&self, held: &HeldSockets) -> io::Result<u32> {
        // SAFETY: this process has one thread, so that the child may do whatever it likes.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(child.as_raw().unsigned_abs()),
            ForkResult::Child => {
                let error = self.become_proxy(held);
                complain(&format!(
                    "keeper: can't start {}: {error}",
                    self.program.display()
                ));
                exit_now(NOT_STARTED)
            }
        }
    }

    /// Returns only what went wrong.
    fn become_proxy(&self, held: &HeldSockets) -> io::Error {
        let parent = std::os::unix::process::parent_id();
        if let Err(error) = set_pdeathsig(Signal::SIGTERM) {
            return error.into();
        }
        // It may have been killed before that.
        if std::os::unix::process::parent_id() != parent {
            exit_now(NOT_STARTED);
        }
        if footprint::is_slim() {
            let _ = set_thp_disable(false);
        }
        let names = match hand_down(held) {
            Ok(names) => names,
            Err(error) => return error,
        };
        // What the keeper takes is blocked in it, and masks are inherited.
        if let Err(error) = SigSet::empty().thread_set_mask() {
            return error.into();
        }
        Command::new(&self.program)
            .args(&self.words)
            .env("LISTEN_PID", std::process::id().to_string())
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env(NOTIFY_SOCKET, held.address())
            .env(FDSTORE, MOST.to_string())
            .env(KEPT, parent.to_string())
            .env_remove("LAMEDUCK_KEEPER")
            // The keeper passes on what the proxy says for it.
            .env_remove("WATCHDOG_PID")
            .exec()
    }
}

/// Puts the descriptors where the proxy looks for them; their names.
#[allow(unsafe_code, reason = "a descriptor's number is to be this one")]
fn hand_down(held: &HeldSockets) -> io::Result<Vec<String>> {
    let count = i32::try_from(held.count()).unwrap_or(i32::MAX - FIRST);
    let mut names = Vec::new();
    // First out of the way of those numbers.
    let mut aside: Vec<OwnedFd> = Vec::new();
    for (name, descriptor) in held.all() {
        names.push(name.to_owned());
        aside.push(fcntl_dupfd_cloexec(descriptor, FIRST + count)?);
    }
    for (number, descriptor) in (FIRST..).zip(&aside) {
        // SAFETY: whatever has this number, no code here uses it any more: this process becomes another program, or
        // exits.
        if unsafe { libc::dup2(descriptor.as_raw_fd(), number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(names)
}

/// Those that have ended since the last time.
pub(super) fn reap_all() -> Vec<(u32, ProcessExit)> {
    std::iter::from_fn(|| match syscall::reap() {
        syscall::ReapedChild::Ended(pid, end) => Some((pid, end)),
        syscall::ReapedChild::Running | syscall::ReapedChild::Nobody => None,
    })
    .collect()
}
