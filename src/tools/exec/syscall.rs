//! The system calls of the launcher that std does not offer.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use crate::core::launch::Fate;
use crate::rt::syscall::is_writable;

/// Signals that the launcher takes itself; whatever else comes does what it does by default.
const TAKEN: [i32; 8] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGCHLD,
];

/// A supervisor that does not read what it is told must not hold us up for longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// A launcher has opened fewer before it forks, wherever its limit may be.
const MOST_DESCRIPTORS: libc::rlim_t = 4096;

/// The signals, as something to read from.
#[derive(Debug)]
pub struct Signals(File);

impl Signals {
    /// Takes the signals: from now on they wait to be read. To be called before any thread is started: threads
    /// inherit it.
    ///
    /// # Errors
    /// Those of signalfd(2).
    #[allow(unsafe_code, reason = "std knows no signals")]
    pub fn take() -> io::Result<Self> {
        // SAFETY: a sigset is plain data that sigemptyset initialises; all pointers are to it; a descriptor that
        // signalfd returned is open and nobody else's. The default action needs no handler of ours.
        unsafe {
            // A supervisor that ignores it hands that on, and the kernel then reaps the app before we do.
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in TAKEN {
                libc::sigaddset(&mut set, signal);
            }
            match libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) {
                0 => {}
                error => return Err(io::Error::from_raw_os_error(error)),
            }
            let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(File::from(OwnedFd::from_raw_fd(fd))))
        }
    }

    /// The next signal, if one is there.
    pub fn read(&mut self) -> Option<i32> {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        self.0.read_exact(&mut info).ok()?;
        // `ssi_signo` is the first field.
        let number = info.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))?;
        i32::try_from(number).ok()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Waits until one of the descriptors can be read, or until `timeout`.
#[allow(unsafe_code, reason = "std has no poll")]
pub fn wait(descriptors: &[RawFd], timeout: Option<Duration>) {
    let mut polled: Vec<libc::pollfd> = descriptors
        .iter()
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    // Rounded up: a deadline must have passed when we look at it.
    let milliseconds = timeout.map_or(-1, |timeout| {
        i32::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
    });
    // SAFETY: pointer and length are the vector's. An error (EINTR) only means to look earlier.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as _, milliseconds) };
}

/// Orphans of the app become our children, so that we know of them and reap them.
#[allow(unsafe_code, reason = "std has no prctl")]
pub fn adopt_orphans() {
    // SAFETY: prctl with integers touches no memory. Old kernels refuse: then orphans go to init as ever.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as libc::c_ulong) };
}

/// Changes our own environment, which the app inherits.
#[allow(
    unsafe_code,
    reason = "safe while there is one thread, and that is so until the app is registered"
)]
pub fn set_variable(name: &str, value: Option<&str>) {
    // SAFETY: the launcher has no other thread yet that could read the environment.
    match value {
        Some(value) => unsafe { std::env::set_var(name, value) },
        None => unsafe { std::env::remove_var(name) },
    }
}

/// Lets go of pages of a file that nothing was written to: whoever touches one gets it from the page cache again.
#[allow(unsafe_code, reason = "std has no madvise")]
pub fn forget_pages(from: usize, length: usize) {
    // SAFETY: the caller names mappings of files that can't be written to, so that no content is lost; an address that
    // is none is an error, nothing else.
    unsafe { libc::madvise(from as *mut libc::c_void, length, libc::MADV_DONTNEED) };
}

