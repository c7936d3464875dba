//! The proxy's process: started with the kept descriptors from number 3 on, and reaped.

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
use super::held::{HeldSockets, MAX_SOCKETS};
use crate::core::launch::ProcessExit;
use crate::net::kept_socket::{FDSTORE, KEPT};
use crate::net::sd_notify::NOTIFY_SOCKET;
use crate::rt::output::complain;
use crate::rt::syscall::exit_now;

/// First descriptor that is passed: sd_listen_fds(3).
const FIRST_DESCRIPTOR: i32 = 3;
/// Exit code if the program could not be started, as shells use it.
const NOT_STARTED: u8 = 127;

/// Command of the proxy: the same as this process's, without `--keeper`.
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

    /// Starts the proxy; returns its process id.
    ///
    /// It gets SIGTERM if the keeper is killed, so that another keeper soon finds the addresses free.
    #[allow(unsafe_code, reason = "std can't fork")]
    pub(super) fn start(&self, held: &HeldSockets) -> io::Result<u32> {
        // SAFETY: this process has only one thread, so the child may do anything.
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

    /// Executes the proxy; returns only after an error.
    fn become_proxy(&self, held: &HeldSockets) -> io::Error {
        let parent = std::os::unix::process::parent_id();
        if let Err(error) = set_pdeathsig(Signal::SIGTERM) {
            return error.into();
        }
        // The keeper may have been killed before the last call.
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
        // The keeper's blocked signals are blocked in the child, too, because it inherits the mask.
        if let Err(error) = SigSet::empty().thread_set_mask() {
            return error.into();
        }
        Command::new(&self.program)
            .args(&self.words)
            .env("LISTEN_PID", std::process::id().to_string())
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env(NOTIFY_SOCKET, held.address())
            .env(FDSTORE, MAX_SOCKETS.to_string())
            .env(KEPT, parent.to_string())
            .env_remove("LAMEDUCK_KEEPER")
            // The proxy sends its notifications to the keeper, which passes them on.
            .env_remove("WATCHDOG_PID")
            .exec()
    }
}

/// Moves the descriptors to the numbers that the proxy expects; returns their names.
#[allow(unsafe_code, reason = "a descriptor's number is to be this one")]
fn hand_down(held: &HeldSockets) -> io::Result<Vec<String>> {
    let count = i32::try_from(held.count()).unwrap_or(i32::MAX - FIRST_DESCRIPTOR);
    let mut names = Vec::new();
    // They are first moved away from those numbers.
    let mut aside: Vec<OwnedFd> = Vec::new();
    for (name, descriptor) in held.all() {
        names.push(name.to_owned());
        aside.push(fcntl_dupfd_cloexec(descriptor, FIRST_DESCRIPTOR + count)?);
    }
    for (number, descriptor) in (FIRST_DESCRIPTOR..).zip(&aside) {
        // SAFETY: no code here uses a descriptor with this number any more: this process executes another program, or
        // exits.
        if unsafe { libc::dup2(descriptor.as_raw_fd(), number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(names)
}

/// Reaps all children that have ended.
pub(super) fn reap_all() -> Vec<(u32, ProcessExit)> {
    std::iter::from_fn(|| match syscall::reap() {
        syscall::ReapedChild::Ended(pid, end) => Some((pid, end)),
        syscall::ReapedChild::Running | syscall::ReapedChild::Nobody => None,
    })
    .collect()
}
