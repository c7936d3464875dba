//! System calls that neither std nor tokio offers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{SendFlags, send};
use rustix::process::{
    Pid, Resource, Signal, getrlimit, kill_process, kill_process_group, test_kill_process,
    test_kill_process_group,
};

/// Nanoseconds of `CLOCK_MONOTONIC`. It is the same clock for all processes of a machine, so that times which a client,
/// an app and a signaller wrote down can be put in order. [`std::time::Instant`] does not reveal its number.
#[allow(
    unsafe_code,
    reason = "read several times for each request: the safe forms look for errors that this clock doesn't have"
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

/// Most descriptors that this process may have open (the soft limit of `RLIMIT_NOFILE`); `None`: unlimited.
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Sends `signal` to the process `pid`; signal 0 only checks whether that would be possible.
///
/// # Errors
/// Those of kill(2), for example that there is no such process; [`io::ErrorKind::InvalidInput`] for an impossible
/// process id or signal.
pub fn kill(pid: u32, signal: i32) -> io::Result<()> {
    let process = process_id(pid)?;
    match named(signal)? {
        Some(signal) => kill_process(process, signal)?,
        None => test_kill_process(process)?,
    }
    Ok(())
}

/// Sends `signal` to all processes of the group that `leader` leads.
///
/// # Errors
/// Those of kill(2), for example that there is no such group; [`io::ErrorKind::InvalidInput`] as for [`kill`].
pub fn kill_group(leader: u32, signal: i32) -> io::Result<()> {
    let leader = process_id(leader)?;
    match named(signal)? {
        Some(signal) => kill_process_group(leader, signal)?,
        None => test_kill_process_group(leader)?,
    }
    Ok(())
}

/// Refuses process 0: to kill(2), it means the caller's own group.
fn process_id(pid: u32) -> io::Result<Pid> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// A signal that has a name; `None` for signal 0, which is none.
fn named(signal: i32) -> io::Result<Option<Signal>> {
    match Signal::from_named_raw(signal) {
        None if signal != 0 => Err(io::ErrorKind::InvalidInput.into()),
        named => Ok(named),
    }
}

/// Has the kernel kill the child when the thread that starts it ends, and puts the child into a process group of its
/// own. Ctrl-C in a terminal then reaches only the parent, which stops its children in order.
#[allow(unsafe_code, reason = "pre_exec is unsafe by itself")]
pub fn die_with_parent(command: &mut Command) {
    command.process_group(0);
    // SAFETY: prctl is async-signal-safe, and the closure neither allocates nor takes a lock.
    #[cfg(target_os = "linux")]
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            Ok(())
        });
    }
}

/// Makes orphans among this process's descendants its children, instead of children of process 1 (child subreaper).
///
/// # Errors
/// Those of prctl(2).
pub fn adopt_orphans() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_child_subreaper(true)?;
    Ok(())
}

/// Ends the process at once, without running exit handlers, which may be stuck.
#[allow(
    unsafe_code,
    reason = "std's exit runs handlers, and waits where another thread exits"
)]
pub fn exit_now(code: u8) -> ! {
    // SAFETY: takes an integer, and does not return.
    unsafe { libc::_exit(code.into()) }
}

/// Writes to a descriptor that other code owns.
///
/// # Errors
/// Those of write(2).
pub fn write(descriptor: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::write(descriptor, bytes)?)
}

/// Writes to a socket that other code owns, as much as fits without waiting.
///
/// # Errors
/// Those of send(2).
pub fn send_now(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(send(socket, bytes, flags)?)
}

/// Whether a descriptor is writable now or becomes so within `patience`. An error counts as writable, because the write
/// will report it.
pub fn is_writable(descriptor: impl AsFd, patience: Duration) -> bool {
    let mut polled = [PollFd::new(&descriptor, PollFlags::OUT)];
    poll_for(&mut polled, Some(patience)).is_ok_and(|ready| ready > 0)
}

