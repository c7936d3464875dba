//! Messages to the supervisor that lameduck is ready, alive or about to stop: sd_notify(3).
//!
//! A message is one datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names: a path, or with a leading
//! `@` a name in Linux's abstract namespace. There is no answer. A descriptor may be attached: [`tell_with`].

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr,
};

/// Variable with the address of the supervisor's socket.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Longest wait for a supervisor that does not read its socket.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends `state`, one or more lines such as `READY=1`, to the supervisor that `NOTIFY_SOCKET` names. Returns `false` if
/// there is none (the variable is unset or empty).
///
/// # Errors
/// The variable holds no socket address, or no process reads there.
pub fn notify(state: &str) -> io::Result<bool> {
    match std::env::var_os(NOTIFY_SOCKET) {
        Some(address) if !address.is_empty() => notify_at(&address, state).map(|()| true),
        _ => Ok(false),
    }
}

/// Sends `state` to the socket at `address`.
///
/// # Errors
/// As for [`notify`].
pub fn notify_at(address: &OsStr, state: &str) -> io::Result<()> {
    let address = resolve(address)?;
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(NOTIFY_TIMEOUT))?;
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

/// Sends `state` with a copy of a descriptor.
///
/// # Errors
/// As for [`notify`].
pub fn tell_with(address: &OsStr, state: &str, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    // This reports an invalid address with a better message than the system's.
    resolve(address)?;
    let to = match address.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        path => SocketAddrUnix::new(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(NOTIFY_TIMEOUT))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let text = [IoSlice::new(state.as_bytes())];
    sendmsg_addr(&socket, &to, &text, &mut control, SendFlags::empty())?;
    Ok(())
}

fn resolve(address: &OsStr) -> io::Result<SocketAddr> {
    match address.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(address),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name)
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "{NOTIFY_SOCKET} is `{}`, which is neither a path nor an abstract name (`@…`)",
                address.to_string_lossy()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn path_address_receives_the_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        notify_at(path.as_os_str(), "READY=1\nSTATUS=here").unwrap();
        assert_eq!(received(&socket), "READY=1\nSTATUS=here");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn abstract_address_receives_the_message() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("lameduck-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        notify_at(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        assert_eq!(received(&socket), "STOPPING=1");
    }

    #[test]
    fn missing_socket_and_malformed_address_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let error = notify_at(missing.as_os_str(), "READY=1").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = notify_at(OsStr::new("vsock:2:1"), "READY=1").unwrap_err();
        assert!(error.to_string().contains("vsock:2:1"), "{error}");
    }

    #[test]
    fn notification_to_a_supervisor_that_does_not_read_times_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deaf");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let full = (0..10_000).find_map(|_| notify_at(path.as_os_str(), "STATUS=again").err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
