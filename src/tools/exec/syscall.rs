//! The system calls of the launcher that std does not offer.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::prctl::set_thp_disable;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Resource, Rlimit, WaitOptions};

use crate::core::launch::ProcessExit;
use crate::rt::process_signals;
use crate::rt::syscall::{exit_now, is_writable, kill_group, poll_for};

/// Signals that the launcher takes itself; whatever else comes does what it does by default.
const TAKEN: [Signal; 8] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCHLD,
];

/// A supervisor that does not read its socket must not delay the launcher for longer.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// A launcher has opened fewer before it forks, wherever its limit may be.
const MOST_DESCRIPTORS: u64 = 4096;

/// The signals, as something to read from.
#[derive(Debug)]
pub(crate) struct LauncherSignals(SignalFd);

impl LauncherSignals {
    /// Takes the signals: from now on they wait to be read. To be called before any thread is started: threads
    /// inherit it.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub(crate) fn take() -> io::Result<Self> {
        // A supervisor that ignores it hands that on, and the kernel then reaps the app before we do.
        set_default(libc::SIGCHLD);
        let taken = SigSet::from_iter(TAKEN);
        taken.thread_block()?;
        process_signals::queue_of(&taken).map(Self)
    }

    /// The next signal, if one is there.
    pub(crate) fn read(&mut self) -> Option<i32> {
        let next = self.0.read_signal().ok().flatten()?;
        i32::try_from(next.ssi_signo).ok()
    }
}

impl AsFd for LauncherSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives a signal its default action, whatever we have inherited.
#[allow(unsafe_code, reason = "std knows no signals")]
fn set_default(signal: i32) {
    // SAFETY: integers; the default action needs no handler of ours.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Waits until one of the two can be read, or until `timeout`.
pub(crate) fn wait(one: impl AsFd, other: impl AsFd, timeout: Option<Duration>) {
    let mut polled = [
        PollFd::new(&one, PollFlags::IN),
        PollFd::new(&other, PollFlags::IN),
    ];
    // An error (EINTR) only means to look earlier.
    let _ = poll_for(&mut polled, timeout);
}

/// Orphans of the app become our children, so that we know of them and reap them.
pub(crate) fn adopt_orphans() {
    // Old kernels refuse: then orphans go to init as ever.
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

/// Changes our own environment, which the app inherits.
///
/// # Safety
/// There is one thread: another could read the environment meanwhile.
#[allow(unsafe_code, reason = "the environment is no thread's own")]
pub(crate) unsafe fn set_variable(name: &str, value: Option<&str>) {
    // SAFETY: the caller has no other thread.
    unsafe {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    }
}

/// Lets go of pages of a file that nothing was written to: the next access reads them from the page cache again.
///
/// # Safety
/// Whatever is mapped there is of files and can't be written to, so that no content is lost.
#[allow(unsafe_code, reason = "std has no madvise")]
pub(crate) unsafe fn forget_pages(from: usize, length: usize) {
    // SAFETY: the caller knows what is mapped there; an address that is none is an error, nothing else.
    unsafe { libc::madvise(from as *mut libc::c_void, length, libc::MADV_DONTNEED) };
}

/// Starts the app in a session of its own, to be killed with us, and to be told its own process id if it is handed
/// sockets (`LISTEN_PID`, sd_listen_fds(3)) that were meant for us.
///
/// # Errors
/// Those of fork and exec.
#[allow(unsafe_code, reason = "pre_exec is unsafe by itself")]
pub(crate) fn start(command: &mut Command) -> io::Result<u32> {
    let parent = std::process::id();
    // Where another process is meant, its descriptors are not the app's either.
    let sockets = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == parent.to_string());
    let slim = super::footprint::is_slim();
    // SAFETY: between fork and exec of a process with one thread, everything may be called. Nothing in here panics.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // We may have been killed before that.
            if std::os::unix::process::parent_id() != parent {
                exit_now(125);
            }
            if slim {
                let _ = set_thp_disable(false);
            }
            // What the launcher takes is blocked in it, and masks are inherited.
            SigSet::empty().thread_set_mask()?;
            if sockets {
                let mut digits = [0u8; 12];
                digits_of(std::process::id(), &mut digits);
                libc::setenv(c"LISTEN_PID".as_ptr(), digits.as_ptr().cast(), 1);
            }
            Ok(())
        });
    }
    command.spawn().map(|child| child.id())
}

