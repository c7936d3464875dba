//! The few system calls that neither std nor tokio offers.

use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// Nanoseconds of `CLOCK_MONOTONIC`: one clock for all processes of a machine, so that what a client, an app
/// and a signaller wrote down can be put in order. [`std::time::Instant`] doesn't give out its number.
#[allow(
    unsafe_code,
    reason = "clock_gettime has no safe form whose number other processes understand"
)]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid, writable timespec for the whole call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How many descriptors this process may have open (the soft limit of `RLIMIT_NOFILE`); 0 where that is not known.
#[allow(unsafe_code, reason = "std knows no resource limits")]
pub fn open_files() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call takes a pointer to a live `rlimit` of ours and nothing else.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => limit.rlim_cur,
        _ => 0,
    }
}

/// Sends `signal` to the process `pid`.
///
/// # Errors
/// What kill(2) says, e.g. that there is no such process.
#[allow(unsafe_code, reason = "std can only send SIGKILL")]
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: kill takes two integers and touches no memory of ours.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends `signal` to all processes of the group that `leader` leads, its helpers included.
///
/// # Errors
/// What kill(2) says, e.g. that there is no such group.
#[allow(unsafe_code, reason = "std knows no process groups")]
pub fn kill_group(leader: u32, signal: i32) -> io::Result<()> {
    let leader = i32::try_from(leader).map_err(io::Error::other)?;
    // SAFETY: as in `kill`.
    match unsafe { libc::kill(-leader, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the child die with the thread that starts it, and puts it into a process group of its own, so that
/// Ctrl-C in a terminal reaches the parent alone, which then stops its children in good order.
#[allow(unsafe_code, reason = "pre_exec is unsafe by itself")]
pub fn die_with_parent(command: &mut Command) {
    command.process_group(0);
    // SAFETY: prctl is async-signal-safe, and the closure neither allocates nor takes a lock.
    #[cfg(target_os = "linux")]
    unsafe {
        command.pre_exec(|| {
            match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
}

/// Ends the process without running anything on the way, which may be stuck.
#[allow(
    unsafe_code,
    reason = "std's exit runs handlers, and waits where another thread exits"
)]
pub fn exit_now(code: u8) -> ! {
    // SAFETY: an integer; it does not return.
    unsafe { libc::_exit(code.into()) }
}

/// Writes to a descriptor that somebody else owns.
///
/// # Errors
/// Those of write(2).
#[allow(unsafe_code, reason = "std owns what it writes to")]
pub fn write(descriptor: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: pointer and length are the slice's; a descriptor that is not open is an error, nothing else.
    let written = unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Writes to a socket that somebody else owns what it takes at once.
///
/// # Errors
/// Those of send(2).
#[allow(unsafe_code, reason = "std sends only with its own flags")]
pub fn send_now(socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: as in `write`.
    let sent = unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Whether something can be written to a descriptor now or within `patience`; an error counts as that, too, because
/// the write will tell it.
#[allow(unsafe_code, reason = "std has no poll")]
pub fn is_writable(descriptor: RawFd, patience: Duration) -> bool {
    let mut polled = libc::pollfd {
        fd: descriptor,
        events: libc::POLLOUT,
        revents: 0,
    };
    let milliseconds = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one entry that is writable for the whole call.
    unsafe { libc::poll(&mut polled, 1, milliseconds) > 0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_clock_goes_forward() {
        let before = monotonic_ns();
        assert!(before > 0);
        assert!(monotonic_ns() >= before);
    }

    #[test]
    fn kill_sends_the_signal() {
        let mut command = Command::new("sleep");
        die_with_parent(command.arg("60"));
        let mut child = command.spawn().unwrap();
        kill(child.id(), libc::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    }
}
