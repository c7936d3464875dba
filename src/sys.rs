//! The few system calls that neither std nor tokio offers.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

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