/// Forks a process that waits for the other end of `line` to close. If nothing was written to it by then, it kills
/// the group that `leader` leads.
///
/// # Errors
/// Those of fork(2).
#[allow(unsafe_code, reason = "std can't fork")]
pub(crate) fn fork_guard(line: impl AsFd, leader: u32) -> io::Result<u32> {
    // SAFETY: however many threads there are, the child calls only what is async-signal-safe until it exits: it
    // allocates nothing, takes no lock and runs no destructor.
    match unsafe { libc::fork() } {
        0 => guard(line, leader),
        pid if pid > 0 => Ok(pid.unsigned_abs()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the forked process does.
fn guard(line: impl AsFd, leader: u32) -> ! {
    // Whatever is sent to the launcher's group must not reach this one.
    let _ = rustix::process::setsid();
    let _ = SigSet::all().thread_set_mask();
    // No other process may wait for our end of a descriptor that was handed to the app.
    let _ = rustix::stdio::dup2_stdin(line);
    close_from(1);
    let mut byte = [0u8];
    loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut byte) {
            Ok(1) => exit_now(0),
            Err(rustix::io::Errno::INTR) => {}
            _ => break,
        }
    }
    let _ = kill_group(leader, libc::SIGKILL);
    exit_now(0)
}

/// Closes this descriptor and all above it. Kernels before 5.9, and containers that filter system calls, know no
/// close_range(2): there they are closed one by one.
#[allow(unsafe_code, reason = "std closes only what it opened")]
fn close_from(first: RawFd) {
    let limit = crate::rt::syscall::open_files().unwrap_or(u64::MAX);
    let end = RawFd::try_from(limit.min(MOST_DESCRIPTORS)).unwrap_or(RawFd::MAX);
    // SAFETY: integers; a number that is not open is an error, nothing else. The forked process that calls this uses
    // none of its descriptors from here on, and runs no destructor that would.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0u32) == 0 {
            return;
        }
        for descriptor in first..end {
            libc::close(descriptor);
        }
    }
}

/// The number in decimal, with a zero byte behind it.
fn digits_of(mut number: u32, into: &mut [u8; 12]) {
    let mut reversed = [0u8; 11];
    let mut length = 0;
    for place in &mut reversed {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        length += 1;
        if number == 0 {
            break;
        }
    }
    for (to, from) in into.iter_mut().zip(reversed[..length].iter().rev()) {
        *to = *from;
    }
    into[length] = 0;
}

/// What became of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReapedChild {
    /// This one ended.
    Ended(u32, ProcessExit),
    /// All that are left still run.
    Running,
    /// There is none.
    Nobody,
}

/// Reaps one child, if one has ended.
pub(crate) fn reap() -> ReapedChild {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(None) => ReapedChild::Running,
        Ok(Some((pid, status))) => {
            let fate = match status.terminating_signal() {
                Some(signal) => ProcessExit::Signal(signal),
                None => ProcessExit::Code(status.exit_status().unwrap_or_default()),
            };
            ReapedChild::Ended(pid.as_raw_nonzero().get().unsigned_abs(), fate)
        }
        Err(_) => ReapedChild::Nobody,
    }
}

/// Dies of this signal, as the app did. Returns only where the kernel does not let us (as process 1).
#[allow(
    unsafe_code,
    reason = "safe forms know the signals with names, and an app may die of another"
)]
pub(crate) fn die_of(signal: i32) {
    // A second core file of the launcher would only hide the app's.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = rustix::process::setrlimit(Resource::Core, none);
    set_default(signal);
    // SAFETY: a sigset is plain data that sigemptyset initialises; integers and a pointer to it. Only this signal is let
    // through: another that waits would be the one that we die of.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        libc::kill(libc::getpid(), signal);
    }
}

/// Writes to a descriptor that was handed to us.
///
/// # Errors
/// Those of write(2); [`io::ErrorKind::WouldBlock`] where it is not read.
pub(crate) fn write_to(descriptor: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    if !is_writable(&descriptor, NOTIFY_TIMEOUT) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    match crate::rt::syscall::write(&descriptor, bytes)? {
        written if written == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_c_strings() {
        let mut digits = [0xff; 12];
        for number in [0, 7, 10, 4_194_304, u32::MAX] {
            digits_of(number, &mut digits);
            let end = digits.iter().position(|byte| *byte == 0);
            let text = std::str::from_utf8(&digits[..end.unwrap_or(12)]);
            assert_eq!(text, Ok(number.to_string().as_str()));
        }
    }
}