/// Starts the app in a session of its own, to be killed with us, and to be told its own process id if it is handed
/// sockets (`LISTEN_PID`, sd_listen_fds(3)) that were meant for us.
///
/// # Errors
/// Those of fork and exec.
#[allow(unsafe_code, reason = "pre_exec is unsafe by itself")]
pub fn start(command: &mut Command) -> io::Result<u32> {
    let parent = std::process::id();
    // Where another process is meant, its descriptors are not the app's either.
    let sockets = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == parent.to_string());
    let slim = super::footprint::is_slim();
    // SAFETY: between fork and exec of a process with one thread, everything may be called. Nothing in here panics.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) != 0 {
                return Err(io::Error::last_os_error());
            }
            // We may have been killed before that.
            if libc::getppid() as u32 != parent {
                libc::_exit(125);
            }
            if slim {
                libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0);
            }
            // What the launcher takes is blocked in it, and masks are inherited.
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            match libc::pthread_sigmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) {
                0 => {}
                error => return Err(io::Error::from_raw_os_error(error)),
            }
            if sockets {
                let mut digits = [0u8; 12];
                digits_of(libc::getpid().unsigned_abs(), &mut digits);
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
pub fn fork_guard(line: RawFd, leader: u32) -> io::Result<u32> {
    let leader = i32::try_from(leader).map_err(io::Error::other)?;
    // SAFETY: one thread, and the child calls nothing but the system until it exits; it runs no destructor.
    unsafe {
        match libc::fork() {
            0 => {
                // Whatever is sent to the launcher's group must not reach this one.
                libc::setsid();
                let mut all: libc::sigset_t = std::mem::zeroed();
                libc::sigfillset(&mut all);
                libc::pthread_sigmask(libc::SIG_SETMASK, &all, std::ptr::null_mut());
                // Nobody may wait for our end of a descriptor that was handed to the app.
                let line = libc::dup2(line, 0);
                close_from(1);
                let mut byte = 0u8;
                loop {
                    match libc::read(line, (&raw mut byte).cast(), 1) {
                        1 => libc::_exit(0),
                        0 => break,
                        _ if *libc::__errno_location() == libc::EINTR => {}
                        _ => break,
                    }
                }
                libc::kill(-leader, libc::SIGKILL);
                libc::_exit(0)
            }
            pid if pid > 0 => Ok(pid.unsigned_abs()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Closes this descriptor and all above it. Kernels before 5.9, and containers that filter system calls, know no
/// close_range(2): there they are closed one by one.
#[allow(unsafe_code, reason = "std closes only what it opened")]
fn close_from(first: RawFd) {
    // SAFETY: to be called by a process that does nothing with its descriptors but what its caller knows of; a number
    // that is not open is an error, nothing else.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0u32) == 0 {
            return;
        }
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        let end = RawFd::try_from(limit.rlim_cur.min(MOST_DESCRIPTORS)).unwrap_or(RawFd::MAX);
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
pub enum Reaped {
    /// This one ended.
    Ended(u32, Fate),
    /// All that are left still run.
    Running,
    /// There is none.
    Nobody,
}

/// Reaps one child, if one has ended.
#[allow(unsafe_code, reason = "std only waits for children that it started")]
pub fn reap() -> Reaped {
    let mut status = 0;
    // SAFETY: `status` is writable for the whole call.
    match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
        0 => Reaped::Running,
        pid if pid > 0 => {
            let fate = match libc::WIFSIGNALED(status) {
                true => Fate::Signal(libc::WTERMSIG(status)),
                false => Fate::Code(libc::WEXITSTATUS(status)),
            };
            Reaped::Ended(pid.unsigned_abs(), fate)
        }
        _ => Reaped::Nobody,
    }
}

/// Dies of this signal, as the app did. Returns only where the kernel does not let us (as process 1).
#[allow(unsafe_code, reason = "std knows no signals")]
pub fn die_of(signal: i32) {
    // SAFETY: integers and a local set; the default action needs no handler of ours. A second core file of the
    // launcher would only hide the app's.
    unsafe {
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        libc::setrlimit(libc::RLIMIT_CORE, &none);
        libc::signal(signal, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        libc::kill(libc::getpid(), signal);
    }
}

/// Writes to a descriptor that was handed to us by number. Whether it is open shows then.
///
/// # Errors
/// Those of write(2); [`io::ErrorKind::WouldBlock`] where nobody reads it.
pub fn write_to(descriptor: RawFd, bytes: &[u8]) -> io::Result<()> {
    if !is_writable(descriptor, PATIENCE) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    match crate::rt::syscall::write(descriptor, bytes)? {
        written if written == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Keeps a descriptor that was handed to us from the app.
#[allow(unsafe_code, reason = "std sets this on its own descriptors only")]
pub fn keep_from_app(descriptor: RawFd) {
    // SAFETY: integers; a descriptor that is not open is an error, nothing else.
    unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// Closes a descriptor that was handed to us: whoever waits at its other end shall not wait for more.
#[allow(unsafe_code, reason = "it was never std's")]
pub fn close(descriptor: RawFd) {
    // SAFETY: nobody in this process uses it: it was handed to us for this purpose by number.
    unsafe { libc::close(descriptor) };
}

/// Whether a descriptor is open.
#[allow(unsafe_code, reason = "borrowing by number is unsafe by itself")]
pub fn is_open(descriptor: RawFd) -> bool {
    // SAFETY: only asked whether it can be duplicated, which does no harm to whatever it is.
    descriptor >= 0
        && unsafe { BorrowedFd::borrow_raw(descriptor) }
            .try_clone_to_owned()
            .is_ok()
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
