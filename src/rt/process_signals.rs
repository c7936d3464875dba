//! Signals that steer the proxy. They are blocked in all of its threads and read from a descriptor.
//!
//! A handler would run on whichever thread the kernel chooses, and what it has noted is lost when the process becomes
//! another program (exec) before that was read. A signal that is blocked waits in the kernel, until it is read here
//! or the next program takes it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals.
pub const STEERING: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

fn steering() -> SigSet {
    SigSet::from_iter(STEERING)
}

/// Has them wait, as far as this thread and those that it starts from now on are concerned.
///
/// # Errors
/// Those of sigmask(3).
pub fn block() -> io::Result<()> {
    Ok(steering().thread_block()?)
}

/// Has them do in this thread what they do by default, or what its handlers do.
///
/// # Errors
/// Those of sigmask(3).
pub fn unblock() -> io::Result<()> {
    Ok(steering().thread_unblock()?)
}

/// Where they are read that wait, without blocking.
///
/// # Errors
/// Those of signalfd(2).
pub fn open_queue() -> io::Result<SignalFd> {
    queue_of(&steering())
}

/// A queue of other signals, which the caller has blocked.
///
/// # Errors
/// Those of signalfd(2).
pub fn queue_of(blocked: &SigSet) -> io::Result<SignalFd> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(blocked, flags)?)
}

/// Unblocks the signals in the program that `command` starts: a mask is inherited, and not every program resets it.
#[allow(unsafe_code, reason = "pre_exec is unsafe by itself")]
pub fn unblock_in(command: &mut Command) {
    // SAFETY: sigmask is async-signal-safe, and the closure neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(unblock);
    }
}
