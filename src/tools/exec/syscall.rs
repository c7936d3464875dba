//! System calls of the launcher that std does not offer.

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

/// Signals that the launcher handles; all others have their default action.
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

/// Longest wait for a supervisor that does not read its socket.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// Limit of the descriptors to close: a launcher has fewer before it forks, whatever the process's limit is.
const MAX_DESCRIPTORS: u64 = 4096;

/// The handled signals, which can be read from a descriptor.
#[derive(Debug)]
pub(crate) struct LauncherSignals(SignalFd);

impl LauncherSignals {
    /// Blocks the signals, so that they wait to be read. Must be called before any thread is started, because threads
    /// inherit the mask.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub(crate) fn take() -> io::Result<Self> {
        // If a supervisor ignores SIGCHLD, the app inherits that, and the kernel would reap the app first.
        set_default(libc::SIGCHLD);
        let taken = SigSet::from_iter(TAKEN);
        taken.thread_block()?;
        process_signals::queue_of(&taken).map(Self)
    }

    /// Next pending signal, if there is one.
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

/// Sets the default action of a signal, whatever was inherited.
#[allow(unsafe_code, reason = "std knows no signals")]
fn set_default(signal: i32) {
    // SAFETY: integers only; the default action needs no handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Waits until one of the two is readable, or until `timeout`.
pub(crate) fn wait(one: impl AsFd, other: impl AsFd, timeout: Option<Duration>) {
    let mut polled = [
        PollFd::new(&one, PollFlags::IN),
        PollFd::new(&other, PollFlags::IN),
    ];
    // An error (EINTR) only makes the loop check earlier.
    let _ = poll_for(&mut polled, timeout);
}

/// Makes orphans of the app children of this process, so that it can reap them.
pub(crate) fn adopt_orphans() {
    // Old kernels refuse; then orphans become children of init as usual.
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

/// Changes the environment of this process, which the app inherits.
///
/// # Safety
/// The process must have one thread: another one could read the environment at the same time.
#[allow(unsafe_code, reason = "the environment is no thread's own")]
pub(crate) unsafe fn set_variable(name: &str, value: Option<&str>) {
    // SAFETY: by the caller, there is no other thread.
    unsafe {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    }
}

/// Releases pages of a file that were never written to; the next access reads them from the page cache again.
///
/// # Safety
/// All mappings there must be of files and not writable, so that no content is lost.
#[allow(unsafe_code, reason = "std has no madvise")]
pub(crate) unsafe fn forget_pages(from: usize, length: usize) {
    // SAFETY: the caller knows the mappings there; an invalid address is only an error.
    unsafe { libc::madvise(from as *mut libc::c_void, length, libc::MADV_DONTNEED) };
}

/// Starts the app in a session of its own. It is killed if the launcher dies. If it inherits sockets that were meant
/// for the launcher, it is told its own process id (`LISTEN_PID`, sd_listen_fds(3)).
///
/// # Errors
/// Those of fork and exec.
#[allow(unsafe_code, reason = "pre_exec is unsafe by itself")]
pub(crate) fn start(command: &mut Command) -> io::Result<u32> {
    let parent = std::process::id();
    // If another process is meant, its descriptors are not for the app either.
    let sockets = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == parent.to_string());
    let slim = super::footprint::is_slim();
    // SAFETY: after the fork of a process with one thread, everything may be called. Nothing in here panics.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // The launcher may have been killed before the last call.
            if std::os::unix::process::parent_id() != parent {
                exit_now(125);
            }
            if slim {
                let _ = set_thp_disable(false);
            }
            // The launcher's blocked signals are blocked in the child, too, because it inherits the mask.
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

/// Forks a process that waits until the other end of `line` is closed. If nothing was written to it before, it kills
/// the process group of `leader`.
///
/// # Errors
/// Those of fork(2).
#[allow(unsafe_code, reason = "std can't fork")]
pub(crate) fn fork_guard(line: impl AsFd, leader: u32) -> io::Result<u32> {
    // SAFETY: however many threads there are, the child only calls async-signal-safe functions until it exits: it
    // allocates nothing, takes no lock and runs no destructor.
    match unsafe { libc::fork() } {
        0 => guard(line, leader),
        pid if pid > 0 => Ok(pid.unsigned_abs()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs the forked guard process.
fn guard(line: impl AsFd, leader: u32) -> ! {
    // Signals for the launcher's group must not reach this process.
    let _ = rustix::process::setsid();
    let _ = SigSet::all().thread_set_mask();
    // Other processes may wait for the end of a descriptor of the app, so this one must not keep it open.
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

/// Closes this descriptor and all higher ones. Kernels before 5.9, and containers that filter system calls, lack
/// close_range(2): there they are closed one by one.
#[allow(unsafe_code, reason = "std closes only what it opened")]
fn close_from(first: RawFd) {
    let limit = crate::rt::syscall::open_files().unwrap_or(u64::MAX);
    let end = RawFd::try_from(limit.min(MAX_DESCRIPTORS)).unwrap_or(RawFd::MAX);
    // SAFETY: integers only; a number that is not open is an error. The forked process that calls this uses none of its
    // descriptors afterwards, and runs no destructor that would.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0u32) == 0 {
            return;
        }
        for descriptor in first..end {
            libc::close(descriptor);
        }
    }
}

/// The number in decimal, with a zero byte at its end.
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

/// Result of reaping a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReapedChild {
    /// This child has ended.
    Ended(u32, ProcessExit),
    /// All remaining children still run.
    Running,
    /// There are no children.
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

/// Dies of this signal, as the app did. Returns only if the kernel does not allow it (as process 1).
#[allow(
    unsafe_code,
    reason = "safe forms know the signals with names, and an app may die of another"
)]
pub(crate) fn die_of(signal: i32) {
    // A second core file, of the launcher, would only hide that of the app.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = rustix::process::setrlimit(Resource::Core, none);
    set_default(signal);
    // SAFETY: a sigset is plain data that sigemptyset initialises; the rest are integers and a pointer to it. Only this
    // signal is unblocked: otherwise the process might die of another pending one.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        libc::kill(libc::getpid(), signal);
    }
}

/// Writes to an inherited descriptor.
///
/// # Errors
/// Those of write(2); [`io::ErrorKind::WouldBlock`] if its reader does not read.
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