/// Whether a descriptor is readable now or becomes so within `patience`. Its end or an error counts, too.
pub fn is_readable(descriptor: impl AsFd, patience: Duration) -> bool {
    let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
    poll_for(&mut polled, Some(patience)).is_ok_and(|ready| ready > 0)
}

/// Waits until one of the descriptors is ready, or until `timeout`; returns how many are.
///
/// # Errors
/// Those of poll(2); [`io::ErrorKind::Interrupted`] if a signal arrived.
pub fn poll_for(polled: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    // A time-out that is too long for poll(2) means no limit.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    Ok(poll(polled, timeout.as_ref())?)
}

/// Takes ownership of a descriptor with this number that the parent process has passed on. From then on, children don't
/// inherit it.
///
/// # Errors
/// No descriptor of this number was passed on, it was taken before, or it is a standard stream, which std owns.
#[allow(
    unsafe_code,
    reason = "a number from outside becomes a descriptor of ours"
)]
pub fn adopt_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    if number < FIRST_INHERITED {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    with_inherited(number, |inherited| {
        fcntl_setfd(inherited, FdFlags::CLOEXEC)?;
        // SAFETY: it is open, nobody here owns it (see `with_inherited`), and from now on its flag marks it as taken.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    })
}

/// A copy of a descriptor with this number that was passed on; the original stays, and children inherit it.
///
/// # Errors
/// As for [`adopt_descriptor`]; or the process has no descriptor left.
pub fn duplicate_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    with_inherited(number, |inherited| {
        Ok(fcntl_dupfd_cloexec(inherited, FIRST_INHERITED)?)
    })
}

/// Lower numbers are standard streams.
const FIRST_INHERITED: RawFd = 3;

/// Calls `act` with a descriptor that was passed on at the start of this process and was not taken yet. It lacks
/// `FD_CLOEXEC`, or else it would not have been passed on; everything opened here has that flag from the first moment
/// on.
#[allow(unsafe_code, reason = "borrowing by number is unsafe by itself")]
fn with_inherited<T>(
    number: RawFd,
    act: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
) -> io::Result<T> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    // SAFETY: takes integers; a number that isn't open is an error.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and nobody here owns it who could close it meanwhile; the lock allows one taker at a time.
    act(unsafe { BorrowedFd::borrow_raw(number) })
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn kill_of_process_zero_is_refused_and_does_not_reach_our_own_group() {
        for kill in [kill, kill_group] {
            assert_eq!(kill(0, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            let own = std::process::id();
            assert_eq!(
                kill(own, 99).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
        }
        assert!(kill(std::process::id(), 0).is_ok());
    }

    #[test]
    fn descriptor_that_this_process_has_opened_is_not_adopted() {
        use std::os::fd::AsRawFd as _;
        let file = std::fs::File::open("/dev/null").unwrap();
        for number in [-1, 1, file.as_raw_fd(), 1_000_000] {
            let error = adopt_descriptor(number).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{number}");
        }
        assert!(duplicate_descriptor(file.as_raw_fd()).is_err());
        assert!(file.metadata().is_ok(), "it is still open");
    }

    #[test]
    fn inherited_descriptor_is_adopted_once() {
        use std::io::Read as _;
        use std::os::fd::IntoRawFd as _;
        let (mut reader, writer) = io::pipe().unwrap();
        // Without the flag, as after exec.
        fcntl_setfd(&writer, FdFlags::empty()).unwrap();
        let number = writer.into_raw_fd();
        let copy = duplicate_descriptor(number).unwrap();
        let adopted = adopt_descriptor(number).unwrap();
        assert!(adopt_descriptor(number).is_err());
        assert!(duplicate_descriptor(number).is_err());
        write(&copy, b"copy, ").unwrap();
        write(&adopted, b"adopted").unwrap();
        drop((copy, adopted));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "copy, adopted");
    }
}
