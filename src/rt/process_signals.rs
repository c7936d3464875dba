//! Signals that control the proxy. They are blocked in all of its threads, and read from a descriptor.
//!
//! A handler would run on whichever thread the kernel chooses, and a flag that it sets would be lost if the process
//! executes another program (exec) before the flag is read. A blocked signal stays pending in the kernel until it is
//! read here, or by the next program.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that control the proxy.
pub const CONTROL_SIGNALS: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

fn steering() -> SigSet {
    SigSet::from_iter(CONTROL_SIGNALS)
}

/// Blocks these signals in this thread and in those that it starts from now on.
///
/// # Errors
/// Those of sigmask(3).
pub fn block() -> io::Result<()> {
    Ok(steering().thread_block()?)
}

/// Unblocks these signals in this thread.
///
/// # Errors
/// Those of sigmask(3).
pub fn unblock() -> io::Result<()> {
    Ok(steering().thread_unblock()?)
}

/// Opens a non-blocking descriptor from which pending signals are read.
///
/// # Errors
/// Those of signalfd(2).
pub fn open_queue() -> io::Result<SignalFd> {
    queue_of(&steering())
}

/// Opens such a descriptor for other signals, which the caller has blocked.
///
/// # Errors
/// Those of signalfd(2).
pub fn queue_of(blocked: &SigSet) -> io::Result<SignalFd> {
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(blocked, flags)?)
}

/// Unblocks these signals in the program that `command` starts: it inherits the mask, and not every program resets it.
#[allow(unsafe_code, reason = "pre_exec is unsafe by itself")]
pub fn unblock_in(command: &mut Command) {
    // SAFETY: sigmask is async-signal-safe, and the closure neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(unblock);
    }
}
