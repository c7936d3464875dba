//! Descriptors for a process that is started: std hands down none but its streams.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where they wait: out of the way of the numbers that they shall have. `dup2` of a descriptor to its own number leaves it
/// closed at exec.
const ASIDE: i32 = 200;

/// Hands these down as descriptors 3, 4 and so on, as supervisors pass sockets (sd_listen_fds(3)).
#[allow(unsafe_code, reason = "std hands down no descriptors")]
pub fn hand_down(command: &mut Command, descriptors: impl IntoIterator<Item = impl AsFd>) {
    let descriptors = descriptors.into_iter();
    let copies: Vec<OwnedFd> = descriptors
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, ASIDE).unwrap())
        .collect();
    // SAFETY: dup2 is async-signal-safe, and the closure touches nothing else.
    unsafe {
        command.pre_exec(move || {
            for (number, fd) in (3..).zip(&copies) {
                if libc::dup2(fd.as_raw_fd(), number) != number {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}
