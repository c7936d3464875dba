//! The few things that are done to a descriptor directly.

use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use socket2::SockRef;

/// Makes the coming close a reset (RST), so that the peer can't take what it got for the whole.
pub fn reset_on_close(descriptor: RawFd) {
    if descriptor < 0 {
        return;
    }
    #[allow(unsafe_code)]
    // SAFETY: the caller owns the stream that this descriptor belongs to, and keeps it open during the call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    // A unix socket has no RST; the option is then without effect.
    let _ = SockRef::from(&borrowed).set_linger(Some(Duration::ZERO));
}

/// How many of the bytes written the peer's kernel has acknowledged; `None` where this can't be known (unix
/// sockets, systems other than Linux). For connections that we opened.
#[cfg(target_os = "linux")]
pub fn bytes_acknowledged(descriptor: RawFd) -> Option<u64> {
    // `struct tcp_info` up to `tcpi_bytes_acked` (Linux 4.1), which the libc crate's lacks.
    const OFFSET: usize = 120;
    let mut info = [0u8; OFFSET + 8];
    let mut length = info.len() as libc::socklen_t;
    #[allow(unsafe_code)]
    // SAFETY: the kernel writes at most `length` bytes into `info`, and says how many.
    let result = unsafe {
        libc::getsockopt(
            descriptor,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if result != 0 || (length as usize) < info.len() {
        return None;
    }
    let acknowledged = info[OFFSET..].try_into().map(u64::from_ne_bytes).ok()?;
    // The SYN counts as one.
    Some(acknowledged.saturating_sub(1))
}

/// Not known here.
#[cfg(not(target_os = "linux"))]
pub fn bytes_acknowledged(_: RawFd) -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd as _;

    #[test]
    fn what_was_read_was_acknowledged_and_what_met_a_closed_socket_was_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        assert_eq!(bytes_acknowledged(ours.as_raw_fd()), Some(0));
        ours.write_all(b"request").unwrap();
        theirs.read_exact(&mut [0; 7]).unwrap();
        theirs.write_all(b"!").unwrap();
        ours.read_exact(&mut [0; 1]).unwrap();
        assert_eq!(bytes_acknowledged(ours.as_raw_fd()), Some(7));
        drop(theirs);
        assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
        ours.write_all(b"too late").unwrap();
        assert!(matches!(ours.read(&mut [0; 1]), Ok(0) | Err(_)));
        assert_eq!(bytes_acknowledged(ours.as_raw_fd()), Some(7));
    }

    #[test]
    fn a_unix_socket_does_not_say() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(bytes_acknowledged(ours.as_raw_fd()), None);
    }
}
