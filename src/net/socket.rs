//! The few things that are done to a descriptor directly.

use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use pingora::protocols::Stream;
use socket2::SockRef;

use crate::net::accept_queue::{self, Place};

/// Where a connection has arrived, if that is known.
pub fn local_address(stream: &Stream) -> Option<SocketAddr> {
    let digest = stream.get_socket_digest()?;
    digest.local_addr()?.as_inet().copied()
}

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

/// Whether something has arrived that nobody has read: asked of the kernel itself, because the runtime may not have
/// heard of it yet.
pub fn has_unread(descriptor: RawFd) -> bool {
    if descriptor < 0 {
        return false;
    }
    #[allow(unsafe_code)]
    // SAFETY: the caller owns the stream that this descriptor belongs to, and keeps it open during the call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let mut byte = [std::mem::MaybeUninit::uninit()];
    // The descriptor is non-blocking: nothing there is an error, and the end of the stream is 0.
    SockRef::from(&borrowed)
        .peek(&mut byte)
        .is_ok_and(|count| count > 0)
}

/// How many bytes have arrived that nobody has read (`FIONREAD`); 0 where this can't be known.
pub fn unread(descriptor: RawFd) -> u64 {
    let mut bytes: libc::c_int = 0;
    #[allow(unsafe_code)]
    // SAFETY: this request of `ioctl` writes one `int` to where the pointer points, and nothing else.
    let result = unsafe { libc::ioctl(descriptor, libc::FIONREAD, &mut bytes) };
    match result {
        0 => u64::try_from(bytes).unwrap_or(0),
        _ => 0,
    }
}

/// The first `count` bytes that nobody has read, or as many of them as there are; they stay unread.
pub fn peek(descriptor: RawFd, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    #[allow(unsafe_code)]
    // SAFETY: the call writes at most `bytes.len()` bytes to where the pointer points, and never waits.
    let got = unsafe {
        libc::recv(
            descriptor,
            bytes.as_mut_ptr().cast(),
            bytes.len(),
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    bytes.truncate(usize::try_from(got).unwrap_or(0));
    bytes
}

/// Whether the peer's end of a TCP connection is nobody's any more: its process has closed it, or is gone. Known only of
/// peers on this host.
pub fn is_abandoned(descriptor: RawFd) -> bool {
    if descriptor < 0 {
        return false;
    }
    #[allow(unsafe_code)]
    // SAFETY: the caller owns the stream that this descriptor belongs to, and keeps it open during the call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let socket = SockRef::from(&borrowed);
    let ends = (socket.local_addr(), socket.peer_addr());
    let (Ok(ours), Ok(theirs)) = ends else {
        return false;
    };
    match (ours.as_socket(), theirs.as_socket()) {
        (Some(ours), Some(theirs)) => accept_queue::is_abandoned(ours, theirs),
        _ => false,
    }
}

/// Where the peer's end of a TCP connection is: in its listener's queue, or a process's. `None` where this can't be
/// known.
pub fn place(descriptor: RawFd) -> Option<Place> {
    if descriptor < 0 {
        return None;
    }
    #[allow(unsafe_code)]
    // SAFETY: the caller owns the stream that this descriptor belongs to, and keeps it open during the call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let socket = SockRef::from(&borrowed);
    let ours = socket.local_addr().ok()?.as_socket()?;
    let theirs = socket.peer_addr().ok()?.as_socket()?;
    accept_queue::place(ours, theirs)
}

/// Bytes that were written and that the peer has not acknowledged (`SIOCOUTQ`); 0 where this can't be known.
#[cfg(target_os = "linux")]
pub fn unsent(descriptor: RawFd) -> u64 {
    let mut bytes: libc::c_int = 0;
    #[allow(unsafe_code)]
    // SAFETY: this request of `ioctl` writes one `int` to where the pointer points, and nothing else.
    let result = unsafe { libc::ioctl(descriptor, libc::TIOCOUTQ, &mut bytes) };
    if result == 0 {
        u64::try_from(bytes).unwrap_or(0)
    } else {
        0
    }
}

/// Not known here.
#[cfg(not(target_os = "linux"))]
pub fn unsent(_: RawFd) -> u64 {
    0
}

/// What the kernel knows of a TCP connection that we opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// Bytes that the peer's kernel has acknowledged.
    pub acknowledged: u64,
    /// It is closed in both directions: the peer has answered what we sent with a reset.
    pub is_reset: bool,
    /// The largest segment that is sent in one piece, in bytes.
    pub segment: u64,
}

/// Asks the kernel (`TCP_INFO`); `None` where this can't be known (unix sockets, systems other than Linux).
#[cfg(target_os = "linux")]
pub fn fate(descriptor: RawFd) -> Option<Fate> {
    // `struct tcp_info` up to `tcpi_bytes_acked` (Linux 4.1), which the libc crate's lacks.
    const STATE: usize = 0;
    const SEGMENT: usize = 16;
    const ACKNOWLEDGED: usize = 120;
    const TCP_CLOSE: u8 = 7;
    let mut info = [0u8; ACKNOWLEDGED + 8];
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
    let acknowledged = info[ACKNOWLEDGED..]
        .try_into()
        .map(u64::from_ne_bytes)
        .ok()?;
    let segment = info[SEGMENT..SEGMENT + 4]
        .try_into()
        .map(u32::from_ne_bytes)
        .ok()?;
    Some(Fate {
        // The SYN counts as one.
        acknowledged: acknowledged.saturating_sub(1),
        is_reset: info[STATE] == TCP_CLOSE,
        segment: u64::from(segment),
    })
}

/// Not known here.
#[cfg(not(target_os = "linux"))]
pub fn fate(_: RawFd) -> Option<Fate> {
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
        let acknowledged = |ours: &TcpStream| fate(ours.as_raw_fd()).unwrap().acknowledged;
        assert_eq!(acknowledged(&ours), 0);
        ours.write_all(b"request").unwrap();
        theirs.read_exact(&mut [0; 7]).unwrap();
        theirs.write_all(b"!").unwrap();
        ours.read_exact(&mut [0; 1]).unwrap();
        assert_eq!(acknowledged(&ours), 7);
        drop(theirs);
        assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
        ours.write_all(b"too late").unwrap();
        assert!(matches!(ours.read(&mut [0; 1]), Ok(0) | Err(_)));
        assert_eq!(acknowledged(&ours), 7);
        assert!(fate(ours.as_raw_fd()).unwrap().is_reset);
    }

    #[test]
    fn a_half_closed_peer_that_still_reads_is_no_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(ours.read(&mut [0; 1]).unwrap(), 0);
        ours.write_all(b"request").unwrap();
        theirs.read_exact(&mut [0; 7]).unwrap();
        assert!(!fate(ours.as_raw_fd()).unwrap().is_reset);
    }

    #[test]
    fn a_unix_socket_does_not_say() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(fate(ours.as_raw_fd()), None);
    }
}
